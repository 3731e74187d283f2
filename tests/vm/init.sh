#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC1091,SC2016
#
# The guest's first process: loads modules, runs tests, looks at the kernel's
# log and for leaks, and writes the verdict, last of all, to the second serial port.
#
#   /modules/order   modules in order of loading, "FILE [PARAMETER=VALUE]…", in /modules
#   /tests/order     programs in order, in /tests: a GoogleTest program; one that prints
#                    KTAP (`ok N NAME`, `not ok N NAME`, `1..N` first or last); or anything
#                    else, whose exit status says: 0 passed, 4 skipped, other: failed
#   /etc/vm.conf     PROGRAM_SECONDS=…: how long a program may take
#                    CHECKS=…: what this kernel has to check by itself, see checks.sh
#                    PATIENCE=…: how many times slower than a stock kernel it may be
#                    FILTER=…: which cases of GoogleTest programs to run
#   /etc/log.sh, /etc/checks.sh   beside this file in the repository
#
# ttyS1 gets KTAP, one line for each test case, then the plan, then `pass N` or
# `fail F of N`. The console (ttyS0) gets everything that the programs print.

/bin/busybox mount -t proc proc /proc
PATH=/bin:/sbin
export PATH
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ip link set lo up
exec </dev/null >/dev/ttyS0 2>&1
stty -F /dev/ttyS1 raw
exec 3>/dev/ttyS1

PROGRAM_SECONDS=120
CHECKS=
PATIENCE=1
FILTER='*'
. /etc/vm.conf
NLMMAP_VM=1
NLMMAP_PATIENCE=$PATIENCE
HOME=/tmp
GTEST_COLOR=no
GTEST_FILTER=$FILTER
export NLMMAP_VM NLMMAP_PATIENCE HOME GTEST_COLOR GTEST_FILTER

count=0
failed=0

# report ok|"not ok" NAME [DIRECTIVE]: a test case; what is in the file notes explains it.
notes=/tmp/notes
: >$notes
report() {
    count=$((count + 1))
    [ "$1" = ok ] || failed=$((failed + 1))
    sed 's/^/# /' $notes >&3
    : >$notes
    echo "$1 $count $2${3:+ # $3}" >&3
    echo "$1 $count $2${3:+ # $3}"
}

. /etc/log.sh
. /etc/checks.sh
start_log

log_is_clean=yes

# check_log WHO: a splat is a failed test case, under the name of who ran.
check_log() {
    if new_splats; then
        log_is_clean=no
        cat /tmp/splats >$notes
        report "not ok" "$1 kernel_log"
    fi
}

