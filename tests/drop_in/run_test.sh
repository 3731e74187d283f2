#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2016,SC2317
#
# Debian's own programs, unmodified, and some of ours that know nothing of rings, in a guest: most
# listen twice while a burst comes that they are too slow for (they are stopped meanwhile): as they
# are, and by `nlmmap run`. The first loses most, the second nothing. /programs.tar has the programs and
# their libraries, /stock.tar the kernel's modules that conntrack and NFLOG need, if they are modules.
# Prints KTAP.

tar -C / -xf /programs.tar || exit 1
tar -C / -xf /stock.tar || exit 1
work=$(mktemp -d /tmp/run.XXXXXX)
cd "$work" || exit 1
count=0
failed=0

verdict() { # verdict STATUS NAME
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
        return
    fi
    failed=$((failed + 1))
    echo "not ok $count - $2"
    for file in out err; do
        [ -e $file ] || continue
        echo "# $file, of $(wc -l <$file) lines:"
        { head -n 5 $file; tail -n 5 $file; } | cut -c1-200 | sed 's/^/#   /'
    done
}

patience=${NLMMAP_PATIENCE:-1}

# until_true COMMAND...: waits for it, 20 s at most on a stock kernel.
until_true() {
    tries=0
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt $((200 * patience)) ] || return 1
        usleep 100000
    done
}

# How many events of the kind a program printed, each counted once: those whose numbers, which the
# burst gave them, are FIRST and the COUNT after it. In one process: to start one takes long here.
events_in() { # events_in FILE FIRST COUNT
    awk -v kind="$kind" -v first="$2" -v count="$3" '
        function found(pattern) {
            if (!match($0, pattern)) return 0
            split(substr($0, RSTART, RLENGTH), part, ".")
            number = (part[2] - 16) * 65536 + part[3] * 256 + part[4]
            return 1
        }
        kind == "addresses" && (/[Dd]eleted/ || /^DEL/ || !found("127[.][0-9]+[.][0-9]+[.][0-9]+")) { next }
        kind == "conntrack" && (!/NEW/ || !found("dst=10[.][0-9]+[.][0-9]+[.][0-9]+")) { next }
        kind == "packets" { if ($1 != "packet") next; number = $2 }
        number >= first && number < first + count && !seen[number]++ { total++ }
        END { print total + 0 }' "$1"
}

# More events, one after the other, until the program has printed one of them: then it has also
# printed what came before, though it may print by the page.
marker=100000
seen_marker() {
    burst "$kind" "$marker" 100
    marker=$((marker + 100))
    [ "$(events_in out "$1" $((marker - $1)))" -gt 0 ]
}

# What the program is doing, and for how long it has done anything.
look() {
    read -r line <"/proc/$pid/stat" || return 1
    # shellcheck disable=SC2086 # fields are words
    set -- $line
    state=$3 ticks="${14} ${15}"
}

# The program sleeps, and has done nothing for a while: it waits for events. Before, some fail
# if one comes: what they ask for as they start is answered on the same socket.
is_settled() {
    look && [ "$state" = S ] && before=$ticks && usleep 250000 && look && [ "$state $ticks" = "S $before" ]
}

uptime() {
    read -r up _ </proc/uptime
    echo "$up"
}

next=1000
# Enough to overflow the largest of the sockets here, that of ip.
burst=1000
# listen COMMAND...: how many events of a burst it printed, in printed.
listen() {
    first=$next next=$((next + burst))
    "$@" >out 2>err </dev/null &
    pid=$!
    until_true is_settled || echo "# it does not wait"
    until_true seen_marker $marker || echo "# it does not listen"
    echo "# $1 ... listens, up for $(uptime) s"
    kill -STOP $pid
    burst $kind $first $burst || echo "# burst failed"
    kill -CONT $pid
    until_true seen_marker $marker || echo "# it printed nothing after the burst"
    printed=$(events_in out "$first" "$burst")
    kill $pid
    wait $pid 2>/dev/null
}

loses_most() { [ "$printed" -gt 0 ] && [ "$printed" -lt $((burst * 3 / 4)) ]; }

# What else `nlmmap run` is told.
options=
compare() { # compare NAME COMMAND...
    name=$1
    shift
    listen "$@"
    echo "# $name: $printed of $burst as it is"
    loses_most
    verdict $? "$name loses messages of a burst"
    # shellcheck disable=SC2086 # options are words
    listen nlmmap run --ring-bytes 8M $options -- "$@"
    echo "# $name: $printed of $burst by nlmmap run"
    [ "$printed" = $burst ] && ! grep -q 'stays without a ring' err
    verdict $? "$name loses none by nlmmap run"
}

PATH=/programs:$PATH

kind=addresses
compare "ip monitor" /programs/ip monitor address
# The others' are as the system makes them, or smaller.
[ "$patience" = 1 ] || burst=600
compare "nl-monitor" /programs/nl-monitor -f brief ipv4-ifaddr

