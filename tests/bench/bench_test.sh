#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# In a guest: the bench measures every row with every delivery checked, and its report takes what
# it wrote. Costs are not looked at.
set -eu
work=$(mktemp -d /tmp/bench.XXXXXX)
cd "$work"

# Two rounds: enough to go through every row's own code twice after its warm-up.
bench_guest --quick --rounds 2 --output measured || {
    tail -n 1 measured
    exit 1
}
bench_report --json rows.json measured >table

# 11 transports with one member, 4 with 8 and with 64, in three batches each.
rows=$(grep -c '"transport"' rows.json)
[ "$rows" = 57 ] || {
    echo "$rows rows, not 57"
    exit 1
}
for transport in floor ring-copy ring-inplace ring-copy-epoll ring-inplace-epoll ring-attached netlink-recvmsg \
    netlink-recvmmsg netlink-libnl netlink-libnl-nopeek nlmmap-plain-recvmsg; do
    grep -q "\"transport\": \"$transport\"" rows.json || {
        echo "no row of $transport"
        exit 1
    }
    grep -q "^$transport " table || {
        echo "$transport is not in the table"
        exit 1
    }
done

# A run that failed is not taken for one that passed.
{
    head -n 3 measured
    echo "fail a delivery was wrong"
} >broken
if bench_report broken >/dev/null 2>complaint || ! grep -q 'a delivery was wrong' complaint; then
    echo "a failed run was taken for a good one"
    exit 1
fi
echo "$rows rows"
