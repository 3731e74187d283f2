#!/bin/bash
# SPDX-License-Identifier: MIT
#
# harness_test.sh LIBRARY CONVERTER VM_TEST INIT KERNEL: guests that go wrong, each
# in one way; passes if vm_test.sh finds every one of them.
set -eu
library=$1 converter=$2 vm_test=$3 init=$4 kernel=$5
# shellcheck source=tools/lib/vm.sh
. "$library"
cases=$TEST_TMPDIR/cases.xml
failed=0
total=0
: >"$cases"

# check NAME CONDITION…: one test case of this test.
check() {
    local name=$1
    shift
    total=$((total + 1))
    if "$@"; then
        echo "ok: $name"
        printf '<testcase classname="Harness" name="%s" time="0"></testcase>\n' "$name" >>"$cases"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        printf '<testcase classname="Harness" name="%s" time="0"><failure message="see the log"/></testcase>\n' "$name" >>"$cases"
    fi
}

# boot NAME SECONDS PROGRAM_SECONDS PROGRAM…: boots a guest with programs made by
# program(), judges it as any VM test is judged, and leaves status, xml, text.
boot() {
    local name=$1 seconds=$2 program_seconds=$3 work=$TEST_TMPDIR/$1 program arguments
    shift 3
    mkdir -p "$work/out"
    echo "PROGRAM_SECONDS=$program_seconds" >"$work/conf"
    cp "${MODULES_ORDER:-/dev/null}" "$work/modules"
    : >"$work/order"
    arguments=("$init=/init" "$work/conf=/etc/vm.conf" "$work/modules=/modules/order" "$work/order=/tests/order")
    for program in "$@"; do
        echo "$program" >>"$work/order"
        arguments+=("$TEST_TMPDIR/programs/$program=/tests/$program")
    done
    nlmmap_make_initramfs "$work/initramfs.cpio" "${arguments[@]}"
    status=0
    xml=$work/test.xml
    text=$work/text
    TEST_UNDECLARED_OUTPUTS_DIR=$work/out XML_OUTPUT_FILE=$xml \
        "$vm_test" "$library" "$converter" "${KERNEL:-$kernel}" "$work/initramfs.cpio" "$seconds" >"$text" 2>&1 || status=$?
    echo "--- $name: status $status"
    cat "$text"
}

# program NAME: a program of a guest, from standard input.
program() {
    mkdir -p "$TEST_TMPDIR/programs"
    {
        echo '#!/bin/sh'
        cat
    } >"$TEST_TMPDIR/programs/$1"
    chmod +x "$TEST_TMPDIR/programs/$1"
}

failures_are() {
    [ "$(grep -c '<failure' "$xml")" = "$1" ]
}

case_failed() {
    grep -qE "classname=\"$1\" name=\"$2\" time=\"[^\"]*\"><failure" "$xml"
}

case_passed() {
    grep -qE "classname=\"$1\" name=\"$2\" time=\"[^\"]*\"></testcase>" "$xml"
}

program passes <<'END'
exit 0
END
program fails <<'END'
echo "what went wrong"
exit 3
END
program warns <<'END'
echo "WARNING: CPU: 0 PID: 1 at the harness's own test" >/dev/kmsg
exit 0
END
program hangs <<'END'
sleep 1000
END
# As a GoogleTest program prints that dies inside its second case.
program crashes <<'END'
echo "[==========] Running 3 tests from 1 test suite."
echo "[ RUN      ] Suite.First"
echo "[       OK ] Suite.First (1 ms)"
echo "[ RUN      ] Suite.Second"
kill -SEGV $$
END
program ends_early <<'END'
echo "[==========] Running 2 tests from 1 test suite."
echo "[ RUN      ] Suite.First"
echo "[       OK ] Suite.First (1 ms)"
exit 0
END
program fails_outside_of_cases <<'END'
echo "[==========] Running 1 test from 1 test suite."
echo "[ RUN      ] Suite.First"
echo "[       OK ] Suite.First (1 ms)"
exit 1
END
program says_ktap <<'END'
echo "ok 1 - the first holds"
echo "not ok 2 - the second holds"
echo "# because of this"
echo "1..3"
END
program panics <<'END'
echo c >/proc/sysrq-trigger
sleep 1000
END
program forges_a_pass <<'END'
echo "pass 1" >/dev/ttyS1
poweroff -f
END

