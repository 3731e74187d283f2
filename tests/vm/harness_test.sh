#!/bin/bash
# SPDX-License-Identifier: MIT
#
# harness_test.sh LIBRARY CONVERTER VM_TEST INIT KERNEL [MEGABYTES CHECKS]: guests that go
# wrong, each in one way; passes if vm_test.sh finds every one of them. With CHECKS, which are
# those of a debug kernel: only what such a kernel needs.
set -eu
library=$1 converter=$2 vm_test=$3 init=$4 kernel=$5 megabytes=${6:-512} checks=${7:-}
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
    printf '%s\n' "PROGRAM_SECONDS=$program_seconds" "CHECKS='$checks'" >"$work/conf"
    cp "${MODULES_ORDER:-/dev/null}" "$work/modules"
    : >"$work/order"
    arguments=("$init=/init" "${init%/*}/log.sh=/etc/log.sh" "${init%/*}/checks.sh=/etc/checks.sh" "$work/conf=/etc/vm.conf" "$work/modules=/modules/order" "$work/order=/tests/order")
    for program in "$@"; do
        echo "$program" >>"$work/order"
        arguments+=("$TEST_TMPDIR/programs/$program=/tests/$program")
    done
    nlmmap_make_initramfs "$work/initramfs.cpio" "${arguments[@]}"
    status=0
    xml=$work/test.xml
    text=$work/text
    TEST_UNDECLARED_OUTPUTS_DIR=$work/out XML_OUTPUT_FILE=$xml \
        "$vm_test" "$library" "$converter" "${KERNEL:-$kernel}" "$work/initramfs.cpio" "$seconds" "$megabytes" ${ACCEL:+"$ACCEL"} >"$text" 2>&1 || status=$?
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

not() {
    ! "$@"
}

case_passed() {
    grep -qE "classname=\"$1\" name=\"$2\" time=\"[^\"]*\"></testcase>" "$xml"
}

