#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# listener.c, built from the files that CMake installed, in a guest where it has a ring. Prints KTAP.

cd "$(mktemp -d /tmp/installed.XXXXXX)" || exit 1
installed_listener ring >out 2>err
status=$?
sed 's/^/# /' out err
if [ $status = 0 ] && grep -q '^with a ring$' out; then
    echo "ok 1 - a C program built from the installed files reads a ring"
else
    echo "not ok 1 - a C program built from the installed files reads a ring"
fi
echo "1..1"
