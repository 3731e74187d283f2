# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Sourced by the checks, which run in the repository's root: what files there
# are. Without git, which may refuse a tree that belongs to somebody else.

# files FIND-TEST…: the repository's files that pass find's tests, one a line.
files() {
    find . \( -name .git -o -name 'bazel-*' -o -path ./build -o -path './build-*' -o -name __pycache__ -o -path ./.cache \) -prune -o \
        -type f ! -name '*.mod.c' ! -name '*.ko' ! -name '*.o' ! -name '.*.cmd' ! -name '*.mod' ! -name modules.order \
        ! -name Module.symvers ! -name compile_commands.json ! -name user.bazelrc \
        \( "$@" \) -print | sort
}

# The folders with a kernel module in them.
modules() {
    files -name Kbuild | xargs -n 1 dirname | sed 's|^\./||'
}

# module_sources MODULE: its C sources and headers. Programs in C++ may lie below it.
module_sources() {
    files -path "./$1/*.[ch]" | while read -r file; do
        compgen -G "$(dirname "$file")/*.cc" >/dev/null || echo "$file"
    done
}
