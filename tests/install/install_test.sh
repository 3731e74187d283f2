#!/bin/bash
# SPDX-License-Identifier: MIT
# Builds libnlmmap by CMake, installs it to a temporary prefix, and builds and runs from the installed
# files alone: a C++20 daemon, a C11 program, examples, the loop that the README shows. Takes no arguments, needs no
# root; prints KTAP, exits 1 if a case failed.
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/nlmmap-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
compilers="g++ clang++-19"
cases=0
failures=0

# check NAME COMMAND...: one case; what the command printed is shown if it failed.
check() {
    local name=$1
    shift
    cases=$((cases + 1))
    if "$@" >"$work/log" 2>&1; then
        echo "ok $cases $name"
    else
        echo "not ok $cases $name"
        sed 's/^/# /' "$work/log"
        failures=$((failures + 1))
    fi
}

build_library() {
    cmake -S "$root/libnlmmap" -B "$work/library" -DCMAKE_INSTALL_PREFIX=/usr/local &&
        cmake --build "$work/library" -j 2 &&
        cmake --install "$work/library" --prefix "$prefix" &&
        # From here on only what is installed: a header that is missing there must be missed.
        mkdir "$work/user" &&
        cp "$root/tests/install/daemon.cc" "$root/tests/install/listener.c" \
            "$root/tests/install/CMakeLists.txt" "$root/examples/consumer.cc" \
            "$root/examples/libnl_listener.c" "$work/user"
}

has_soname_0() {
    readelf -d "$prefix"/lib*/libnlmmap.so | grep -F '(SONAME)' | tee /dev/stderr |
        grep -qF '[libnlmmap.so.0]'
}

exports_the_list() {
    nm -D --defined-only "$prefix"/lib*/libnlmmap.so | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
        sort >"$work/exported"
    sed -n 's/^ *\(_Z[A-Za-z0-9_]*\|nlmmap_[a-z_]*\);$/\1/p' "$root/libnlmmap/libnlmmap.map" | sort >"$work/listed"
    [ -s "$work/listed" ] && diff -u "$work/listed" "$work/exported"
}

installs() {
    local file
    for file in include/nlmmap/nlmmap.hpp include/nlmmap/nlmmap.h include/nlmmap/testing.hpp \
        include/nlmmap/linux/nlmmap.h lib/libnlmmap.a lib/nlmmap/libnlmmap-preload.so lib/libnlmmap-testing.a lib/pkgconfig/nlmmap.pc \
        lib/pkgconfig/nlmmap-testing.pc lib/cmake/nlmmap/nlmmap-config.cmake \
        share/man/man3/libnlmmap.3 share/man/man7/nlmmap.7; do
        [ -f "$prefix/$file" ] || { echo "missing: $file"; return 1; }
    done
    [ ! -e "$prefix/include/linux" ] || { echo "linux/ belongs to the kernel's package"; return 1; }
}

# Each public header on its own, under the strictest of warnings.
headers_stand_alone() {
    local compiler=$1 header
    while read -r header; do
        echo "#include <$header>" >"$work/alone.cc"
        "$compiler" -std=c++20 -Wall -Wextra -Werror -Wpedantic -Wconversion -Wshadow -fsyntax-only \
            -I "$prefix/include" "$work/alone.cc" || return 1
    done < <(cd "$prefix/include" && find nlmmap -name '*.hpp' -o -name '*.h' | sort)
}

# Those for C, as C from C99 on.
c_headers_stand_alone() {
    local compiler=$1 header
    for header in nlmmap/nlmmap.h nlmmap/linux/nlmmap.h; do
        echo "#include <$header>" >"$work/alone.c"
        "$compiler" -std=c99 -Wall -Wextra -Werror -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes \
            -fsyntax-only -I "$prefix/include" "$work/alone.c" || return 1
    done
}

