#!/bin/bash
# SPDX-License-Identifier: MIT
#
# instructions_test.sh LIBRARY KERNEL INITRAMFS REPORT: measures in a guest as tools/bench does, one
# guest nanosecond being one instruction, and fails if a goal is missed: they are bounds of how many
# instructions a message takes, which a busy host changes nothing of.
set -eu
library=$1 kernel=$2 initramfs=$3 report=$4
# shellcheck source=tools/lib/vm.sh
. "$library"
out=${TEST_UNDECLARED_OUTPUTS_DIR:-${TEST_TMPDIR:-$(mktemp -d)}}

# Instructions can only be counted by an emulator, on one thread.
unset NLMMAP_VM_ACCEL
status=0
NLMMAP_BOOT_ACCEL=tcg,thread=single NLMMAP_BOOT_APPEND=quiet nlmmap_boot \
    "$kernel" "$initramfs" "$out/console.log" "$out/measured" 600 \
    -icount shift=0,sleep=off -smp 1 -cpu qemu64 || status=$?
if [ "$status" != 0 ]; then
    echo "the guest did not end in time: status $status"
    tr -d '\r' <"$out/console.log" | tail -n 40
    exit 1
fi
"$report" --goals "$out/measured" || {
    tr -d '\r' <"$out/console.log" | tail -n 20
    exit 1
}

# The same figures, and the one that matters most too high: refused.
sed '/"ring-attached"/s/"consume":[0-9.]*,/"consume":25.1,/; /"ring-attached"/s/"total":[0-9.]*,/"total":26.6,/;
    /"ring-attached"/s/"produce":[0-9.]*,/"produce":1.5,/' "$out/measured" >"$out/worse"
if "$report" --goals "$out/worse" >/dev/null 2>"$out/complaint"; then
    echo "25.1 instructions to read a message were taken for 25"
    exit 1
fi
grep -q '^bench: consume, from an attached ring: 25.1 instructions' "$out/complaint" || {
    echo "it should have been refused for its 25.1 instructions:"
    cat "$out/complaint"
    exit 1
}
