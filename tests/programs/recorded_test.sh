#!/bin/bash
# SPDX-License-Identifier: MIT
#
# recorded_test.sh VM_TEST ARGUMENT…: runs `VM_TEST ARGUMENT…` (vm_test.sh) with families_test.sh in the
# guest, and has tshark dissect what `nlmmap record` wrote there, which stands on the guest's console.
# That is one case more in XML_OUTPUT_FILE.
set -u
export TEST_UNDECLARED_OUTPUTS_DIR=${TEST_UNDECLARED_OUTPUTS_DIR:-${TEST_TMPDIR:-$(mktemp -d)}}
out=$TEST_UNDECLARED_OUTPUTS_DIR
file=$out/recorded.pcap
# tshark looks for a user's settings there.
export HOME=$out

status=0
"$@" || status=$?

dissect() {
    local console sum found
    console=$(tr -d '\r' <"$out/console.log")
    sum=$(sed -n 's/^# recorded-sum //p' <<<"$console")
    sed -n 's/^# recorded //p' <<<"$console" | base64 -d >"$file" || return 1
    if [ -z "$sum" ] || [ "$sum" != "$(sha256sum <"$file" | cut -d' ' -f1)" ]; then
        echo "the file did not come whole by the console"
        return 1
    fi
    tshark -r "$file" -V >"$out/dissected" 2>"$out/tshark.err" || return 1
    if grep -E 'Malformed|Dissector bug|truncated' "$out/dissected"; then
        echo "tshark takes some of it for malformed"
        return 1
    fi
    # has COUNT REGULAR-EXPRESSION
    has() {
        found=$(grep -c -E "$2" "$out/dissected")
        [ "$found" = "$1" ] || { echo "$found times, not $1: $2"; return 1; }
    }
    has 5 '^Linux netlink \(cooked header\)' &&
        has 5 'Link-layer address type: Netlink \(824\)' &&
        has 1 'Family: Generic \(0x0010\)' &&
        has 1 'Command: CTRL_CMD_NEWFAMILY \(1\)' &&
        has 1 'Family Name: macsec' &&
        has 2 'Family: Route \(0x0000\)' &&
        has 1 'Netlink message header \(type: Add IP address\)' &&
        has 1 'Netlink message header \(type: Delete IP address\)' &&
        has 2 'Local address: 127\.11\.12\.13' &&
        has 2 'Family: Netfilter \(0x000c\)' &&
        has 2 'Attribute: Original IP tuple' &&
        has 4 'IPv4 address: 192\.0\.2\.1'
}

failure=
if ! text=$(dissect 2>&1); then
    [ "$status" != 0 ] || status=1
    echo "what was recorded in the guest: $text"
    head -n 200 "$out/tshark.err" "$out/dissected" 2>/dev/null
    failure='<failure message="tshark does not read what was recorded in the guest"/>'
fi
if [ -n "${XML_OUTPUT_FILE:-}" ] && [ -e "$XML_OUTPUT_FILE" ]; then
    sed -i "s|^</testsuite>|<testcase classname=\"recorded_test.sh\" name=\"tshark\">$failure</testcase>\n&|" "$XML_OUTPUT_FILE"
fi
exit "$status"
