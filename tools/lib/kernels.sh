# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Debian's kernels, for building modules and for booting in QEMU. Their packages
# are unpacked into the cache folder and never installed: installing an image
# would run its hooks (initramfs, boot loader), and the headers depend on it.

NLMMAP_SERIES="6.1 6.12"
NLMMAP_KERNELS=

# What apt offers, "linux-image-VERSION-cloud-amd64" a line, asked for once: each
# question takes it a second.
NLMMAP_OFFERS=
nlmmap_kernel_offers() {
    local series metas=(linux-image-cloud-amd64)
    for series in $NLMMAP_SERIES; do
        metas+=("linux-image-$series-cloud-amd64")
    done
    NLMMAP_OFFERS=$(LC_ALL=C apt-cache depends --important "${metas[@]}" 2>/dev/null | sed -n 's/^ *Depends: //p')
}

# The version that apt would install for a series; empty if it offers none.
nlmmap_kernel_candidate() {
    [ -n "$NLMMAP_OFFERS" ] || nlmmap_kernel_offers
    printf '%s\n' "$NLMMAP_OFFERS" |
        sed -n "s/^linux-image-\(${1//./\\.}\.[^ ]*-cloud-amd64\)\$/\1/p" | sort -V | tail -n 1
}

nlmmap_kernel_series() {
    local series missing=
    nlmmap_kernel_offers
    for series in $NLMMAP_SERIES; do
        if [ -z "$(nlmmap_kernel_candidate "$series")" ] && [ ! -e "$NLMMAP_CACHE/kernels/series-$series" ]; then
            missing=yes
        fi
    done
    # Debian 12 has all of them, and every Debian has one: else its lists are empty or old.
    if [ -z "$NLMMAP_OFFERS" ] || { [ -n "$missing" ] && grep -qsx 'VERSION_ID="12"' /etc/os-release; }; then
        nlmmap_apt_ready
        nlmmap_step "apt-get update" nlmmap_apt_get update || true
        nlmmap_kernel_offers
    fi
    for series in $NLMMAP_SERIES; do
        if [ -n "$(nlmmap_kernel_candidate "$series")" ] || [ -e "$NLMMAP_CACHE/kernels/series-$series" ]; then
            echo "$series"
        fi
    done
}

nlmmap_kernel_tree() {
    local tree
    tree=$(readlink -e "$NLMMAP_CACHE/kernels/series-$1") || {
        nlmmap_say "kernel $1 is not there yet: nlmmap_require_kernels fetches it"
        return 1
    }
    printf '%s\n' "$tree"
}

nlmmap_kernel_version() {
    local tree
    tree=$(nlmmap_kernel_tree "$1") && basename "$tree"
}

nlmmap_kernel_dir() {
    local tree
    tree=$(nlmmap_kernel_tree "$1") && printf '%s\n' "$tree/usr/src/linux-headers-$(basename "$tree")"
}

nlmmap_kernel_image() {
    local tree
    tree=$(nlmmap_kernel_tree "$1") && printf '%s\n' "$tree/boot/vmlinuz-$(basename "$tree")"
}

nlmmap_kernel_stock_module() {
    local series=$1 name=$2 outdir=$3 tree version verb path file rest
    tree=$(nlmmap_kernel_tree "$series") || return 1
    version=$(basename "$tree")
    mkdir -p "$outdir"
    modprobe -d "$tree" -S "$version" --show-depends "$name" | while read -r verb path rest; do
        # "builtin NAME" needs no file.
        [ "$verb" = insmod ] || continue
        file=$(basename "$path")
        case $file in
        *.xz) xz -dc "$path" >"$outdir/${file%.xz}" && echo "${file%.xz}" ;;
        *.zst) zstd -qdc "$path" >"$outdir/${file%.zst}" && echo "${file%.zst}" ;;
        *) cp "$path" "$outdir/$file" && echo "$file" ;;
        esac || return 1
    done
}

# The packages of one version: image, headers, their common part, kbuild.
nlmmap_kernel_packages() {
    local version=$1 headers="linux-headers-$1"
    printf '%s\n' "linux-image-$version" "$headers"
    LC_ALL=C apt-cache depends --important "$headers" |
        sed -n 's/^ *Depends: \(linux-headers-.*-common\|linux-kbuild-.*\)$/\1/p' | sort -u
}

# What building against the headers needs besides: the compiler that made the
# kernel, and the libraries of kbuild's programs.
nlmmap_kernel_tools() {
    local version=$1 packages
    mapfile -t packages < <(nlmmap_kernel_packages "$version" | grep -v '^linux-image-')
    # BTF of modules is made with pahole where the headers carry the kernel's.
    echo pahole
    LC_ALL=C apt-cache depends --important "${packages[@]}" |
        sed -n 's/^ *Depends: \([a-z][a-z0-9.+:-]*\)$/\1/p' | grep -v '^linux-' | sort -u
}

