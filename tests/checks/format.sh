#!/bin/bash
# SPDX-License-Identifier: MIT
# C++ is as clang-format writes it. To mend: tests/checks/format.sh -i
set -eu
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
mapfile -t sources < <(files -name '*.cc' -o -name '*.hpp' | grep -v '^\./kernel-module/')
# Headers with the suffix .h are C++ where C++ lies beside them, and not a module's.
mapfile -t -O "${#sources[@]}" sources < <(files -name '*.h' | grep -vE '^\./kernel-module/' | while read -r header; do
    folder=$(dirname "$header")
    if [ ! -e "$folder/Kbuild" ] && compgen -G "$folder/*.cc" >/dev/null; then
        echo "$header"
    fi
done)
[ "${#sources[@]}" -gt 0 ] || {
    echo "no C++ was found"
    exit 1
}
if [ "${1:-}" = -i ]; then
    clang-format-19 -i "${sources[@]}"
else
    clang-format-19 --dry-run --Werror "${sources[@]}"
fi
