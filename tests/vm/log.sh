# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# Sourced by init.sh: the kernel's log, all of it, and what in it is a defect.
#
#   start_log        from here on every line is kept
#   new_splats       true if what is new since the last look holds a splat, which
#                    is then in the file /tmp/splats, with what surrounds it
#   log_problem      not empty: why the log cannot be trusted
#   /tmp/core_races  KCSAN's reports that are none of ours, a line each
# shellcheck disable=SC2034

# What the kernel never says when all is well.
SPLAT='(^|[^A-Z_])BUG[: ]|WARNING:|Oops|Call Trace:|general protection|invalid opcode|divide error'
SPLAT="$SPLAT|KASAN|UBSAN|KFENCE|kmemleak: [0-9]+ new|refcount_t:|ref_tracker|corruption|Bad page"
SPLAT="$SPLAT|unregister_netdevice: waiting|blocked for more than|soft lockup|hard LOCKUP|detected.* stall|self-detected"
SPLAT="$SPLAT|circular locking|recursive locking|inconsistent lock state|suspicious RCU usage|lock held when returning"
SPLAT="$SPLAT|non-static key|sleeping function called|scheduling while atomic|DEBUG_LOCKS_WARN|stack-protector"
SPLAT="$SPLAT|page allocation failure|Uhhuh|unknown reason|Unknown symbol|disagrees about version|segfault at"
# A check that turned itself off finds nothing more.
SPLAT="$SPLAT|turning off the locking|ODEBUG|kmemleak: .*([Dd]isabled|annot allocate a kmemleak_object|[Uu]nknown object|[Ii]nvalid|empty)"

log_seen=0
log_marks=0
log_problem=

# The log is a ring: what nobody reads in time is lost. Each record has a number,
# so that a gap shows.
start_log() {
    : >/tmp/core_races
    : >/tmp/kmsg
    (setsid cat /dev/kmsg >/tmp/kmsg 2>/tmp/kmsg.end &)
}

# /dev/kmsg's "PRIORITY,NUMBER,MICROSECONDS,…;TEXT" to dmesg's "[SECONDS] TEXT". Lines
# that begin with a blank are what devices say of themselves.
# shellcheck disable=SC2016 # awk's, not the shell's
AS_DMESG='
/^ / { next }
{
    text = index($0, ";")
    split(substr($0, 1, text - 1), field, ",")
    if (field[2] + 0 != expected) lost = lost " " expected "-" field[2] - 1
    expected = field[2] + 1
    text = substr($0, text + 1)
    gsub(/\\x09/, " ", text)
    printf "[%12.6f] %s\n", field[3] / 1000000, text
}
END { if (lost != "") print lost > "/tmp/lost" }'

# A report of KCSAN ends with a line of "=". It is ours if a module is near the access in
# one of the two stacks: a module of any name, because a kernel that has KCSAN has all of
# its own built in; or an address in none of its functions, as in a module that was unloaded.
# Near: it is among the first three frames, which leaves room for memcpy() and its like. The
# kernel has races of its own in what everybody calls, such as between pollwake() and
# poll_schedule_timeout(), and six calls above pollwake() may well be a module.
# Everything else that was said meanwhile is passed on, and so is a report without an end.
# Passed over, too: the stack that the OOM killer shows where a test said that it is to come.
# shellcheck disable=SC2016 # awk's, not the shell's
EXPECTED='
function end_report(complete) {
    if (!complete || ours) printf "%s", report
    else print title > "/tmp/core_races.new"
    report = ""
}
{
    text = $0
    sub(/^\[ *[0-9.]+\] /, "", text)
}
text == "nlmmap-test: the OOM killer is expected from here" { oom_expected = 1 }
text == "nlmmap-test: the OOM killer is expected no longer" { oom_expected = oom = 0 }
oom_expected && / invoked oom-killer: / { oom = 1 }
oom && text == "Call Trace:" { oom = 0; next }
text ~ /^BUG: KCSAN: / {
    if (report != "") end_report(0)
    title = substr(text, 13)
    report = $0 "\n"
    ours = 0
    next
}
report == "" { print; next }
text !~ /^(=====|$|CPU: )/ && text ~ splat { print; next }
{ report = report $0 "\n" }
text ~ / by (task|interrupt)/ { depth = 0 }
text ~ /^ / { depth++ }
(depth <= 3 || text ~ /reordered to: /) && (text ~ /\+0x[0-9a-f]+\/0x[0-9a-f]+ \[[A-Za-z0-9_]+\]/ || text ~ /^ +0xffff[0-9a-f]+$/) { ours = 1 }
text ~ /^=====/ { end_report(1) }
END { if (report != "") end_report(0) }'

# read_log: what is new is in /tmp/log.new.
read_log() {
    log_marks=$((log_marks + 1))
    log_tries=0
    echo "nlmmap-vm: mark $log_marks" >/dev/kmsg
    until [ -n "$log_problem" ] || grep -q ";nlmmap-vm: mark $log_marks\$" /tmp/kmsg; do
        log_tries=$((log_tries + 1))
        # The reader ends where lines were lost before it read them, and says so.
        if [ "$log_tries" -ge 300 ] || [ -s /tmp/kmsg.end ]; then
            log_problem="it cannot be read any more: $(cat /tmp/kmsg.end)"
            break
        fi
        usleep 100000
    done
    # From the start, for the numbers' sake; a line still being written is for the next look.
    rm -f /tmp/lost
    awk "$AS_DMESG" /tmp/kmsg >/tmp/log.all || log_problem="it cannot be read"
    [ ! -e /tmp/lost ] || log_problem="these lines of it are lost:$(cat /tmp/lost)"
    # Up to our mark: what follows is for the next look.
    awk -v seen="$log_seen" -v mark="] nlmmap-vm: mark $log_marks" '
        NR > seen { print }
        index($0, mark) && substr($0, length($0) - length(mark) + 1) == mark { exit }' /tmp/log.all >/tmp/log.new || log_problem="it cannot be read"
}

new_splats() {
    read_log
    # A report that another CPU is still writing.
    if [ "$(grep -c 'BUG: KCSAN: ' /tmp/log.new)" -gt 0 ]; then
        sleep 1
        read_log
    fi
    log_seen=$((log_seen + $(wc -l </tmp/log.new)))
    rm -f /tmp/core_races.new
    awk -v splat="$SPLAT" "$EXPECTED" /tmp/log.new >/tmp/log.judged || log_problem="it cannot be judged"
    [ ! -e /tmp/core_races.new ] || cat /tmp/core_races.new >>/tmp/core_races
    # From a little before the first one on.
    awk -v splat="$SPLAT" '
        found { if (++lines <= 150) print; next }
        { before[NR % 5] = $0 }
        $0 ~ splat { found = 1; for (i = NR - 4; i <= NR; i++) if (i > 0) print before[i % 5] }
        END { exit !found }' /tmp/log.judged >/tmp/splats
    # 1: none; anything else but 0: who knows.
    [ "$?" != 1 ]
}