if [ -s /stock/order ]; then
    while read -r module; do
        insmod "/stock/$module" || exit 1
    done </stock/order
fi
echo 200000 >/proc/sys/net/netfilter/nf_conntrack_max
kind=conntrack
compare "conntrack -E" /programs/conntrack -E

# nfnetlink_log tells one socket alone, which joins no group.
kind=packets
log_rule add 1 || exit 1
options=--all
compare "a listener to NFLOG" /programs/packet_log 1
options=
listen nlmmap run --ring-bytes 8M -- /programs/packet_log 1
echo "# $printed of $burst by nlmmap run without --all"
loses_most && ! grep -q '^nlmmap' err
verdict $? "without --all a socket that joins no group stays as it is"
log_rule remove || exit 1

# One socket for listening and asking, and room for 4096 bytes: what it prints of the thousands of
# addresses that there are by now, and of those that come.
kind=addresses
is_over() { [ ! -d "/proc/$pid" ] || [ "$(cut -d' ' -f3 "/proc/$pid/stat")" = Z ]; }
asks_and_listens() { # asks_and_listens FIRST COMMAND...
    asks_first=$1
    shift
    "$@" >out 2>err </dev/null &
    pid=$!
    until_true grep -q '^dumped$' out && burst addresses "$asks_first" 50
    until_true is_over || kill $pid
    wait $pid
}
marker=$((marker + 1000))
asks_and_listens $marker /programs/small_buffer 50
verdict $? "a program with a small buffer asks and listens on one socket"
sed -n 's/^dump //p; s/^event //p' out | sort >before
asks_and_listens $((marker + 50)) nlmmap run -- /programs/small_buffer 50
status=$?
sed -n 's/^dump //p' out | sort >dumped
[ $status = 0 ] && [ ! -s err ] && [ "$(grep -c '^event ' out)" = 50 ] &&
    [ "$(wc -l <dumped)" -gt $burst ] && cmp before dumped >&2
verdict $? "nlmmap run gives it the same parts of a dump, and the same events"
marker=$((marker + 100))

rm -f out err
nlmmap run -- preloaded >out 2>err
status=$?
sed 's/^/# /' out
[ $status = 0 ] && [ ! -s err ] && grep -q '^1\.\.' out && ! grep -q '^not ok' out
verdict $? "a program receives by every function of libc"

nlmmap run ip -o address show lo >out 2>err
status=$?
[ $status = 0 ] && grep -q '127\.0\.0\.1' out && [ ! -s err ]
verdict $? "a program that only asks is answered as ever"

nlmmap run sh -c 'exit 7' >out 2>err
[ $? = 7 ]
verdict $? "its exit status is the program's"

nlmmap run -- sh -c 'echo "$0" "$@"' --json -x >out 2>err
[ "$(cat out)" = "--json -x" ]
verdict $? "its options are the program's"

end() {
    kill "$pid"
    wait "$pid" 2>/dev/null
}

# Twice the ring, and more than the program needs.
sh -c 'ulimit -v 100000; exec nlmmap run --ring-bytes 64M -- /programs/ip monitor address' >out 2>err &
pid=$!
until_true seen_marker $marker
verdict $? "a program that has no room for a ring goes on without"
end
grep -q '^nlmmap run: descriptor [0-9]* stays without a ring: .*RLIMIT_AS' err && [ "$(grep -c '^nlmmap' err)" = 1 ]
verdict $? "and one line says what it lacks"

chmod 755 / /bin /programs
[ -e /etc/passwd ] || printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >/etc/passwd
kind=addresses
# Without the right to a ring, but with that to listen. Nothing forks: what is ended is the program.
unprivileged() { exec su nobody -s /bin/sh -c "exec $1"; }
unprivileged 'nlmmap run -- /programs/ip monitor address' >out 2>err &
pid=$!
until_true seen_marker $marker
verdict $? "a program that may have no ring goes on without"
end
grep -q '^nlmmap run: descriptor [0-9]* stays without a ring: .*CAP_NET_ADMIN' err && [ "$(grep -c '^nlmmap' err)" = 1 ]
verdict $? "and one line says why"
unprivileged 'nlmmap run --quiet -- /programs/ip monitor address' >out 2>err &
pid=$!
until_true seen_marker $marker && ! grep -q '^nlmmap' err
verdict $? "or none, if it was told to be quiet"
end

nlmmap run >out 2>err
[ $? = 2 ] && grep -q PROGRAM err
verdict $? "without a program it says what lacks"
nlmmap run -- /no/such/program >out 2>err
[ $? = 1 ] && grep -q '/no/such/program: No such file' err
verdict $? "a program that there is not is named"
nlmmap run --ring-bytes 5000 -- true >out 2>err
[ $? = 1 ] && grep -q 8192 err
verdict $? "a size that is no power of two is answered by one that is"

grep -q '^nf_conntrack_netlink ' /proc/modules && tac /stock/order | while read -r module; do
    rmmod "$module" 2>/dev/null
done
echo "1..$count"
exit $((failed != 0))
