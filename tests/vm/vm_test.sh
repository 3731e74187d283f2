#!/bin/bash
# SPDX-License-Identifier: MIT
#
# vm_test.sh LIBRARY CONVERTER KERNEL INITRAMFS SECONDS [MEGABYTES [ACCEL]]: boots the kernel
# with an initramfs whose init is init.sh, and passes if the guest's verdict says so.
# With XML_OUTPUT_FILE every test case of the guest is a case in it.
set -eu
library=$1 converter=$2 kernel=$3 initramfs=$4 seconds=$5 megabytes=${6:-512}

# shellcheck source=tools/lib/vm.sh
. "$library"
out=${TEST_UNDECLARED_OUTPUTS_DIR:-${TEST_TMPDIR:-$(mktemp -d)}}
mkdir -p "$out"
status=0
: >"$out/console.log"
: >"$out/verdict.ktap"
begun=$SECONDS
# All that a test writes to the kernel's log stands there: nothing is rationed. A busy host
# may starve a guest's CPUs for longer than the kernel's watchdogs think that a CPU can be.
NLMMAP_BOOT_APPEND="quiet log_buf_len=4M printk.devkmsg=on watchdog_thresh=60 workqueue.watchdog_thresh=120 rcupdate.rcu_cpu_stall_timeout=100" NLMMAP_BOOT_ACCEL=${7:-} \
    nlmmap_boot "$kernel" "$initramfs" "$out/console.log" "$out/verdict.ktap" "$seconds" -m "$megabytes" || status=$?
case $status in
0) ended="the guest ended by itself" ;;
124 | 137) ended="the guest did not end within $seconds s" ;;
*) ended="QEMU failed, status $status" ;;
esac
echo "$ended, after $((SECONDS - begun)) s"
python3 "$converter" --suite "${TEST_TARGET:-vm}" --xml "${XML_OUTPUT_FILE:-$out/test.xml}" \
    --ended "$ended" --status "$status" "$out/verdict.ktap" "$out/console.log"
