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

# nlmmap_died_of_a_stale_int3 CONSOLE: the kernel's first oops was a breakpoint that its memory does
# not have. A kernel patches its code (static keys, tracing) by way of a breakpoint that stands there for
# a moment. QEMU 7.2 with a thread for each CPU may translate it and go on with the translation for good. A
# breakpoint that somebody left in the code is still there when the oops is printed: the byte before <RIP>.
nlmmap_died_of_a_stale_int3() {
    LC_ALL=C awk '
        /^\[.*\] (Oops: )?int3: 0000 \[#1\]/ { died = 1; next }
        died && /^\[.*\] Code: / {
            stale = match($0, /[0-9a-f][0-9a-f] <[0-9a-f][0-9a-f]>/) && substr($0, RSTART, 2) != "cc"
            exit
        }
        END { exit !stale }' "$1"
}

nlmmap_boot() {
    local kernel=$1 initramfs=$2 log=$3 verdict=$4 seconds=$5 cpu accel status begun=$SECONDS left=$5 boots=0 kept
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
    while :; do
        boots=$((boots + 1))
        status=0
        : >"$log"
        : >"$verdict"
        timeout --foreground --kill-after=5 "$left" qemu-system-x86_64 \
            -M q35 -accel "$accel" -cpu "$cpu" -smp 2 -m 512 \
            -nodefaults -display none -no-reboot \
            -serial "file:$log" -serial "file:$verdict" \
            -kernel "$kernel" -initrd "$initramfs" \
            -append "console=ttyS0 panic=-1 ${NLMMAP_BOOT_APPEND:-}" \
            "$@" </dev/null || status=$?
        # One less, because both readings of the clock are rounded.
        left=$((seconds - (SECONDS - begun) - 1))
        case $accel in
        kvm | *thread=single*) break ;;
        esac
        # Once init has said a word, it may be anybody's fault.
        if [ "$status" != 0 ] || [ -s "$verdict" ] || [ "$left" -le 0 ] || [ "$boots" = 3 ] ||
            ! nlmmap_died_of_a_stale_int3 "$log"; then
            break
        fi
        kept=${log%.log}.$boots.log
        cp "$log" "$kept"
        echo "the guest died at boot of a breakpoint that is not in its memory (its console is kept in ${kept##*/}): that is the emulator's fault, which runs old translations of code that a kernel patches; booting once more, $((boots + 1)) of at most 3, $left s left" >&2
    done
    return "$status"
}
