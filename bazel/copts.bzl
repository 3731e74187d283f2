# SPDX-License-Identifier: MIT
"""Warnings that every user-space target of this repository is built with."""

NLMMAP_COPTS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
