# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Building: kernel modules by plain make, everything else by Bazel.

nlmmap_build_module() {
    local headers=$1 source=$2 outdir=$3 work name state file
    shift 3
    mkdir -p "$outdir"
    name=$(basename "$source")
    state=$({
        echo "$headers"
        cd "$NLMMAP_ROOT" || exit
        find kernel-module "$source" -type f ! -name '.*' \( -name '*.[ch]' -o -name Kbuild -o -name Makefile \) -print0 |
            sort -z | xargs -0 sha256sum
        cat "$headers/.config" "$headers/Module.symvers" "$@" | sha256sum
    } | sha256sum)
    [ "$(cat "$outdir/.$name.state" 2>/dev/null)" != "$state" ] || return 0
    # kbuild writes beside the sources: it gets a copy, with the repository's layout.
    work=$(mktemp -d "${TMPDIR:-/tmp}/nlmmap-build.XXXXXX")
    (cd "$NLMMAP_ROOT" && find kernel-module "$source" -type f \( -name '*.[ch]' -o -name Kbuild -o -name Makefile \) -print0 |
        xargs -0 cp --parents -t "$work")
    cat "$@" /dev/null >"$work/extra.symvers"
    if ! make -s -C "$headers" M="$work/$source" KBUILD_EXTRA_SYMBOLS="$work/extra.symvers" \
        KCFLAGS="-ffile-prefix-map=$work/=" modules; then
        rm -rf "$work"
        return 1
    fi
    for file in "$work/$source"/*.ko; do
        cp "$file" "$outdir/"
        cp "$work/$source/Module.symvers" "$outdir/$(basename "$file" .ko).symvers"
    done
    rm -rf "$work"
    printf '%s\n' "$state" >"$outdir/.$name.state"
}

# The folder of what was built and tested before, in this clone or another. Bazel
# does not look at the system's tools, so each set of them has a folder of its own.
nlmmap_bazel_cache() {
    local tools cache
    # shellcheck disable=SC2046
    tools=$(dpkg-query -W $(nlmmap_packages build kernel vm test) 'gcc-1*' 'g++-1*' 2>/dev/null | sha256sum | cut -c 1-12)
    cache=$NLMMAP_CACHE/bazel/$tools
    if [ ! -d "$cache" ]; then
        mkdir -p "$cache"
        # Those of other sets of tools, and what nobody wanted for long.
        find "$NLMMAP_CACHE/bazel" -mindepth 1 -maxdepth 1 -type d ! -name "$tools" -mtime +7 -exec rm -rf {} + || true
    fi
    find "$cache" -type f -mtime +14 -delete 2>/dev/null || true
    printf '%s\n' "$cache"
}

# NLMMAP_BAZEL_STARTUP: start-up options, e.g. --output_base=… for a server of one's own.
nlmmap_bazel() {
    local command=$1 options=()
    shift
    case $command in
    build | test | run)
        options=(--disk_cache="$(nlmmap_bazel_cache)")
        [ -t 2 ] || options+=(--curses=no --color=no --show_progress_rate_limit=5)
        ;;
    esac
    # shellcheck disable=SC2086
    (cd "$NLMMAP_ROOT" && bazel ${NLMMAP_BAZEL_STARTUP:-} "$command" "${options[@]}" "$@")
}

nlmmap_bazel_output() {
    local label=${!#} root file
    # shellcheck disable=SC2086
    root=$(cd "$NLMMAP_ROOT" && bazel ${NLMMAP_BAZEL_STARTUP:-} info execution_root 2>/dev/null) || return 1
    # shellcheck disable=SC2086
    (cd "$NLMMAP_ROOT" && bazel ${NLMMAP_BAZEL_STARTUP:-} cquery "${@:1:$#-1}" --output=starlark \
        --starlark:expr='"\n".join([f.path for f in target.files.to_list()])' "$label" 2>/dev/null) |
        while read -r file; do
            printf '%s/%s\n' "$root" "$file"
        done
}