boot good 60 30 passes
check AGuestWhereAllIsWellPasses [ "$status" = 0 ]
check AGuestWhereAllIsWellReportsItsCases case_passed passes script

boot bad 60 2 passes fails warns hangs crashes ends_early fails_outside_of_cases says_ktap
check AFailingGuestFails [ "$status" = 1 ]
check APassingProgramBesideThemStillPasses case_passed passes script
check AFailingProgramIsReported case_failed fails script
check TheOutputOfAFailingProgramIsShown grep -q "what went wrong" "$text"
check AWarningInTheKernelLogIsReported case_failed warns kernel_log
check AProgramThatHangsIsReported case_failed hangs script
check TheCaseThatACrashEndedIsReported case_failed crashes.Suite Second
check ACrashBetweenCasesIsReported case_failed ends_early ran_to_its_end
check AFailureOutsideOfCasesIsReported case_failed fails_outside_of_cases exit_status
check ACaseInKtapThatHoldsPasses case_passed says_ktap "the first holds"
check ACaseInKtapThatDoesNotHoldIsReported case_failed says_ktap "the second holds"
check WhatExplainsAFailureInKtapIsShown grep -q "^    because of this" "$text"
check ACaseInKtapThatIsMissingIsReported case_failed says_ktap ran_to_its_end
check NothingElseIsReported failures_are 9

echo absent.ko >"$TEST_TMPDIR/absent"
MODULES_ORDER=$TEST_TMPDIR/absent boot no_module 60 30 passes
check AModuleThatDoesNotLoadIsReported case_failed modules load_absent

boot panic 60 30 panics
check APanicFails [ "$status" = 1 ]
check APanicIsAMissingVerdict case_failed guest verdict

boot hang 8 1000 hangs
check AGuestThatHangsFails [ "$status" = 1 ]
check AGuestThatHangsSaysSo grep -q "did not end within 8 s" "$text"

boot forged 60 30 forges_a_pass
check APassThatNoCaseStandsForFails [ "$status" = 1 ]

boot no_program 60 30
check AGuestThatRanNoProgramFails [ "$status" = 1 ]

# judged NAME STATUS CONSOLE: what is made of a good verdict if the guest ended so.
judged() {
    local work=$TEST_TMPDIR/judged
    mkdir -p "$work"
    printf '%s\n' 'KTAP version 1' 'ok 1 passes script' '1..1' 'pass 1' >"$work/verdict"
    printf '%s\n' "$3" >"$work/console"
    xml=$work/$1.xml
    status=0
    python3 "$converter" --suite "$1" --xml "$xml" --ended "it ended so" --status "$2" \
        "$work/verdict" "$work/console" || status=$?
}

judged well 0 '[   12.345678] reboot: Power down'
check AGoodVerdictPasses [ "$status" = 0 ]
judged late_hang 124 ''
check AHangAfterTheVerdictFails case_failed guest end
judged late_panic 0 '[   12.345678] Kernel panic - not syncing: after the verdict'
check APanicAfterTheVerdictFails case_failed guest console

KERNEL=$TEST_TMPDIR/none boot no_kernel 60 30 passes
check AMissingKernelFails [ "$status" != 0 ]

{
    echo '<?xml version="1.0" encoding="UTF-8"?>'
    echo "<testsuites><testsuite name=\"harness\" tests=\"$total\" failures=\"$failed\" errors=\"0\">"
    cat "$cases"
    echo '</testsuite></testsuites>'
} >"${XML_OUTPUT_FILE:-/dev/null}"
echo "$((total - failed)) passed, $failed failed"
[ "$failed" = 0 ]
