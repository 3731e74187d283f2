#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# The bench's guest: loads the modules, measures, and powers off. What it found goes to ttyS1.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
uname -r
stty -F /dev/ttyS1 raw -echo
# shellcheck disable=SC2046
if insmod /modules/nlmmap.ko plain_ring_bytes=4194304 && insmod /modules/nlmmap_bench.ko; then
    # 6.12 tests its ciphers for the first second or so after boot.
    sleep 3
    bench_guest --output /dev/ttyS1 $(cat /bench.arguments) || echo "bench_guest: $?"
else
    echo "fail the modules cannot be loaded; see the console" >/dev/ttyS1
fi
if dmesg | grep -E 'BUG:|WARNING:|Oops|rcu:.*stall'; then
    echo "fail the kernel complained; see the console" >/dev/ttyS1
fi
poweroff -f
