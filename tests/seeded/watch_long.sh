#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# A race is seen if another CPU comes by while one watches. Where the host lets
# the guest's CPUs run by turns, the kernel's 80 µs are too short for that.
exec echo 2000 >/sys/module/kcsan/parameters/udelay_task
