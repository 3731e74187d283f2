# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The kernels that look for what went wrong in them, built from Debian's source
# package with tests/kernels/common.config and one more of that folder. What is
# kept of a build is laid out as Debian's own kernels are, see kernels.sh.

NLMMAP_DEBUG_SERIES="6.12-debug 6.12-kcsan"

# One build, all CPUs' minutes together; and the disk that source and build need.
NLMMAP_DEBUG_CPU_MINUTES=16
NLMMAP_DEBUG_PEAK_GB=2.5

# What apt offers: the version, checksum and size of the package with the source.
nlmmap_source_offer() {
    LC_ALL=C apt-cache show --no-all-versions "$1" 2>/dev/null |
        awk '/^Version:/ { v = $2 } /^SHA256:/ { s = $2 } /^Size:/ { n = $2 } END { if (v != "") print v, s, n }'
}

nlmmap_debug_kernel_series() {
    local series
    for series in $NLMMAP_DEBUG_SERIES; do
        if [ -e "$NLMMAP_CACHE/kernels/series-$series" ] || [ -n "$(nlmmap_source_offer "linux-source-${series%%-*}")" ]; then
            echo "$series"
        fi
    done
}

# All that is asked of Kconfig for one series.
nlmmap_debug_fragment() {
    cat "$NLMMAP_ROOT/tests/kernels/common.config" "$NLMMAP_ROOT/tests/kernels/${1#*-}.config"
}

# nlmmap_debug_inputs SERIES VERSION CHECKSUM: all that a kernel depends on, a line each.
nlmmap_debug_inputs() {
    printf '%s\n' "series $1" "source $2 $3" \
        "compiler $(gcc --version | head -n 1), $(ld --version | head -n 1)" \
        "configuration $(nlmmap_debug_fragment "$1" | sha256sum | cut -d' ' -f1)" \
        "recipe $(declare -f nlmmap_debug_configure nlmmap_debug_survivors nlmmap_debug_build | sha256sum | cut -d' ' -f1)"
}

