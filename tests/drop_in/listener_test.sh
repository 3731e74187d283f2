#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# examples/libnl_listener, in a guest, while more comes than a plain socket's buffer holds. Prints KTAP.

cd "$(mktemp -d /tmp/listener.XXXXXX)" || exit 1
count=5000
[ "${NLMMAP_PATIENCE:-1}" = 1 ] || count=1000
libnl_listener $count >out 2>err &
pid=$!
tries=0
until grep -q listening err || [ $tries = 100 ]; do
    tries=$((tries + 1))
    usleep 100000
done
kill -STOP $pid
burst addresses 200000 $count
kill -CONT $pid
wait $pid
status=$?
sed 's/^/# /' err
if [ $status = 0 ] && grep -q "^$count messages, messages were lost 0 times\$" err &&
    [ "$(grep -c '^new address of interface 1$' out)" = "$count" ] && ! grep -q 'without a ring' err; then
    echo "ok 1 - the example hears every message of a burst"
else
    echo "not ok 1 - the example hears every message of a burst"
fi
echo "1..1"