# What each case of this test comes to in the end.
finish() {
    {
        echo '<?xml version="1.0" encoding="UTF-8"?>'
        echo "<testsuites><testsuite name=\"harness\" tests=\"$total\" failures=\"$failed\" errors=\"0\">"
        cat "$cases"
        echo '</testsuite></testsuites>'
    } >"${XML_OUTPUT_FILE:-/dev/null}"
    echo "$((total - failed)) passed, $failed failed"
    [ "$failed" = 0 ]
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

program turns_kmemleak_off <<'END'
echo off >/sys/kernel/debug/kmemleak
END
program turns_kcsan_off <<'END'
echo off >/sys/kernel/debug/kcsan
END
if [ -n "$checks" ]; then
    boot checking 400 150 passes
    check ADebugKernelThatChecksPasses [ "$status" = 0 ]
    check WhatItChecksIsACase case_passed kernel checks_what_it_should
    check ThatItStillChecksIsACase case_passed kernel still_checks
    for switch in kmemleak kcsan; do
        [[ " $checks " == *" $switch "* ]] || continue
        boot "without_$switch" 400 150 "turns_${switch}_off"
        check "ACheckThatIsTurnedOffIsReported_$switch" case_failed kernel still_checks
        check "ItIsNamed_$switch" grep -q "^    $switch: " "$text"
    done
    if [[ " $checks " == *" kmemleak "* ]]; then
        check NoScanIsNotTakenForNoLeak grep -q '^not ok .* kernel kmemleak$' "$TEST_TMPDIR/without_kmemleak/out/verdict.ktap"
    fi
    finish
    exit
fi

boot good 120 30 passes
check AGuestWhereAllIsWellPasses [ "$status" = 0 ]
check AGuestWhereAllIsWellReportsItsCases case_passed passes script

boot bad 120 2 passes fails warns hangs crashes ends_early fails_outside_of_cases says_ktap
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

# KCSAN's reports, as a kernel that has it writes them; this one says what it is told.
program kernel_says <<'END'
line===================================================================
# race TITLE FRAME [LAST-LINE]
race() {
    printf '%s\n' "$line" "BUG: KCSAN: data-race in $1" "" \
        "write to 0xffff88803cd6be20 of 8 bytes by interrupt on cpu 0:" " memcpy+0x1cc/0x3c0" "$2" " kthread+0x196/0x1d0" "" \
        "read to 0xffff88803cd6be20 of 8 bytes by task 134 on cpu 0:" " schedule+0xf6/0x150" "" \
        "value changed: 0x1 -> 0x0" "" "Reported by Kernel Concurrency Sanitizer on:" \
        "Tainted: [O]=OOT_MODULE" "${3-$line}"
}
saying=${0##*/}
{
    case $saying in
    a_race_of_the_core) race "one / other" " two+0x93/0xd0" ;;
    a_race_of_ours) race "one / other" " nlmmap_two+0x93/0xd0 [nlmmap]" ;;
    a_race_of_a_module_that_is_gone) race "one / other" " 0xffffffffa0009b8a" ;;
    a_race_without_an_end) race "one / other" " two+0x93/0xd0" "the last line" ;;
    a_race_with_more_in_it) race "one / other" "WARNING: CPU: 0 PID: 1 at another CPU" ;;
    a_race_far_below_ours) race "one / other" "$(printf ' %s\n' two+0x93/0xd0 three+0x93/0xd0 'nlmmap_four+0x93/0xd0 [nlmmap]')" ;;
    lockdep_gives_up) printf '%s\n' "turning off the locking correctness validator." ;;
    kmemleak_gives_up) echo "kmemleak: Kernel memory leak detector disabled" ;;
    an_expected_oom_killer)
        printf 'nlmmap-test: the OOM killer is expected %s\n' "from here"
        printf '%s\n' "forged_test invoked oom-killer: gfp_mask=0xcc0" "Call Trace:" " dump_stack"
        printf 'nlmmap-test: the OOM killer is expected %s\n' "no longer"
        ;;
    an_oom_killer) printf '%s\n' "forged_test invoked oom-killer: gfp_mask=0xcc0" "Call Trace:" " dump_stack" ;;
    a_stack_where_the_oom_killer_was_expected)
        printf 'nlmmap-test: the OOM killer is expected %s\n' "from here"
        echo "Call Trace:"
        printf 'nlmmap-test: the OOM killer is expected %s\n' "no longer"
        ;;
    esac
} | while IFS= read -r said; do
    echo "$said" >/dev/kmsg
done
END
unharmed="a_race_of_the_core a_race_far_below_ours an_expected_oom_killer"
harmed="a_race_of_ours a_race_of_a_module_that_is_gone a_race_without_an_end a_race_with_more_in_it lockdep_gives_up kmemleak_gives_up
    an_oom_killer a_stack_where_the_oom_killer_was_expected"
for saying in $unharmed $harmed; do
    cp "$TEST_TMPDIR/programs/kernel_says" "$TEST_TMPDIR/programs/$saying"
done
# shellcheck disable=SC2086
boot log 120 30 $unharmed $harmed
for saying in $unharmed; do
    check "InTheLogThisIsNoFault_$saying" not case_failed "$saying" kernel_log
done
for saying in $harmed; do
    check "InTheLogThisIsAFault_$saying" case_failed "$saying" kernel_log
done
check RacesOfTheCoreAreListed grep -q "^# .* data-race in one / other" "$TEST_TMPDIR/log/out/verdict.ktap"

# More than the kernel's buffer holds, while nobody reads.
program floods_the_log <<'END'
kill -STOP "$(pidof cat)"
yes "a line of the log, one of many" | head -c 5500000 >/tmp/flood
dd if=/tmp/flood of=/dev/kmsg bs=900 2>/dev/null
rm /tmp/flood
kill -CONT "$(pidof cat)"
END
boot flood 120 60 floods_the_log
check LinesOfTheLogThatAreLostAreReported case_failed kernel log_is_complete

