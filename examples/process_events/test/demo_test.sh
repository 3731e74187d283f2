#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# A run of the demo: every event that the module counted was received from the
# ring with less than one system call for 100, and the demo says so, or else.
#
# Three events a process at least. How long that takes is the host's business: the
# latency is longer than tools/demo's, so that a slow one does not make it many
# time-outs; and a slow kernel has fewer processes. The promise about system calls is one
# from 4,000 messages on.
set -eu
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true

fail() {
    echo "$1"
    cat /tmp/demo.json
    exit 1
}

patience=${NLMMAP_PATIENCE:-1}
processes=1500 stepped=20
[ "$patience" = 1 ] || processes=1350 stepped=5
nlmmap-demo stream --processes $processes --latency-ms $((1500 * patience)) --hold-events 200 --workload /bin/workload --leaf /bin/leaf \
    --json /tmp/demo.json
# The JSON is one line.
published=$(sed -n 's/.*"published":{[^}]*"total":\([0-9]*\).*/\1/p' /tmp/demo.json)
ring=$(sed -n 's/.*"transports":\[\(.*\)\].*/\1/p' /tmp/demo.json | sed 's/"transport":"ring".*//')
received=$(echo "$ring" | sed -n 's/.*"received":{[^}]*"total":\([0-9]*\).*/\1/p')
calls=$(echo "$ring" | sed -n 's/.*"system_calls":{.*"total":\([0-9]*\).*/\1/p')
[ "$published" -ge $((processes * 3)) ] || fail "the module counted $published events, fewer than the workload makes"
[ "$received" = "$published" ] || fail "the ring's reader got $received of $published events"
[ "$calls" -ge 1 ] || fail "the kernel counted no system call of the ring's reader: it counts nothing"
[ $((calls * 100)) -lt "$received" ] || fail "the ring's reader made $calls system calls for $received messages"
[ ! -e /sys/kernel/tracing/instances/nlmmap_demo ] || fail "the demo left its trace instance behind"
nlmmap-demo instructions --processes $stepped --workload /bin/workload --leaf /bin/leaf --json /tmp/instructions.json
nlmmap-demo report --stream /tmp/demo.json --instructions /tmp/instructions.json --json /tmp/merged.json
grep -q '"instructions_per_message"' /tmp/merged.json || fail "the report is not complete"

# What the report refuses: the same figures, and one of them wrong.
refused() { # refused SENTENCE SED-SCRIPT
    sed "$2" /tmp/demo.json >/tmp/wrong.json
    if nlmmap-demo report --stream /tmp/wrong.json --instructions /tmp/instructions.json >/tmp/table 2>/tmp/sentence; then
        fail "the report of a broken promise ends with status 0: $2"
    fi
    grep -q "$1" /tmp/sentence || fail "$(cat /tmp/sentence): should have said: $1"
}
# The ring's figures are the first of their kind.
refused "lost 0 events but counted 7" 's/"reported_lost":0/"reported_lost":7/'
refused "lost 7 events but counted 0" 's/"lost":0/"lost":7/'
refused "lost 7 of $published events" 's/"lost":0/"lost":7/; s/"reported_lost":0/"reported_lost":7/'
refused "lost 7 of $published events" 's/"quiet":true/"quiet":false/; s/"reported_lost":0/"reported_lost":7/'
refused "made $((received / 100 + 1)) system calls for $received messages" \
    's/\("system_calls":{"by_number":{[^}]*},"total":\)'"$calls"'/\1'"$((received / 100 + 1))/"
