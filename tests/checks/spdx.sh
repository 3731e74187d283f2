#!/bin/bash
# SPDX-License-Identifier: MIT
# Every file names its licence near its top; files of kernel modules name the GPL.
set -eu
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
status=0
while read -r file; do
    case $file in
    # Formats without comments, texts of licences, and a fuzzer's inputs.
    *.json | *.png | *.svg | ./LICENSE* | *.patch | ./tests/fuzz/corpus/*) continue ;;
    esac
    if ! head -n 5 "$file" | grep -q 'SPDX-License-Identifier: '; then
        echo "$file: no SPDX-License-Identifier in its first 5 lines"
        status=1
    fi
done < <(files -name '*')
for module in $(modules); do
    while read -r file; do
        if ! head -n 1 "$file" | grep -qE 'SPDX-License-Identifier: .*GPL-2.0'; then
            echo "$file: the first line of a kernel module's file names GPL-2.0"
            status=1
        fi
    done < <(module_sources "$module")
done
exit "$status"