echo absent.ko >"$TEST_TMPDIR/absent"
checks=kasan MODULES_ORDER=$TEST_TMPDIR/absent boot lacking 120 30 passes
check ACheckThatTheKernelLacksIsReported case_failed kernel checks_what_it_should
check AModuleThatDoesNotLoadIsReported case_failed modules load_absent

boot panic 120 30 panics
check APanicFails [ "$status" = 1 ]
check APanicIsAMissingVerdict case_failed guest verdict

boot hang 8 1000 hangs
check AGuestThatHangsFails [ "$status" = 1 ]
check AGuestThatHangsSaysSo grep -q "did not end within 8 s" "$text"

boot forged 120 30 forges_a_pass
check APassThatNoCaseStandsForFails [ "$status" = 1 ]

boot no_program 120 30
check AGuestThatRanNoProgramFails [ "$status" = 1 ]

# A play, for a QEMU that only pretends: N.console and N.verdict are what its Nth guest writes to its
# serial ports, N.status its status if it is not 0. N.seconds comes of it: how long it was given.
plays=$TEST_TMPDIR/plays
pretender=$TEST_TMPDIR/pretender
mkdir -p "$plays" "$pretender"
cat >"$pretender/qemu-system-x86_64" <<'END'
#!/bin/bash
set -eu
number=1
while [ -e "$PLAY/$number.seconds" ]; do number=$((number + 1)); done
# Who calls is `timeout OPTION… SECONDS qemu-system-x86_64 …`.
tr '\0' '\n' <"/proc/$PPID/cmdline" | grep -m 1 '^[0-9]' >"$PLAY/$number.seconds"
serials=()
while [ $# -gt 0 ]; do
    [ "$1" != -serial ] || serials+=("${2#file:}")
    shift
done
sed 's/$/\r/' "$PLAY/$number.console" >"${serials[0]}"
cat "$PLAY/$number.verdict" >"${serials[1]}"
exit "$(cat "$PLAY/$number.status" 2>/dev/null || echo 0)"
END
chmod +x "$pretender/qemu-system-x86_64"

# guest_dies PLAY NUMBER OOPS BYTE [VERDICT]: a console as of a guest that really died; BYTE is what
# its memory had where the CPU met the breakpoint.
guest_dies() {
    mkdir -p "$plays/$1"
    cat >"$plays/$1/$2.console" <<END
[    1.241609] $3 PREEMPT SMP NOPTI
[    1.241918] CPU: 1 PID: 45 Comm: kworker/1:1 Not tainted
[    1.242184] Workqueue: events tsc_refine_calibration_work
[    1.244120] RIP: 0010:enqueue_timer+0xa5/0x100
[    1.244120] Code: 75 b5 0f 1f 44 00 00 eb ae 4c 89 65 18 c6 45 26 01 c6 45 24 00 $4 <09> 5b 5d 41 5c
[    1.244120] RSP: 0018:ff7d3a3e00177dc8 EFLAGS: 00000083
[    1.244120] Call Trace:
[    1.244120]  __mod_timer+0x26c/0x360
[    1.244120] ---[ end trace 0000000000000000 ]---
[    1.244120] Kernel panic - not syncing: Fatal exception in interrupt
END
    printf %s "${5:-}" >"$plays/$1/$2.verdict"
}

guest_passes() {
    mkdir -p "$plays/$1"
    printf '%s\n' '=== the verdict is written' '[   12.345678] reboot: Power down' >"$plays/$1/$2.console"
    printf '%s\n' 'KTAP version 1' 'ok 1 passes script' '1..1' 'pass 1' >"$plays/$1/$2.verdict"
}

# act PLAY [SECONDS]: boot, with that QEMU.
act() {
    PLAY=$plays/$1 PATH=$pretender:$PATH boot "$1" "${2:-60}" 30 passes
}

# booted PLAY TIMES: so often, and so it is told.
booted() {
    [ "$(find "$plays/$1" -name '*.seconds' | wc -l)" = "$2" ] &&
        [ "$(grep -c "that is the emulator's fault.* booting once more" "$text")" = $(($2 - 1)) ]
}

# failed_at_once PLAY
failed_at_once() {
    [ "$status" = 1 ] && case_failed guest verdict && booted "$1" 1
}

seconds_of() {
    cat "$plays/$1/$2.seconds"
}

# What the kernels of the matrix print, each in its way.
int3="int3: 0000 [#1]"
oops_int3="Oops: $int3"

guest_dies old_dies_once 1 "$int3" eb
guest_passes old_dies_once 2
act old_dies_once
check AGuestThatTheEmulatorKilledAtBootIsBootedAgain [ "$status" = 0 ]
check ItsSecondBootIsTheOneThatIsJudged case_passed passes script
check ItsSecondBootIsTold booted old_dies_once 2
check TheConsoleOfTheGuestThatDiedIsKept grep -qF "$int3" "$TEST_TMPDIR/old_dies_once/out/console.1.log"
check TheFirstBootHasAllTheTime [ "$(seconds_of old_dies_once 1)" = 60 ]
check AnotherBootHasTheTimeThatIsLeft [ "$(seconds_of old_dies_once 2)" -lt 60 ]

guest_dies dies_twice 1 "$oops_int3" 0f
guest_dies dies_twice 2 "$oops_int3" e9
guest_passes dies_twice 3
act dies_twice
check AGuestThatTheEmulatorKilledTwiceIsBootedAgain [ "$status" = 0 ]
check EachBootIsTold booted dies_twice 3

for number in 1 2 3; do
    guest_dies dies_always "$number" "$oops_int3" eb
done
guest_passes dies_always 4
act dies_always
check ThreeDeathsAtBootAreAFailure [ "$status" = 1 ]
check ThreeDeathsAtBootAreAMissingVerdict case_failed guest verdict
check ThereIsNoFourthBoot booted dies_always 3

for play in after_a_word in_its_memory otherwise before_that in_no_time with_kvm with_one_thread of_qemu; do
    guest_dies "$play" 1 "$oops_int3" eb
    guest_passes "$play" 2
done
guest_dies after_a_word 1 "$oops_int3" eb "KTAP version 1"
act after_a_word
check AGuestThatDiedAfterAWordIsNotBootedAgain failed_at_once after_a_word
guest_dies in_its_memory 1 "$oops_int3" cc
act in_its_memory
check AGuestThatDiedOfABreakpointInItsMemoryIsNotBootedAgain failed_at_once in_its_memory
guest_dies otherwise 1 "Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1]" eb
act otherwise
check AGuestThatDiedOtherwiseIsNotBootedAgain failed_at_once otherwise
guest_dies before_that 1 "Oops: 0002 [#1]" eb
cp "$plays/before_that/1.console" "$plays/first"
guest_dies before_that 1 "${oops_int3/1]/2]}" eb
cat "$plays/first" "$plays/before_that/1.console" >"$plays/both"
mv "$plays/both" "$plays/before_that/1.console"
act before_that
check AGuestWhoseBreakpointWasNotItsFirstOopsIsNotBootedAgain failed_at_once before_that
# Whatever comes first there, the death or the end of the time: the second guest would pass.
act in_no_time 1
check AGuestIsNotBootedAgainWithoutTime [ "$status" = 1 ]
NLMMAP_VM_ACCEL=kvm act with_kvm
check AGuestOfKvmIsNotBootedAgain failed_at_once with_kvm
ACCEL=tcg,thread=single act with_one_thread
check AGuestOfOneThreadIsNotBootedAgain failed_at_once with_one_thread
echo 1 >"$plays/of_qemu/1.status"
act of_qemu
check AGuestWhoseEmulatorFailedIsNotBootedAgain failed_at_once of_qemu

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

KERNEL=$TEST_TMPDIR/none boot no_kernel 120 30 passes
check AMissingKernelFails [ "$status" != 0 ]

finish
