# SPDX-License-Identifier: MIT
# shellcheck shell=dash
#
# Sourced by init.sh: that this kernel checks what it is said to check, and goes
# on doing so. Which checks those are comes from the matrix, not from what is
# there: a check that is missing finds nothing, which looks like all is well.
# shellcheck disable=SC2154 # init.sh has the file notes

# has OPTION…: the kernel was built with them.
has() {
    [ -s /tmp/config ] || zcat /proc/config.gz | sed -n 's/^CONFIG_\(.*\)=y$/\1/p' | tr '\n' ' ' >/tmp/config || return 1
    read -r configured </tmp/config
    for option in "$@"; do
        # No process for each: there are many, and slow ones.
        case " $configured " in
        *" $option "*) ;;
        *)
            echo "without CONFIG_$option"
            return 1
            ;;
        esac
    done
}

# said TEXT: the kernel's log has it.
said() {
    grep -qF "$1" /tmp/log.all || {
        echo "the log lacks '$1'"
        return 1
    }
}

# holds FILE REGEX: a line of the file matches.
holds() {
    grep -qE "$2" "$1" || {
        echo "$1 has no line that matches '$2'"
        return 1
    }
}

# active CHECK: true if the kernel makes this check now; else says why not.
active() {
    case $1 in
    kasan) has KASAN KASAN_VMALLOC && said "KernelAddressSanitizer initialized" ;;
    kcsan)
        has KCSAN KCSAN_STRICT && holds /sys/kernel/debug/kcsan '^enabled: 1$' &&
            holds /sys/kernel/debug/kcsan '^ ns_capable$' &&
            holds /sys/kernel/debug/kcsan '^ process_one_work$'
        ;;
    lockdep) has PROVE_LOCKING LOCKDEP && holds /proc/lockdep_stats '^ *debug_locks: +1$' ;;
    rcu) has PROVE_RCU ;;
    atomic_sleep) has DEBUG_ATOMIC_SLEEP ;;
    # It takes no orders once it gave up; stacks are on anyway.
    kmemleak) has DEBUG_KMEMLEAK && echo stack=on >/sys/kernel/debug/kmemleak ;;
    ubsan) has UBSAN UBSAN_BOUNDS UBSAN_SHIFT ;;
    objects) has DEBUG_OBJECTS DEBUG_OBJECTS_FREE DEBUG_OBJECTS_TIMERS DEBUG_OBJECTS_WORK && cat /sys/kernel/debug/debug_objects/stats >/dev/null ;;
    fault_injection) has FAILSLAB FAIL_PAGE_ALLOC FAULT_INJECTION_USERCOPY && cat /proc/self/fail-nth /sys/kernel/debug/failslab/times >/dev/null ;;
    kcov) has KCOV && [ -e /sys/kernel/debug/kcov ] ;;
    *)
        echo "nobody knows this check"
        return 1
        ;;
    esac 2>&1
}

# all_active CHECK…: explains in the file notes what is not.
all_active() {
    missing=
    for check in "$@"; do
        if ! why=$(active "$check"); then
            missing=yes
            echo "$check: $why" >>"$notes"
        fi
    done
    [ -z "$missing" ]
}

# Failures that a test injects are no news, and have no place in the log.
quiet_faults() {
    for verbose in /sys/kernel/debug/fail*/verbose; do
        [ ! -e "$verbose" ] || echo 0 >"$verbose"
    done
}

# Addresses in modules, for stacks in reports that come when they are unloaded.
keep_symbols() {
    grep '\[' /proc/kallsyms | sort >/tmp/symbols
}

# symbolise: names what keep_symbols() knew. Addresses have the same width, so
# they compare as strings do.
symbolise() {
    awk '
        FILENAME == "/tmp/symbols" { address[++known] = $1; name[known] = $3 " " $4; next }
        match($0, /0x?[0-9a-f]+$/) && known && /^ +\[<|^ +0x/ {
            at = substr($0, RSTART + 2)
            found = 0
            for (i = 1; i <= known && address[i] <= at; i++) found = i
            # Farther away than a function is long, it is in something else.
            if (found && substr(address[found], 1, 11) == substr(at, 1, 11)) {
                print $0 " " name[found]
                next
            }
        }
        { print }' /tmp/symbols -
}

uptime_seconds() { cut -d. -f1 /proc/uptime; }

# leaks: true if kmemleak found memory that nothing points to, or does not tell.
leaks() {
    # An object is reported when two scans did not find it, and it is five
    # seconds old when the second begins. The first one takes some of them.
    echo "kmemleak does not scan any more" >/tmp/leaks
    since=$(uptime_seconds)
    echo scan >/sys/kernel/debug/kmemleak || return 0
    while [ $(($(uptime_seconds) - since)) -lt 6 ]; do
        usleep 200000
    done
    echo scan >/sys/kernel/debug/kmemleak || return 0
    cat /sys/kernel/debug/kmemleak >/tmp/found || return 0
    symbolise </tmp/found >/tmp/leaks
    [ -s /tmp/found ]
}