# Downloads and unpacks one version to a folder of its own; all or nothing.
nlmmap_kernel_unpack() {
    local version=$1 tree=$NLMMAP_CACHE/kernels/$1 work=$NLMMAP_CACHE/kernels/.unpack-$1.$$ packages deb makefile
    shift
    packages=("$@")
    rm -rf "$work"
    mkdir -p "$work/debs" "$work/tree"
    # As the user who runs this: apt's own user may not write here.
    (cd "$work/debs" && apt-get -q -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=2 download "${packages[@]}") || {
        rm -rf "$work"
        return 1
    }
    for deb in "$work"/debs/*.deb; do
        echo "unpacking $(basename "$deb")"
        dpkg -x "$deb" "$work/tree" || return 1
    done
    # Where /lib is part of /usr, so it is in the packages.
    [ -d "$work/tree/lib/modules" ] || ln -s usr/lib "$work/tree/lib"
    # The headers name each other by absolute path.
    makefile=$work/tree/usr/src/linux-headers-$version/Makefile
    sed -i "s|/usr/src/|$tree/usr/src/|" "$makefile" || return 1
    depmod -b "$work/tree" "$version" || return 1
    if [ ! -s "$work/tree/boot/vmlinuz-$version" ] || [ ! -s "$(dirname "$makefile")/Module.symvers" ]; then
        echo "the packages of $version are not as expected" >&2
        return 1
    fi
    rm -rf "$tree"
    mv "$work/tree" "$tree" || return 1
    rm -rf "$work"
}

# Makes series-S point to the newest version that apt offers, fetching it if
# it is not there, or to what there is if it cannot be had.
nlmmap_kernel_fetch() {
    local series=$1 version packages megabytes
    version=$(nlmmap_kernel_candidate "$series")
    if [ -n "$version" ] && [ ! -d "$NLMMAP_CACHE/kernels/$version" ]; then
        mapfile -t packages < <(nlmmap_kernel_packages "$version")
        megabytes=$(LC_ALL=C apt-cache show --no-all-versions "${packages[@]}" | awk '/^Size:/ { n += $2 } END { print int(n / 1000000) + 1 }')
        nlmmap_say "Kernel $version: ${#packages[@]} packages, $megabytes MB, to be unpacked (not installed) in $NLMMAP_CACHE/kernels; $(nlmmap_about $((megabytes / 5 + 10)))."
        if ! nlmmap_step "kernel $series" nlmmap_kernel_unpack "$version" "${packages[@]}"; then
            version=
        fi
    fi
    if [ -n "$version" ]; then
        ln -sfn "$version" "$NLMMAP_CACHE/kernels/series-$series"
    elif [ -e "$NLMMAP_CACHE/kernels/series-$series" ]; then
        nlmmap_say "apt offers no newer kernel $series now: $(nlmmap_kernel_version "$series") is used"
    else
        return 1
    fi
}

nlmmap_require_kernels() {
    local series version tools=() lock
    mkdir -p "$NLMMAP_CACHE/kernels"
    # Two programs at once: one fetches, the other waits for it.
    exec {lock}>"$NLMMAP_CACHE/kernels/.lock"
    flock "$lock"
    NLMMAP_KERNELS=
    nlmmap_kernel_offers
    for series in "$@"; do
        if ! nlmmap_kernel_fetch "$series"; then
            # Lists may be empty, or name versions that are gone.
            nlmmap_apt_ready
            nlmmap_step "apt-get update" nlmmap_apt_get update || true
            nlmmap_kernel_offers
            nlmmap_kernel_fetch "$series" || {
                nlmmap_say "kernel $series cannot be had: apt has neither linux-image-$series-cloud-amd64 nor a linux-image-cloud-amd64 of that series"
                return 1
            }
        fi
        version=$(nlmmap_kernel_version "$series")
        # Kept beside the kernel, because apt takes a second for each question.
        if [ ! -s "$NLMMAP_CACHE/kernels/$version/packages" ]; then
            nlmmap_kernel_tools "$version" >"$NLMMAP_CACHE/kernels/$version/packages"
        fi
        mapfile -t -O "${#tools[@]}" tools <"$NLMMAP_CACHE/kernels/$version/packages"
        NLMMAP_KERNELS="${NLMMAP_KERNELS:+$NLMMAP_KERNELS }$series=$NLMMAP_CACHE/kernels/$version"
    done
    exec {lock}>&-
    export NLMMAP_KERNELS
    nlmmap_require_packages "${tools[@]}"
}
