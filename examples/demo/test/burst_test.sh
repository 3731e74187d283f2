#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# A run of the demo's bursts: the listener with a ring receives all that was sent, the plain one
# does not, and the demo says so, or else. The kernel's own modules are in /stock.tar.
set -eu
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
tar -x -C / -f /stock.tar
while read -r module; do
    insmod "/stock/$module"
done </stock/order
echo 65536 >/proc/sys/net/netfilter/nf_conntrack_max

fail() {
    echo "$1"
    cat /tmp/burst.json
    exit 1
}

# Being held up during a burst takes a listener some ten system calls, too: so the bursts are not small. They are tools/demo's:
# 5 of a link, 2 of routes, 2 times 2 of IPv6 routes, 2 of conntrack; 50,000 events each of rtnetlink's and conntrack's.
nlmmap-demo burst --link-changes 2000 --routes 10000 --ipv6-routes 5000 --conntrack-entries 25000 --json /tmp/burst.json
# The JSON is one line: each listener's figures, the keys in alphabetical order.
figures=$(sed 's/.*"listeners":\[//; s/{"bursts"/\n{"bursts"/g' /tmp/burst.json | sed '1d')
of() { # of LISTENER KEY
    echo "$figures" | grep "\"listener\":\"$1\"" | sed 's/.*"enobufs"/"enobufs"/; s/.*"'"$2"'":\([0-9.]*\).*/\1/'
}
sent=$((5 * 2000 + 2 * 10000 + 4 * 5000 + 2 * 25000))
for listener in plain-default plain-max plain-forced attached; do
    [ "$(of $listener sent)" = $sent ] || fail "$(of $listener sent) were sent to $listener, not $sent"
    [ $(($(of $listener received) + $(of $listener lost))) = $sent ] || fail "$listener did not receive and lose all that was sent"
done
[ "$(of attached lost)" = 0 ] || fail "the attached listener lost $(of attached lost)"
[ "$(of attached reported_lost)" = 0 ] || fail "its ring says that it lost $(of attached reported_lost)"
[ "$(of plain-default lost)" -gt $((sent / 2)) ] || fail "the plain listener lost $(of plain-default lost) of $sent: not most of it"
[ "$(of plain-max lost)" -le "$(of plain-default lost)" ] || fail "a larger buffer lost more"
[ "$(of plain-default enobufs)" -ge 1 ] || fail "the plain listener was told of no loss"
[ $(($(of attached system_calls) * 100)) -lt "$(of attached messages)" ] ||
    fail "the attached listener made $(of attached system_calls) system calls for $(of attached messages) messages"
[ "$(of attached system_calls)" -ge 1 ] || fail "the kernel counted no system call of the attached listener: it counts nothing"
[ "$(of plain-forced system_calls)" -gt "$(of plain-forced received)" ] || fail "it counts too few of the plain one"

nlmmap-demo burst-instructions --messages 100 --rounds 2 --json /tmp/instructions.json
nlmmap-demo report --burst /tmp/burst.json --burst-instructions /tmp/instructions.json --json /tmp/merged.json >/tmp/table
grep -q '"instructions_per_message"' /tmp/merged.json || fail "the report is not complete"
grep -q "^  interface taken down " /tmp/table || grep -q "^    interface taken down " /tmp/table || fail "the table has no row of the interface"

# What the report refuses: the same figures, and one of them wrong.
refused() { # refused SENTENCE SED-SCRIPT
    sed "$2" /tmp/burst.json >/tmp/wrong.json
    cmp -s /tmp/burst.json /tmp/wrong.json && fail "nothing is wrong in it: $2"
    if nlmmap-demo report --burst /tmp/wrong.json --burst-instructions /tmp/instructions.json >/tmp/table 2>/tmp/sentence; then
        fail "the report of a broken promise ends with status 0: $2"
    fi
    grep -q "$1" /tmp/sentence || fail "$(cat /tmp/sentence): should have said: $1"
}
refused "the attached listener lost 7 of $sent" 's/"listener":"attached","lost":0/"listener":"attached","lost":7/'
refused "its ring counted 7" 's/"reported_lost":0/"reported_lost":7/'
refused "there is no listener attached" 's/"listener":"attached"/"listener":"detached"/'
refused "lost nothing either" 's/"listener":"plain-default","lost":[0-9]*/"listener":"plain-default","lost":0/'
echo "$sent sent, $(of plain-default lost) lost without a ring, 0 with one"
