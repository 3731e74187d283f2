#!/bin/sh
# SPDX-License-Identifier: MIT
# Every manual page passes mandoc's checks.
set -eu
command -v mandoc >/dev/null || { echo "mandoc is missing (Debian package mandoc)" >&2; exit 1; }
[ $# -gt 0 ] || { echo "no manual pages given" >&2; exit 1; }
failed=0
for page in "$@"; do
    if mandoc -T lint -W warning "$page"; then
        echo "ok $page"
    else
        echo "not ok $page"
        failed=1
    fi
done
exit $failed
