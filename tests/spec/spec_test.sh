#!/bin/sh
# SPDX-License-Identifier: MIT
# spec_test.py with the system's Python, which is the one that has Debian's python3-yaml.
exec /usr/bin/python3 "$@"
