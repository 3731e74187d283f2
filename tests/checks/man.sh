#!/bin/bash
# SPDX-License-Identifier: MIT
# Manual pages are without a fault that mandoc knows of.
set -eu
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
mapfile -t pages < <(files -path './docs/man/*.[1-9]')
[ "${#pages[@]}" -gt 0 ] || {
    echo "no manual page in docs/man"
    exit 1
}
mandoc -Tlint -Wwarning "${pages[@]}"