# c_program COMPILER STANDARD NAME STATIC PACKAGES...: built to $work/NAME.
c_program() {
    local compiler=$1 standard=$2 name=$3 static=$4 flags
    shift 4
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    # shellcheck disable=SC2086 # flags are words
    flags=$(pkg-config $static --cflags --libs "$@") || return 1
    # What is linked statically has C++ in it.
    [ -z "$static" ] || flags="-static $flags -lstdc++"
    # shellcheck disable=SC2086 # flags are words
    "$compiler" "-std=$standard" -O2 -Wall -Wextra -Werror -Wpedantic "$work/user/$name.c" -o "$work/$name" $flags
}

c_listener() {
    c_program "$1" c11 listener "$2" nlmmap && LD_LIBRARY_PATH=$prefix/lib "$work/listener"
}

# The shim has all of the library in it, and lets a program be that has nothing to do with it.
preload_loads() {
    local shim=$prefix/lib/nlmmap/libnlmmap-preload.so
    nm -D --defined-only "$shim" | awk '{ print $3 }' | sort | diff -u \
        <(sed -n 's/^ *\([a-z_0-9]*\);$/\1/p' "$root/libnlmmap/preload/preload.map" | sort) - &&
        [ "$(LD_PRELOAD=$shim cksum "$root/libnlmmap/libnlmmap.map" 2>&1)" = \
            "$(cksum "$root/libnlmmap/libnlmmap.map")" ]
}

with_pkg_config() {
    local compiler=$1 flags static=$2
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    # shellcheck disable=SC2086 # flags are words
    if [ -n "$static" ]; then
        flags=$(pkg-config --static --cflags --libs nlmmap-testing) || return 1
        flags="-static $flags"
    else
        flags=$(pkg-config --cflags --libs nlmmap-testing) || return 1
    fi
    # shellcheck disable=SC2086 # flags are words
    "$compiler" -std=c++20 -O2 -Wall -Wextra -Werror -Wpedantic "$work/user/daemon.cc" \
        -o "$work/daemon" $flags &&
        LD_LIBRARY_PATH=$prefix/lib "$work/daemon"
}

# By the line that the README gives.
consumer_in_one_line() {
    local compiler=$1 status=0
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    # shellcheck disable=SC2046 # flags are words
    (cd "$work/user" &&
        "$compiler" -std=c++20 consumer.cc $(pkg-config --cflags --libs nlmmap) -o "$work/consumer") || return 1
    # It runs, with the installed library: without a group's name it says how it is called.
    LD_LIBRARY_PATH=$prefix/lib "$work/consumer" >"$work/usage" 2>&1 || status=$?
    cat "$work/usage"
    [ "$status" = 2 ] && grep -q '^usage: consumer' "$work/usage"
}

# blocks LANGUAGE FILE: the ```LANGUAGE blocks of a page, each by itself.
blocks() {
    awk -v fence="\`\`\`$1" \
        '/^```/ { if (inside) print "}"; inside = ($0 == fence); if (inside) print "{"; next } inside' "$2"
}

# The README's ```cpp blocks, each by itself, which leave resync(), handle() and a libnl socket to the
# reader.
readme_compiles() {
    local compiler=$1 libnl
    libnl=$(pkg-config --cflags-only-I libnl-3.0) || return 1
    blocks cpp "$root/README.md" >"$work/loop"
    grep -q 'receiver\.read()' "$work/loop" || { echo "no loop in README.md"; return 1; }
    {
        grep '^#include' "$work/loop"
        echo '#include <linux/rtnetlink.h>'
        echo '#include <netlink/netlink.h>'
        echo '#include <netlink/socket.h>'
        echo '#include <cstdint>'
        echo 'void resync(std::uint64_t lost);'
        echo 'void handle(const nlmmap::Message& message);'
        echo 'void readme(nl_sock* socket);'
        echo 'void readme([[maybe_unused]] nl_sock* socket) {'
        grep -v '^#include' "$work/loop"
        echo '}'
    } >"$work/readme.cc"
    cat "$work/readme.cc"
    # shellcheck disable=SC2086 # flags are words
    "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I "$prefix/include" $libnl "$work/readme.cc"
}