# The finished kernel with these inputs, if there is one: its release.
nlmmap_debug_find() {
    local tree
    for tree in "$NLMMAP_CACHE/kernels"/*"-${1#*-}-$2"; do
        [ ! -e "$tree/inputs" ] || basename "$tree"
    done
}

# nlmmap_debug_survivors FRAGMENT CONFIG: Kconfig drops what it is asked for
# without a word where something that it depends on is missing. Says what.
nlmmap_debug_survivors() {
    local fragment=$1 config=$2 line option wanted got lost=0
    while read -r line; do
        option=${line%%=*}
        wanted=${line#*=}
        got=$(sed -n "s/^$option=//p" "$config")
        if [ "$got" != "$wanted" ] && [ "$wanted${got:-n}" != nn ]; then
            echo "error: $option=$wanted was asked for in tests/kernels, and is '${got:-n}' after Kconfig: see what it depends on"
            lost=$((lost + 1))
        fi
    done < <(grep '^CONFIG_' "$fragment")
    [ "$lost" = 0 ]
}

# nlmmap_debug_configure SOURCE BUILD SERIES HASH
nlmmap_debug_configure() {
    local source=$1 build=$2
    mkdir -p "$build" || return 1
    {
        nlmmap_debug_fragment "$3"
        echo "CONFIG_LOCALVERSION=\"-${3#*-}-$4\""
        echo "CONFIG_LOCALVERSION_AUTO=n"
    } >"$build/fragment"
    make -C "$source" O="$build" KCONFIG_ALLCONFIG="$build/fragment" allnoconfig || return 1
    nlmmap_debug_survivors "$build/fragment" "$build/.config"
}

# nlmmap_debug_build SOURCE BUILD TREE: builds what was configured, and makes TREE of it.
nlmmap_debug_build() {
    local source=$1 build=$2 tree=$3 release headers
    # The same kernel, byte for byte, whoever builds it, and when: results of tests are kept by it.
    make -C "$source" O="$build" -j"$(nproc)" KBUILD_BUILD_USER=nlmmap KBUILD_BUILD_HOST=nlmmap \
        KBUILD_BUILD_TIMESTAMP='Thu Jan 1 00:00:00 UTC 1970' bzImage modules || return 1
    release=$(cat "$build/include/config/kernel.release") || return 1
    headers=$tree/usr/src/linux-headers-$release
    mkdir -p "$tree/boot" "$tree/usr/src" || return 1
    cp "$build/arch/x86/boot/bzImage" "$tree/boot/vmlinuz-$release" || return 1
    cp "$build/System.map" "$tree/boot/System.map-$release" || return 1
    # The kernel's own list of what building a module needs.
    # shellcheck disable=SC2016
    make -C "$source" O="$build" run-command KBUILD_RUN_COMMAND='$(srctree)/scripts/package/install-extmod-build '"$headers" || return 1
    cp "$build/.config" "$headers/.config" || return 1
    [ -s "$headers/Module.symvers" ] && [ -s "$headers/Makefile" ]
}

# nlmmap_debug_unpack PACKAGE WORK: its source is then in WORK/source.
nlmmap_debug_unpack() {
    (cd "$2" && apt-get -q -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=2 download "$1") || return 1
    mkdir -p "$2/source" || return 1
    # The archive in the package is not written to disk.
    (set -o pipefail && dpkg --fsys-tarfile "$2/$1"_*.deb | tar -xO "./usr/src/$1.tar.xz" |
        xz -dc -T0 | tar -x --strip-components=1 -C "$2/source") || return 1
    rm -f "$2/$1"_*.deb
}

# nlmmap_debug_make SERIES HASH WORK INPUTS: from WORK/source to a finished tree.
nlmmap_debug_make() {
    local series=$1 hash=$2 build=$3/build tree=$3/tree release
    rm -rf "$build" "$tree"
    nlmmap_debug_configure "$3/source" "$build" "$series" "$hash" || return 1
    nlmmap_debug_build "$3/source" "$build" "$tree" || return 1
    release=$(cat "$build/include/config/kernel.release") || return 1
    printf '%s\n' "$4" >"$tree/inputs" || return 1
    rm -rf "$build" "${NLMMAP_CACHE:?}/kernels/$release" || return 1
    mv "$tree" "$NLMMAP_CACHE/kernels/$release"
}

# nlmmap_debug_use SERIES RELEASE: makes series-S point to it. Those that nobody used for a week
# go: another clone's tests may be running on one, whose configuration is another.
nlmmap_debug_use() {
    ln -sfn "$2" "$NLMMAP_CACHE/kernels/series-$1" || return 1
    touch "$NLMMAP_CACHE/kernels/$2" || return 1
    find "$NLMMAP_CACHE/kernels" -maxdepth 1 -name "*-${1#*-}-????????????" -mtime +7 -exec rm -rf {} +
}

# nlmmap_debug_keep SERIES: true if the one that is there has the wanted
# configuration, though perhaps of an older source or by another compiler.
nlmmap_debug_keep() {
    local inputs=$NLMMAP_CACHE/kernels/series-$1/inputs
    [ -s "$inputs" ] && grep -qx "configuration $(nlmmap_debug_fragment "$1" | sha256sum | cut -d' ' -f1)" "$inputs"
}

# What is missing of SERIES… goes into the array `wanted`, its inputs into `recipes`.
nlmmap_debug_missing() {
    local package=$1 version checksum bytes series inputs hash release
    shift
    wanted=()
    read -r version checksum bytes < <(nlmmap_source_offer "$package") || return 1
    for series in "$@"; do
        inputs=$(nlmmap_debug_inputs "$series" "$version" "$checksum")
        hash=$(printf '%s\n' "$inputs" | sha256sum | cut -c 1-12)
        release=$(nlmmap_debug_find "$series" "$hash")
        if [ -n "$release" ]; then
            nlmmap_debug_use "$series" "$release"
        else
            wanted+=("$series")
            recipes[$series]=$inputs
            hashes[$series]=$hash
        fi
    done
    offer="$package $version: $((bytes / 1000000)) MB"
}

# nlmmap_debug_series SERIES…: of one version, so they come from one package.
nlmmap_debug_series() {
    local package=linux-source-${1%%-*} work=$NLMMAP_CACHE/kernels/.build.$$ status=0 attempt series offer='' minutes wanted=() packages=()
    local -A recipes=() hashes=()
    for attempt in first second; do
        if [ "$attempt" = second ]; then
            # Lists may be empty, or name a version that is gone.
            nlmmap_apt_ready
            nlmmap_step "apt-get update" nlmmap_apt_get update || true
        fi
        nlmmap_debug_missing "$package" "$@" || continue
        [ "${#wanted[@]}" -gt 0 ] || return 0
        mapfile -t packages < <(nlmmap_packages kernel kernel-source)
        nlmmap_require_packages "${packages[@]}" || return 1
        minutes=$((1 + ${#wanted[@]} * NLMMAP_DEBUG_CPU_MINUTES / $(nproc)))
        nlmmap_say "To be built, and kept until something that they are made of changes: kernels ${wanted[*]}, from $offer to download;" \
            "$NLMMAP_DEBUG_PEAK_GB GB of disk in $NLMMAP_CACHE/kernels meanwhile, 0.1 GB for each in the end; about $minutes min."
        # With what somebody interrupted before.
        rm -rf "$NLMMAP_CACHE"/kernels/.build.*
        mkdir -p "$work"
        ! nlmmap_step "the kernel's source" nlmmap_debug_unpack "$package" "$work" || break
        rm -rf "$work"
    done
    if [ ! -d "$work/source" ]; then
        [ "${#wanted[@]}" -gt 0 ] || wanted=("$@")
        for series in "${wanted[@]}"; do
            if nlmmap_debug_keep "$series"; then
                nlmmap_say "apt has no $package now: $(nlmmap_kernel_version "$series") is used"
            else
                nlmmap_say "kernel $series cannot be built: apt has no $package, or it cannot be downloaded"
                status=1
            fi
        done
        return "$status"
    fi
    for series in "${wanted[@]}"; do
        nlmmap_step "kernel $series" nlmmap_debug_make "$series" "${hashes[$series]}" "$work" "${recipes[$series]}" &&
            nlmmap_debug_use "$series" "$(nlmmap_debug_find "$series" "${hashes[$series]}")" || status=1
    done
    rm -rf "$work"
    return "$status"
}

nlmmap_require_debug_kernels() {
    local lock series version tree status=0
    mkdir -p "$NLMMAP_CACHE/kernels"
    # Two programs at once: one builds, the other waits for it.
    exec {lock}>"$NLMMAP_CACHE/kernels/.lock"
    flock "$lock"
    for version in $(printf '%s\n' "${@%%-*}" | sort -u); do
        # shellcheck disable=SC2046
        nlmmap_debug_series $(printf '%s\n' "$@" | grep -F "$version-") || status=1
    done
    for series in "$@"; do
        # Not one that differs from what was asked for, which may be there from before.
        if nlmmap_debug_keep "$series" && tree=$(nlmmap_kernel_tree "$series"); then
            NLMMAP_KERNELS="${NLMMAP_KERNELS:+$NLMMAP_KERNELS }$series=$tree"
        fi
    done
    exec {lock}>&-
    export NLMMAP_KERNELS
    return "$status"
}
