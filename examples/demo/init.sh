#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: MIT
# The demo's guest: loads the modules, runs one of the program's commands, whose words are after
# "demo=" on the kernel's command line, separated by commas. Its figures go to /dev/ttyS1, followed
# by "end STATUS".
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
words=$(sed 's/.*demo=\([^ ]*\).*/\1/; y/,/ /' /proc/cmdline)
# shellcheck disable=SC2086
nlmmap-demo $words --workload /bin/workload --leaf /bin/leaf --json /tmp/figures
status=$?
[ ! -s /tmp/figures ] || cat /tmp/figures >/dev/ttyS1
for module in process_events nlmmap; do
    rmmod $module || status=1
done
finish $status
