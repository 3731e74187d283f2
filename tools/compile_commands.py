#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes compile_commands.json, for clangd and clang-tidy, from `bazel aquery`.

Build first (`bazel build //...`): the generated files have to be there.
"""
import json
import os
import re
import subprocess


def bazel(*args):
    done = subprocess.run(["bazel", *args], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


root = bazel("info", "workspace")
execroot = bazel("info", "execution_root")
base = bazel("info", "output_base")
query = bazel("aquery", "--output=jsonproto", 'mnemonic("CppCompile", //...)')

# The execroot shows only what the last build needed, so paths are made to
# hold from the workspace root.
PATHS = [
    (re.compile(r"^(-I|)external/"), rf"\1{base}/external/"),
    (re.compile(r"^(-I|)bazel-out/"), rf"\1{execroot}/bazel-out/"),
]
GCC_ONLY = {"-fno-canonical-system-headers", "-Wno-free-nonheap-object", "-Wunused-but-set-parameter"}

commands = {}
for action in json.loads(query)["actions"]:
    arguments = [a for a in action["arguments"] if a not in GCC_ONLY]
    source = arguments[arguments.index("-c") + 1]
    if source.startswith(("external/", "bazel-out/")):
        continue
    for pattern, replacement in PATHS:
        arguments = [pattern.sub(replacement, a) for a in arguments]
    commands[source] = {"directory": root, "file": source, "arguments": arguments}

with open(os.path.join(root, "compile_commands.json"), "w", encoding="utf-8") as out:
    json.dump([commands[s] for s in sorted(commands)], out, indent=1)
    out.write("\n")
print(len(commands), "compile commands")
