#!/bin/bash
# SPDX-License-Identifier: MIT
# Shell scripts pass shellcheck.
set -eu
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
mapfile -t scripts < <(files -name '*' | while read -r file; do
    case $file in
    *.sh) echo "$file" ;;
    *.* | */BUILD* | */Kbuild | */Makefile | */WORKSPACE) ;;
    *) ! head -n 1 "$file" | grep -qE '^#!.*\b(ba|da|)sh\b' || echo "$file" ;;
    esac
done)
shellcheck -x -P . "${scripts[@]}"
