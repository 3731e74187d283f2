#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# A small run of the demo: every event that the module counted was received from
# the ring, and the demo says so.
set -eu
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true

fail() {
    echo "$1"
    cat /tmp/demo.json
    exit 1
}

nlmmap-demo stream --processes 400 --hold-events 200 --workload /bin/workload --leaf /bin/leaf \
    --json /tmp/demo.json
# The JSON is one line.
published=$(sed -n 's/.*"published":{[^}]*"total":\([0-9]*\).*/\1/p' /tmp/demo.json)
ring=$(sed -n 's/.*"transports":\[\(.*\)\].*/\1/p' /tmp/demo.json | sed 's/"transport":"ring".*//')
received=$(echo "$ring" | sed -n 's/.*"received":{[^}]*"total":\([0-9]*\).*/\1/p')
calls=$(echo "$ring" | sed -n 's/.*"system_calls":{.*"total":\([0-9]*\).*/\1/p')
[ "$published" -ge 1200 ] || fail "the module counted $published events, fewer than the workload makes"
[ "$received" = "$published" ] || fail "the ring's reader got $received of $published events"
[ "$calls" -ge 1 ] || fail "the kernel counted no system call of the ring's reader: it counts nothing"
[ ! -e /sys/kernel/tracing/instances/nlmmap_demo ] || fail "the demo left its trace instance behind"
nlmmap-demo instructions --processes 20 --workload /bin/workload --leaf /bin/leaf --json /tmp/instructions.json
nlmmap-demo report --stream /tmp/demo.json --instructions /tmp/instructions.json --json /tmp/merged.json
grep -q '"instructions_per_message"' /tmp/merged.json || fail "the report is not complete"
