#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT
# The demo's guest: loads the modules, runs the program's commands that stand after "demo=" on the
# kernel's command line, the commands separated by "+", their words by commas. The figures of each
# are a line on /dev/ttyS1; the last line there is "end STATUS".
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tracefs tracefs /sys/kernel/tracing

finish() {
    # What the kernel itself complained about makes the figures worthless.
    if dmesg | grep -E 'BUG:|WARNING:|Oops|rcu.*stall'; then
        set -- 1
    fi
    echo "end $1" >/dev/ttyS1
    # Until the last byte has left the serial port.
    sync
    poweroff -f
}

echo "guest: Linux $(uname -r), $(nproc) CPU(s)"
for module in nlmmap process_events; do
    insmod /modules/$module.ko || finish 1
    echo "guest: loaded $module.ko"
done
# The kernel's own, which may be built in; in the order of loading, some of them twice.
while read -r module; do
    grep -q "^$(echo "${module%.ko}" | tr - _) " /proc/modules || insmod "/modules/stock/$module" || finish 1
done </modules/stock/order
# Room for the bursts: a guest of this size gets little by itself.
echo 131072 >/proc/sys/net/netfilter/nf_conntrack_max

status=0
commands=$(sed 's/.*demo=\([^ ]*\).*/\1/; y/+/ /' /proc/cmdline)
for command in $commands; do
    words=$(echo "$command" | tr , ' ')
    case $words in
    stream* | instructions*) words="$words --workload /bin/workload --leaf /bin/leaf" ;;
    esac
    rm -f /tmp/figures
    # shellcheck disable=SC2086
    nlmmap-demo $words --json /tmp/figures || { status=$? && break; }
    cat /tmp/figures >/dev/ttyS1
done
for module in process_events nlmmap; do
    rmmod $module || status=1
done
finish $status
