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

# NLMMAP_BAZEL_STARTUP: start-up options, e.g. --output_base=… for a server of one's own.
nlmmap_bazel() {
    local command=$1 options=()
    shift
    case $command in
    build | test | run) [ -t 2 ] || options=(--curses=no --color=no --show_progress_rate_limit=5) ;;
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
