# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Making an initramfs and booting it. Stands alone, for tests that Bazel runs.

nlmmap_make_initramfs() {
    local out=$1 work pair file dest busybox=${NLMMAP_BUSYBOX:-/bin/busybox}
    shift
    [ -x "$busybox" ] || {
        echo "no $busybox: install busybox-static" >&2
        return 1
    }
    work=$(mktemp -d "${TMPDIR:-/tmp}/nlmmap-initramfs.XXXXXX")
    # It becomes the guest's root folder, which is everybody's.
    chmod 755 "$work"
    mkdir -p "$work/bin" "$work/dev" "$work/etc" "$work/lib" "$work/modules" "$work/proc" "$work/sys" "$work/tests" "$work/tmp"
    cp -L "$busybox" "$work/bin/busybox"
    "$busybox" --list | while read -r file; do
        [ "$file" = busybox ] || ln -s busybox "$work/bin/$file"
    done
    for pair in "$@"; do
        file=${pair%%=*}
        dest=${pair#*=}
        mkdir -p "$(dirname "$work$dest")"
        cp -L "$file" "$work$dest" || {
            rm -rf "$work"
            return 1
        }
        chmod u+w "$work$dest"
        [ "$dest" != /init ] || chmod 755 "$work$dest"
    done
    # The same bytes from the same files, so that Bazel's cache holds. Not
    # compressed: inflating it takes the emulated CPU longer than reading it.
    (cd "$work" && find . -exec touch -h -d @0 {} + && find . | LC_ALL=C sort |
        cpio --quiet -o -H newc -R 0:0 --reproducible) >"$out" || {
        rm -rf "$work"
        return 1
    }
    rm -rf "$work"
}

nlmmap_boot() {
    local kernel=$1 initramfs=$2 log=$3 verdict=$4 seconds=$5 cpu accel status=0
    shift 5
    [ -s "$kernel" ] || {
        echo "no kernel image '$kernel'" >&2
        return 1
    }
    # /dev/kvm may be there and hang: it is used only where somebody says so.
    case ${NLMMAP_VM_ACCEL:-tcg} in
    kvm)
        accel=kvm
        cpu=host
        ;;
    *)
        accel=${NLMMAP_BOOT_ACCEL:-tcg,thread=multi}
        # QEMU 7.2 leaves garbage in the flags after CMPXCHG16B where an interrupt comes
        # right then, and the guest dies of it, rarely. A kernel can do without it.
        cpu=max,-cx16
        ;;
    esac
    : >"$log"
    : >"$verdict"
    timeout --foreground --kill-after=5 "$seconds" qemu-system-x86_64 \
        -M q35 -accel "$accel" -cpu "$cpu" -smp 2 -m 512 \
        -nodefaults -display none -no-reboot \
        -serial "file:$log" -serial "file:$verdict" \
        -kernel "$kernel" -initrd "$initramfs" \
        -append "console=ttyS0 panic=-1 ${NLMMAP_BOOT_APPEND:-}" \
        "$@" </dev/null || status=$?
    return "$status"
}
