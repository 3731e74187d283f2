#!/bin/bash
# SPDX-License-Identifier: MIT
# Kernel versions are the business of kernel-module/compat/ alone.
set -eu
# shellcheck source=tests/checks/files.sh
. tests/checks/files.sh
found=$(files -name '*.[ch]' -o -name '*.cc' -o -name Kbuild -o -name Makefile | grep -v '^\./kernel-module/compat/' |
    xargs grep -nE 'LINUX_VERSION_CODE|KERNEL_VERSION' || true)
if [ -n "$found" ]; then
    printf '%s\n' "$found" "kernel versions belong into kernel-module/compat/"
    exit 1
fi
