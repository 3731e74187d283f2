#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fuzz_test.sh PROGRAM fuzz|finds_its_fault RUNS MAX_LEN CORPUS-FILE…: a bounded run of a
# libFuzzer program, the same each time. `fuzz`: no input may break anything.
# `finds_its_fault`: one has to.
set -eu
program=$1 test=$2 runs=$3 max_len=$4
shift 4
name=$(basename "$program")
out=${TEST_UNDECLARED_OUTPUTS_DIR:-$PWD}
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/fuzz.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
cp -L "$@" "$work/corpus/"

status=0
"$program" -seed=1 -runs="$runs" -max_len="$max_len" -len_control=0 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -verbosity=1 -artifact_prefix="$out/" "$work/corpus" >"$work/log" 2>&1 || status=$?
# Not each input that was new, of which there are thousands.
grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)' "$work/log" | tail -n 60

case $test in
fuzz)
    if [ "$status" != 0 ]; then
        echo "$name broke, status $status. The input is among this test's outputs, $out;"
        echo "replay it with: $program FILE; and once it is mended, put it into tests/fuzz/corpus/${name%_libfuzzer}/."
        exit 1
    fi
    # It has really tried that many, and its instrumentation told it something.
    grep -q "^Done $runs runs" "$work/log" || {
        echo "$name did not try $runs inputs"
        exit 1
    }
    grep -qE '^#[0-9]+[[:space:]]+DONE[[:space:]]+cov: [1-9]' "$work/log" || {
        echo "$name was told of no coverage: is the library built with -fsanitize=fuzzer-no-link?"
        exit 1
    }
    ;;
finds_its_fault)
    if [ "$status" = 0 ]; then
        echo "$name tried $runs inputs and did not find the fault that was seeded"
        exit 1
    fi
    # By itself or a sanitizer; not for want of a file.
    grep -E '^broken promise: |ERROR: AddressSanitizer: |: runtime error: ' "$work/log" || {
        echo "$name failed, but not because of the fault"
        exit 1
    }
    ;;
esac
