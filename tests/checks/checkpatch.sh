#!/bin/bash
# SPDX-License-Identifier: MIT
# checkpatch.sh CHECKPATCH.PL: kernel code follows the kernel's style, strictly.
set -eu
checkpatch=$1
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/nlmmap-checkpatch.XXXXXX")
trap 'rm -rf "$work"' EXIT
status=0
for module in $(modules); do
    # ring_user.h stands in for the kernel's primitives in user space: its types
    # and macros are what checkpatch would have it use.
    ignore=()
    # The table of operations is filled when the module is loaded, so it cannot be const.
    [ "$module" != kernel-module ] || ignore=(--ignore CONST_STRUCT)
    mapfile -t sources < <(module_sources "$module" | grep -v '/ring_user\.h$' | sed "s|^\./$module/||")
    echo "$module: ${#sources[@]} files"
    # From the module's folder, because checkpatch knows include/uapi by its path; and
    # in a copy, because it leaves notes of its own where it runs.
    mkdir -p "$work/$module"
    (cd "$module" && cp --parents -t "$work/$module" "${sources[@]}")
    (cd "$work/$module" && perl "$checkpatch" --strict --no-tree --terse --show-types --no-summary "${ignore[@]}" --file "${sources[@]}") || status=1
done
exit "$status"
