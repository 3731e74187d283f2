#!/bin/bash
# SPDX-License-Identifier: MIT
# kernel_warnings.sh HEADERS: every module of the repository builds against these
# headers without a warning at W=1, and without one of sparse's.
set -eu
headers=$1
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
command -v sparse >/dev/null
work=$(mktemp -d "${TMPDIR:-/tmp}/nlmmap-warnings.XXXXXX")
trap 'rm -rf "$work"' EXIT
files -name '*.[ch]' -o -name Kbuild -o -name Makefile | xargs cp --parents -t "$work"
status=0
: >"$work/symvers"
# nlmmap itself comes first: the others use its symbols.
for module in kernel-module $(modules | grep -vx kernel-module); do
    echo "$module"
    built=0
    make -C "$headers" M="$work/$module" KBUILD_EXTRA_SYMBOLS="$work/symvers" W=1 C=2 modules >"$work/log" 2>&1 || built=$?
    if [ "$built" != 0 ] || grep -qiE '(warning|error):' "$work/log"; then
        sed "s|$work/||g" "$work/log"
        status=1
    fi
    if ! grep -q '^  CHECK ' "$work/log"; then
        echo "sparse did not run"
        status=1
    fi
    if [ "$module" = kernel-module ] && [ "$built" = 0 ]; then
        cp "$work/$module/Module.symvers" "$work/symvers"
    fi
done
exit "$status"
