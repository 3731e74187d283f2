#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What CaptureFile wrote is a capture that tshark dissects to the last attribute.
set -eu
capture=$1
file=$TEST_TMPDIR/links.pcap
# tshark looks for a user's settings there.
export HOME=$TEST_TMPDIR

fail() {
    echo "$1"
    cat "$TEST_TMPDIR/tshark.err"
    head -n 60 "$TEST_TMPDIR/text"
    exit 1
}

before=$(date +%s)
packets=$("$capture" "$file")
[ "$packets" -ge 2 ] || fail "there are $packets messages: not even lo's"
tshark -r "$file" -V >"$TEST_TMPDIR/text" 2>"$TEST_TMPDIR/tshark.err" || fail "tshark does not read it"
has() { # has COUNT REGULAR-EXPRESSION
    found=$(grep -c -E "$2" "$TEST_TMPDIR/text") || true
    [ "$found" -ge "$1" ] || fail "$found times, not $1: $2"
}
has "$packets" '^Linux netlink \(cooked header\)'
has "$packets" 'Link-layer address type: Netlink \(824\)'
has "$packets" 'Family: Route'
has "$packets" '^Linux rtnetlink'
has 1 'Netlink message header \(type: Create network interface\)'
has 1 'Device name: lo'
has 1 'Netlink message header \(type: Add IP address\)'
has 1 'Local address: 127\.0\.0\.1'
if grep -E 'Malformed|Dissector bug|truncated' "$TEST_TMPDIR/text"; then
    fail "tshark takes some of it for malformed"
fi
[ "$(tshark -r "$file" -T fields -e frame.number 2>/dev/null | wc -l)" = "$packets" ] || fail "packets are missing"
time=$(tshark -r "$file" -c 1 -T fields -e frame.time_epoch 2>/dev/null)
if [ "${time%.*}" -lt "$before" ] || [ "${time%.*}" -gt "$(date +%s)" ]; then
    fail "the time stamp is $time, not now"
fi
[ "${#time}" = 20 ] || fail "the time stamp is $time, not in nanoseconds"
echo "$packets packets"
