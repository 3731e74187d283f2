# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Telling the user what goes on, on standard error.

nlmmap_say() {
    printf '%s\n' "$*" >&2
}

nlmmap_die() {
    printf '%s: %s\n' "$NLMMAP_PROGRAM" "$*" >&2
    exit 1
}

# "1 min 5 s" of a number of seconds.
nlmmap_duration() {
    if [ "$1" -ge 60 ]; then
        printf '%d min %d s' $(($1 / 60)) $(($1 % 60))
    else
        printf '%d s' "$1"
    fi
}

# The log file that nlmmap_step writes for a label.
nlmmap_step_log() {
    printf '%s/%s.log' "$NLMMAP_LOGS" "$(printf '%s' "$1" | tr -c 'A-Za-z0-9._-' '-')"
}

# Shows that a long command lives, until it is killed: on a terminal a line that
# is rewritten every second, elsewhere a line every 20 seconds.
nlmmap_ticker() {
    local label=$1 log=$2 begun=$SECONDS last
    # It ends with the program too: an interrupt does not reach it.
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        # Bazel's lines of progress begin with a bracket; what it passes on says less.
        last=$(tail -c 4000 "$log" 2>/dev/null | tr '\r' '\n' | tr -cd '[:print:]\n' |
            awk '/^\[/ { progress = $0 } NF { last = $0 } END { print substr(progress != "" ? progress : last, 1, 100) }') || true
        if [ -t 2 ]; then
            printf '\r\033[K%s … %s  %s' "$label" "$(nlmmap_duration $((SECONDS - begun)))" "$last" >&2
        elif [ $(((SECONDS - begun) % 20)) -eq 0 ]; then
            printf '  … %s, %s: %s\n' "$label" "$(nlmmap_duration $((SECONDS - begun)))" "$last" >&2
        fi
    done
}

nlmmap_step() {
    local label=$1 log status=0 begun=$SECONDS ticker
    shift
    log=$(nlmmap_step_log "$label")
    mkdir -p "$NLMMAP_LOGS"
    : >"$log"
    nlmmap_ticker "$label" "$log" &
    ticker=$!
    # In a subshell, so that a function that is passed may change folders. Where
    # nlmmap_step stands before `||` bash ignores `set -e` in it, all the way
    # down: a function that is passed has to test what it calls.
    ("$@") </dev/null >"$log" 2>&1 || status=$?
    # The ticker's `sleep` ends by itself within a second.
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    if [ -t 2 ]; then
        printf '\r\033[K' >&2
    fi
    if [ "$status" = 0 ]; then
        nlmmap_say "$label: ok ($(nlmmap_duration $((SECONDS - begun))))"
    else
        nlmmap_say "$label: FAILED ($(nlmmap_duration $((SECONDS - begun)))); from $log:"
        # What went wrong may be far from the end.
        head -n -30 "$log" | grep -aE '(^|[^[:alnum:]])(error|ERROR|FAIL|FAILED|not ok)([: ]|$)' | cut -c 1-300 | head -n 20 | sed 's/^/    /' >&2 || true
        tail -n 30 "$log" | sed 's/^/    /' >&2
    fi
    return "$status"
}
