#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# Loads what /stock.tar has of the kernel's own modules; in some kernels they are
# built in, and nothing is in it.
tar -C / -xf /stock.tar || exit 1
while read -r file; do
    insmod "/stock/$file" || exit 1
done </stock/order