# GoogleTest's lines, or KTAP, to our KTAP. Writes "COUNT FAILED KIND EXPECTED SEEN" at the end.
CONVERT='
function result(verdict, name, directive) {
    count++; seen++
    if (verdict != "ok") failed++
    if (verdict != "ok" || directive != "") printf "%s", diagnostics
    print verdict " " count " " program " " name (directive != "" ? " # " directive : "")
    fflush()
    running = ""; diagnostics = ""
}
# What explains a line of KTAP follows it, so it waits for the next one.
function ktap_result() {
    if (waiting != "") result(verdict, waiting, directive)
    waiting = ""; diagnostics = ""
}
function case_name(line) {
    sub(/^\[[^]]*\] /, "", line)
    sub(/ \([0-9]+ ms\)$/, "", line)
    sub(/, where .*/, "", line)
    return line
}
function duration(line) {
    match(line, /\([0-9]+ ms\)$/)
    return substr(line, RSTART + 1, RLENGTH - 5)
}
/^\[==========\] Running [0-9]+ test/ { expected = $3; next }
/^\[ RUN      \] / { running = case_name($0); diagnostics = ""; next }
/^\[       OK \] .*\([0-9]+ ms\)$/ { diagnostics = ""; print "# time " duration($0); result("ok", case_name($0), ""); next }
/^\[  SKIPPED \] .*\([0-9]+ ms\)$/ { result("ok", case_name($0), "SKIP"); next }
/^\[  FAILED  \] .*\([0-9]+ ms\)$/ { result("not ok", case_name($0), ""); next }
expected == "" && /^1\.\.[0-9]+$/ { ktap = 1; planned = substr($0, 4); next }
expected == "" && /^(not )?ok [0-9]+ / {
    ktap_result()
    ktap = 1
    verdict = /^not/ ? "not ok" : "ok"
    sub(/^(not )?ok [0-9]+ (- )?/, "")
    directive = ""
    if (match($0, / # SKIP.*/)) { directive = substr($0, RSTART + 3); $0 = substr($0, 1, RSTART - 1) }
    waiting = $0
    next
}
running != "" || expected == "" { if (length(diagnostics) < 20000) diagnostics = diagnostics (/^#/ ? "" : "# ") $0 "\n" }
END {
    script_says = diagnostics
    if (running != "") result("not ok", running, "did not end")
    ktap_result()
    if (expected == "" && !ktap) printf "%s", script_says
    if (ktap) { expected = planned }
    kind = ktap || expected != "" ? "cases" : "script"
    print count + 0, failed + 0, kind, expected + 0, seen + 0 > "/tmp/converted"
}'

# Kills every process of a session; Debian's busybox has no pkill.
end_session() {
    awk -v session="$1" '{ pid = $1; sub(/^.*\) /, ""); if ($4 == session) print pid }' /proc/[0-9]*/stat 2>/dev/null |
        while read -r pid; do
            kill -KILL "$pid" 2>/dev/null
        done
}

run() {
    program=$1
    echo "# program $program" >&3
    echo "=== $program"
    mkfifo /tmp/output
    tee /dev/ttyS0 </tmp/output | awk -v program="$program" -v count="$count" -v failed="$failed" "$CONVERT" >&3 &
    # In a session of its own, so that what it leaves behind can be ended too.
    setsid sh -c 'echo $$ >/tmp/session; exec timeout -s KILL "$0" "$1"' \
        "$PROGRAM_SECONDS" "/tests/$program" >/tmp/output 2>&1 3>&-
    status=$?
    end_session "$(cat /tmp/session)"
    wait
    rm /tmp/output
    failed_before=$failed
    read -r count failed kind expected seen </tmp/converted
    [ "$status" != 137 ] || echo "# killed: it took longer than $PROGRAM_SECONDS s, or memory ran out" >&3
    if [ "$kind" = cases ]; then
        # A crash, a program that ends early, and failures outside of any case.
        if [ "$seen" != "$expected" ]; then
            echo "$seen of $expected cases ended; exit status $status" >$notes
            report "not ok" "$program ran_to_its_end"
        elif [ "$expected" = 0 ]; then
            echo "there is no test case in it" >$notes
            report "not ok" "$program has_tests"
        elif [ "$status" != 0 ] && [ "$failed" = "$failed_before" ]; then
            echo "exit status $status, though no case failed" >$notes
            report "not ok" "$program exit_status"
        fi
    else
        case $status in
        0) report ok "$program script" ;;
        4) report ok "$program script" SKIP ;;
        *)
            echo "exit status $status" >$notes
            report "not ok" "$program script"
            ;;
        esac
    fi
    check_log "$program"
}

echo "KTAP version 1" >&3
echo "# kernel $(uname -r), up for $(cut -d' ' -f1 /proc/uptime) s" >&3

quiet_faults
# Not ours, and to go when the core marks them: whoever asks for a capability sets
# a flag in his own task, and other CPUs read a kernel thread's flags to move it
# about (kthread_data, kthread_is_per_cpu); a work item that is queued once more
# says so in a word that the worker reads (queue_work_on).
if [ -e /sys/kernel/debug/kcsan ]; then
    for function in ns_capable process_one_work; do
        echo "!$function" >/sys/kernel/debug/kcsan
    done
fi
check_log boot
if [ -n "$CHECKS" ]; then
    # shellcheck disable=SC2086
    if all_active $CHECKS; then
        report ok "kernel checks_what_it_should"
    else
        report "not ok" "kernel checks_what_it_should"
    fi
fi

# What a program unloaded is there again for the next one.
load_modules() {
    loaded=
    while read -r file parameters; do
        loaded="$file $loaded"
        ! grep -q "^$(echo "${file%.ko}" | tr - _) " /proc/modules || continue
        # shellcheck disable=SC2086
        if ! insmod "/modules/$file" $parameters 2>/tmp/insmod; then
            { cat /tmp/insmod; dmesg | tail -n 5; } >$notes
            report "not ok" "modules load_${file%.ko}"
        fi
    done </modules/order
}

while read -r program <&4; do
    load_modules
    run "$program"
done 4</tests/order

[ ! -e /sys/kernel/debug/kmemleak ] || keep_symbols

# A module that does not go has lost a reference.
if [ -n "$loaded" ]; then
    stuck=
    for file in $loaded; do
        name=$(echo "${file%.ko}" | tr - _)
        tries=0
        while grep -q "^$name " /proc/modules && ! rmmod "$name" 2>/tmp/rmmod; do
            tries=$((tries + 1))
            [ "$tries" -lt 5 ] || {
                stuck="$stuck $name ($(cat /tmp/rmmod))"
                break
            }
            sleep 1
        done
    done
    if [ -z "$stuck" ]; then
        report ok "modules unload"
    else
        echo "stuck:$stuck" >$notes
        report "not ok" "modules unload"
    fi
fi

case " $CHECKS " in
*" kmemleak "*)
    if leaks; then
        head -n 100 /tmp/leaks >$notes
        report "not ok" "kernel kmemleak"
    else
        report ok "kernel kmemleak"
    fi
    ;;
esac
if [ -n "$CHECKS" ]; then
    # shellcheck disable=SC2086
    if all_active $CHECKS; then
        report ok "kernel still_checks"
    else
        report "not ok" "kernel still_checks"
    fi
fi

# Late work (RCU callbacks, work items) still has its say.
sleep 1
check_log end
if [ -n "$log_problem" ]; then
    echo "$log_problem" >$notes
    report "not ok" "kernel log_is_complete"
elif [ "$log_is_clean" = yes ]; then
    report ok "kernel log_is_clean"
fi
if [ -s /tmp/core_races ]; then
    # The kernel's own, with none of our modules in either stack.
    echo "# races in the kernel itself, which it has without us:" >&3
    sort /tmp/core_races | uniq -c | sed 's/^/# /' >&3
fi

echo "1..$count" >&3
echo "# up for $(cut -d' ' -f1 /proc/uptime) s" >&3
if [ "$failed" = 0 ]; then
    echo "pass $count" >&3
else
    echo "fail $failed of $count" >&3
fi
exec 3>&-
# What the console has from here on, no scan has seen.
echo "=== the verdict is written"
sync
poweroff -f
