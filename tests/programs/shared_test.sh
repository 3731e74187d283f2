#!/bin/bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2016
#
# shared_test.sh NLMMAP RECORD: the tool as it is built for users, with shared libraries, on the host:
# it answers, and finds the program that `nlmmap record` becomes, which alone needs libpcap.
set -u
nlmmap=$1 record=$2
out=$TEST_TMPDIR/out err=$TEST_TMPDIR/err
failed=0

# expect STATUS FILE REGULAR-EXPRESSION COMMAND...
expect() {
    local wanted=$1 file=$2 expression=$3 status=0
    shift 3
    timeout 60 "$@" >"$out" 2>"$err" </dev/null || status=$?
    if [ "$status" = "$wanted" ] && grep -qE -e "$expression" "$file"; then
        echo "ok $*"
        return
    fi
    failed=1
    echo "not ok $*: status $status, not $wanted, or no line of $(basename "$file") matches $expression"
    head -n 20 "$out" "$err"
}

expect 0 "$out" '^  record ' "$nlmmap" --help
expect 0 "$out" '^Examples:' "$nlmmap" record --help
expect 2 "$err" '^nlmmap: .*--write' "$nlmmap" record
# Told by nlmmap-record, whatever module is loaded here.
expect 1 "$err" '^nlmmap: there is no netlink family `rout`' "$nlmmap" record -w - rout
if grep -qs '^nlmmap ' /proc/modules; then
    echo "# the module is loaded here: that it is not is told in guests"
else
    expect 1 "$err" '^nlmmap: .*not loaded.*modprobe nlmmap' "$nlmmap" record -w - route
fi
if ldd "$nlmmap" | grep libpcap; then
    failed=1
    echo "not ok: every command loads libpcap"
fi
expect 0 "$out" 'libpcap' ldd "$record"
exit $failed