# docs/migrating.md's, which leave resync(), handle() and the socket to the reader.
migrating_compiles() {
    local compiler=$1 c_compiler=$2 libnl
    libnl=$(pkg-config --cflags-only-I libnl-3.0) || return 1
    blocks cpp "$root/docs/migrating.md" >"$work/blocks.cpp"
    blocks c "$root/docs/migrating.md" >"$work/blocks.c"
    if ! grep -q 'Receiver::attach' "$work/blocks.cpp" || ! grep -q 'nl_recvmsgs_default' "$work/blocks.cpp" ||
        ! grep -q 'nlmmap_recvmsg' "$work/blocks.c"; then
        echo "a block is missing in docs/migrating.md"
        return 1
    fi
    {
        echo '#include <linux/rtnetlink.h>'
        echo '#include <netlink/errno.h>'
        echo '#include <netlink/netlink.h>'
        echo '#include <netlink/socket.h>'
        echo '#include <nlmmap/nlmmap.hpp>'
        echo 'void resync();'
        echo 'void handle(const nlmsghdr* message);'
        echo 'void migrated();'
        echo 'void migrated() {'
        cat "$work/blocks.cpp"
        echo '}'
    } >"$work/migrating.cc"
    {
        echo '#include <errno.h>'
        echo '#include <nlmmap/nlmmap.h>'
        echo '#include <stdio.h>'
        echo 'void resync(void);'
        echo 'void handle(const void *messages, ssize_t bytes);'
        echo 'void migrated(int fd, struct msghdr message, const void *buffer);'
        echo 'void migrated(int fd, struct msghdr message, const void *buffer)'
        cat "$work/blocks.c"
    } >"$work/migrating.c"
    cat "$work/migrating.cc" "$work/migrating.c"
    # shellcheck disable=SC2086 # flags are words
    "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I "$prefix/include" $libnl "$work/migrating.cc" &&
        "$c_compiler" -std=c99 -Wall -Wextra -Werror -Wpedantic -fsyntax-only -I "$prefix/include" "$work/migrating.c"
}

with_find_package() {
    local compiler=$1 build=$work/find-$1
    cmake -S "$work/user" -B "$build" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$prefix" \
        -DNLMMAP_DAEMON_SOURCE="$work/user/daemon.cc" &&
        cmake --build "$build" &&
        "$build/daemon"
}

# shellcheck disable=SC2086 # compilers are words
set -- $compilers
echo "TAP version 13"
echo "1..$((5 + 11 * $#))"
check "libnlmmap builds and installs" build_library
check "the files are where users look for them" installs
check "the shared library's soname is libnlmmap.so.0" has_soname_0
check "the exported symbols are those of libnlmmap.map" exports_the_list
check "what nlmmap run preloads exports its list and loads" preload_loads
for compiler; do
    case $compiler in
    clang++*) c_compiler=clang${compiler#clang++} ;;
    *) c_compiler=gcc${compiler#g++} ;;
    esac
    check "the headers for C compile on their own with $c_compiler" c_headers_stand_alone "$c_compiler"
    check "a C11 program builds and runs with $c_compiler" c_listener "$c_compiler" ""
    check "a C11 program links statically and runs with $c_compiler" c_listener "$c_compiler" --static
    # libnl's own headers want more than C11 has.
    check "examples/libnl_listener.c builds with $c_compiler" \
        c_program "$c_compiler" gnu11 libnl_listener "" nlmmap libnl-3.0
    check "every installed header compiles on its own with $compiler" headers_stand_alone "$compiler"
    check "a daemon builds through pkg-config and runs with $compiler" with_pkg_config "$compiler" ""
    check "a daemon links statically through pkg-config and runs with $compiler" \
        with_pkg_config "$compiler" static
    check "examples/consumer.cc builds in one line with $compiler" consumer_in_one_line "$compiler"
    check "the loop in README.md compiles with $compiler" readme_compiles "$compiler"
    check "what docs/migrating.md shows compiles with $compiler" migrating_compiles "$compiler" "$c_compiler"
    check "a daemon builds through find_package and runs with $compiler" with_find_package "$compiler"
done
echo "# $((cases - failures)) passed, $failures failed"
[ "$failures" -eq 0 ]
