#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2016
#
# The command-line programs as a user calls them, in a guest with busybox: /bin/nlmmap, /bin/nlmmap-record,
# whose shared libraries are in /libraries.tar, /bin/consumer, /bin/epoll_loop, the helpers /bin/produce
# and /bin/json_value, and in /modules nlmmap.ko, nlmmap_test.ko and process_events.ko, loaded or not.
# Says `ok N - what` or `not ok N - what`, with what happened instead, and how long it took; exits 1 if
# anything failed. The modules are loaded when it ends.

export PATH=/bin:/sbin
tar -x -C / -f /libraries.tar || exit 1
work=$(mktemp -d /tmp/programs.XXXXXX)
chmod 755 / /bin "$work"
cd "$work" || exit 1
count=0
failed=0

# took: the hundredths of a second since the last time.
took() {
    read -r now _ </proc/uptime
    now=${now%.*}${now#*.}
    echo "# time ${now}0 ms, $((now - ${then:-now}))0 ms more"
    then=$now
}

verdict() { # verdict STATUS NAME
    took
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
        return
    fi
    failed=$((failed + 1))
    echo "not ok $count - $2"
    echo "# status $status; standard output and error:"
    head -c 2000 out | sed 's/^/#   /'
    echo
    head -c 2000 err | sed 's/^/#   /'
}

# run COMMAND...: its output in out and err, its exit status in status.
run() {
    timeout 20 "$@" >out 2>err </dev/null
    status=$?
}

as_nobody() { run su nobody -s /bin/sh -c "$1"; }

# expect NAME STATUS [FILE REGULAR-EXPRESSION]...: of what run() left.
expect() {
    expect_name=$1
    [ "$status" = "$2" ] || { verdict 1 "$expect_name"; return; }
    shift 2
    while [ $# -ge 2 ]; do
        if ! grep -qE -e "$2" "$1"; then
            echo "# no line of $1 matches: $2"
            verdict 1 "$expect_name"
            return
        fi
        shift 2
    done
    verdict 0 "$expect_name"
}

# until_true COMMAND...: waits for it, 10 s at most.
until_true() {
    tries=0
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || return 1
        usleep 100000
    done
}

loaded() { grep -q "^$1 " /proc/modules; }
load() { loaded "$1" || insmod "/modules/$1.ko"; }
unload() { ! loaded "$1" || rmmod "$1"; }

# start_producer GROUP public|private [MAX_BYTES]: say() talks to it, stop_producer() ends it by closing descriptor 4,
# which nobody else may hold open: hence 4>&- below.
start_producer() {
    rm -f commands produced
    mkfifo commands
    produce "$@" <commands >produced 2>&1 &
    producer=$!
    exec 4>commands
    said=0
    until_true grep -q ready produced || { echo "Bail out! the producer does not start: $(cat produced)"; exit 1; }
}
say() {
    said=$((said + 1))
    echo "$1" >&4
    until_true has_lines produced $((said + 1)) || echo "# the producer did not do: $1: $(cat produced)"
}
stop_producer() {
    exec 4>&-
    wait "$producer"
}
has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
members() { nlmmap list --json | json_value /groups/0/members; }
has_members() { [ "$(members)" = "$1" ]; }
# Nor is there anybody where there is no group.
nobody_left() { case $(members) in 0 | -) ;; *) return 1 ;; esac; }

[ -e /etc/passwd ] || printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >/etc/passwd
unload process_events
unload nlmmap_test
unload nlmmap

# --- the command line, with no module loaded

run nlmmap --help
expect "help says what the commands are and gives examples" 0 out '^  list ' out '^  watch ' out '^  record ' out '^  stat ' out '^Examples:'
for command in list watch record stat; do
    run nlmmap $command --help
    expect "$command --help gives examples" 0 out '^Examples:' out "nlmmap $command"
done
run nlmmap --version
expect "--version says the version" 0 out '^nlmmap [0-9]+\.[0-9]+'
run nlmmap
expect "no command at all is a usage error with the help" 2 err 'Subcommands:'
run nlmmap lst
expect "an unknown command is named, with those that there are" 2 err 'no command `lst`: say list, watch, record,? [a-z, ]*stat'
run nlmmap watch
expect "watch without a group is a usage error" 2 err 'GROUP is required' err 'nlmmap watch --help'
run nlmmap watch --ring-bytes 3x group
expect "a size that is none says what would be" 2 err '`3x` is no size: say bytes, or a number with k, M or G'
run nlmmap watch --ring-bytes -1 group
expect "a negative size is none" 2 err '`-1` is no size'
run nlmmap watch --watermark 8G group
expect "a watermark over the limit says the limit" 2 err '4294967295 bytes at most'
run nlmmap watch --count 0 group
expect "a count of zero is none" 2 err '`0` is no count'
run nlmmap stat -i 0
expect "an interval of zero says what would do" 2 err 'from 0.01 to 86400'
for command in "nlmmap list" "nlmmap watch group" "nlmmap watch route:link" "nlmmap record -w -" "nlmmap stat" "consumer group" "epoll_loop group"; do
    # shellcheck disable=SC2086
    run $command
    expect "$command says that the module is not loaded, and how to load it" 1 err 'not loaded' err 'modprobe nlmmap'
done
mkdir -p installed/bin installed/libexec/nlmmap
cp /bin/nlmmap installed/bin/
run installed/bin/nlmmap record -w -
expect "record without its program says what is missing, and how to build it" 1 err '^nlmmap: nlmmap-record, .*/installed/bin nor in .*nlmmap:nlmmap-record'
cp /bin/nlmmap-record installed/libexec/nlmmap/
run installed/bin/nlmmap record -w -
expect "record finds its program where it is installed" 1 err 'modprobe nlmmap'
chown 65534 installed/libexec/nlmmap/nlmmap-record
run installed/bin/nlmmap record -w -
expect "record does not run what belongs to somebody else" 1 err 'nlmmap-record is not run: it belongs neither to root'
chown 65534 installed/bin/nlmmap
run installed/bin/nlmmap record -w -
expect "record runs what belongs to the owner of nlmmap" 1 err 'modprobe nlmmap'
chmod 777 installed/libexec/nlmmap/nlmmap-record
run installed/bin/nlmmap record -w -
expect "record does not run what everybody may write to" 1 err 'nlmmap-record is not run: everybody may write'
rm -r installed
for help in "consumer -h" "consumer --help" "epoll_loop -h" "epoll_loop --help"; do
    # shellcheck disable=SC2086
    run $help
    expect "$help prints its usage" 0 out "^usage: ${help%% *} GROUP"
done
run consumer
expect "consumer without a group is a usage error" 2 err '^usage: consumer'
run consumer group -1
expect "consumer does not take a negative count" 2 err '^usage: consumer'
run epoll_loop group --egde
expect "epoll_loop does not take an unknown option" 2 err '^usage: epoll_loop'

# --- no groups

load nlmmap || exit 1
run nlmmap list
expect "list says that there are no groups" 0 out '^No groups' out '^No sockets with rings'
run nlmmap watch group
expect "an unknown group is an error of one line" 1 err 'no such group'
[ "$(wc -l <err)" = 1 ]
verdict $? "the error takes one line"
run nlmmap stat
expect "stat says that there are no rings" 0 out '^No sockets with rings'

# --- groups

load nlmmap_test || exit 1
start_producer events public
run nlmmap list
expect "list shows the group" 0 out '^GROUP ' out '^events +[0-9]+ +anybody +256 +0 +no +0$'
run nlmmap list --json
json_value /groups/0/name /groups/0/public /groups/0/max_bytes /groups/0/members /sockets <out >values 2>>err
[ "$(cat values)" = "$(printf 'events\ttrue\t256\t0\t[]')" ]
verdict $? "list --json is JSON that says the same"
run nlmmap watch event
expect "a group that is not there is named with those that are" 1 err '"event"' err 'groups here: events'
run nlmmap watch --ring-bytes 1000 events
expect "a ring size that is not a power of two says what would do" 1 err 'power of two' err '4096'
run nlmmap watch --ring-bytes 0 events
expect "a ring size of zero is refused" 1 err 'zero'
run nlmmap watch --ring-bytes 1G events
expect "a ring size over the limit says where the limit is" 1 err 'max_ring_bytes'

as_nobody 'nlmmap list'
expect "an ordinary user sees the groups, and why not the sockets" 0 out '^events ' out 'CAP_NET_ADMIN'
as_nobody 'nlmmap list --json'
json_value /groups/0/name /sockets <out >values 2>>err
[ "$(cat values)" = "$(printf 'events\tnull')" ]
verdict $? "an ordinary user's list --json has null in place of the sockets"
as_nobody 'nlmmap stat'
expect "an ordinary user's stat says what it needs" 1 err 'CAP_NET_ADMIN'

# --- watch

# watching ARGUMENTS: starts a watch with its output in w.out, waits until it has joined.
watching() {
    nlmmap watch "$@" >w.out 2>w.err 4>&- &
    watcher=$!
    until_true has_members 1 || echo "# the watch did not join: $(cat w.err)"
}
# watched: waits for its end; what run() would leave.
watched() {
    wait "$watcher"
    status=$?
    cp w.out out
    cp w.err err
    until_true nobody_left || echo "# somebody is still a member"
}

watching --count 3 events
say "count 3"
watched
expect "watch prints a line for each message and ends after --count" 0 \
    out '^seq 1  events  type 256  104 bytes  1=0 \(0x0\)  2=0 \(0x0\)  3=\[' out '^seq 3  .*  1=2 \(0x2\)' err '^nlmmap: 3 messages, 0 records lost$'
[ "$(wc -l <out)" = 3 ]
verdict $? "it prints nothing else"

watching --json --time --count 2 events
say "count 2"
watched
json_value /event /group /seq /type /length /attributes/0/u64 <out >values 2>>err
[ "$(cat values)" = "$(printf 'message\tevents\t1\t256\t104\t3\nmessage\tevents\t2\t256\t104\t4')" ]
verdict $? "watch --json prints an object for each message"
json_value /boottime_ns /time <out | awk -v up="$(cut -d. -f1 /proc/uptime)" \
    '$1 / 1e9 > up + 1 || $1 / 1e9 < up - 60 || $2 !~ /^20[0-9-]*T[0-9:]*\.[0-9]*Z$/ { bad = 1 } END { exit bad || NR != 2 }'
verdict $? "--time tells when the kernel published it"

watching --hex --count 1 events
say "hex 41424344"
watched
expect "--hex dumps the message with its header" 0 out '^seq 1  events  type 300  20 bytes$' \
    out '^  00000000  14 00 00 00 2c 01 00 00  00 ' out '^  00000010  41 42 43 44 +\|ABCD\|$'

watching --fixed-header 4 --count 1 events
say "hex 010203040800010005000000"
watched
expect "--fixed-header steps over a producer's own header" 0 out '  header=\[01 02 03 04\]  1=5 \(0x5\)$'

# Terminal escapes in a string, a length that lies, a nest that is cut: shown as bytes.
watching --json --count 2 events
say "hex 0a0001001b5b324a41000000"
say "hex ff7f0180aabbccdd"
watched
json_value /attributes/0/hex /attributes/0/string /rest <out >values 2>>err
[ "$(cat values)" = "$(printf '1b5b324a4100\t-\t-\n-\t-\tff7f0180aabbccdd')" ]
verdict $? "hostile attributes leave the JSON valid"
watching --count 1 events
say "hex 0a0001001b5b324a41000000"
watched
! grep -q "$(printf '\033')" out
verdict $? "hostile attributes send a terminal no escapes"

watching events
kill -INT "$watcher"
watched
expect "SIGINT ends watch with a summary" 0 err '^nlmmap: 0 messages, 0 records lost$'
watching events
kill -TERM "$watcher"
watched
expect "SIGTERM does the same" 0 err '^nlmmap: 0 messages'

# The ring holds 32 records of 128 bytes at most. What a stopped reader misses is told exactly.
watching --ring-bytes 4k events
kill -STOP "$watcher"
say "count 200"
kill -CONT "$watcher"
until_true grep -q lost w.out
verdict $? "a loss is told though nothing follows it"
say "count 2"
until_true grep -q "^seq 202 " w.out
kill -INT "$watcher"
watched
expect "the loss stands in its place" 0 out '^-- lost [0-9]+ records \(seq [0-9]+ to 200\): the ring was full$' err 'nlmmap: [0-9]+ messages, [1-9][0-9]* records lost'
awk '/^seq / { if ($2 != next_seq + 1) exit 1; next_seq = $2; messages++ }
     /^-- lost / { first = $6; sub(/to.*/, "", first); if (first != next_seq + 1) exit 1; last = $8 + 0; if (last - first + 1 != $3) exit 1; next_seq = last; lost += $3 }
     END { exit !(next_seq == 202 && messages + lost == 202 && lost > 100) }' out
verdict $? "messages and losses together are all that was published, each once"

watching --json --ring-bytes 4k events
kill -STOP "$watcher"
say "count 100"
kill -CONT "$watcher"
until_true grep -q loss w.out
say "count 1"
until_true grep -q '"seq":101,' w.out
kill -INT "$watcher"
watched
json_value /event /seq /lost /first_seq /last_seq <out >values 2>>err &&
    awk '$1 == "message" { if ($2 != next_seq + 1) exit 1; next_seq = $2 }
         $1 == "loss" { if ($4 != next_seq + 1 || $5 - $4 + 1 != $3) exit 1; next_seq = $5; losses++ }
         END { exit !(next_seq == 101 && losses == 1) }' values
verdict $? "the same in JSON"

watching --watermark 64k events
say "count 1"
until_true grep -q "^seq 1 " w.out
verdict $? "under a watermark a message is shown all the same"
kill -INT "$watcher"
watched

run sh -c 'nlmmap watch events | true'
expect "watch ends when nobody reads its output, though nothing comes" 0
run sh -c 'nlmmap list >/dev/full'
expect "a full disk is an error" 1 err 'No space left on device'
watching events events --count 1
say "count 1"
watched
expect "a group said twice is joined once" 0 out '^seq 1 '

# --- stat

watching --ring-bytes 64k events
say "count 5"
until_true has_lines w.out 5
run nlmmap stat
expect "stat shows the ring" 0 out '^PROCESS +FAMILY +PORT +RING ' out "^nlmmap/$watcher +nlmmap +[0-9]+ +64k +0 .* events\$"
run nlmmap list
expect "list shows the socket and its process" 0 out '^events .* 1 +no +[0-9]+$' out "^nlmmap/$watcher +nlmmap +[0-9]+ +0 +64k +0 +events\$"
run nlmmap stat --json
json_value /sockets/0/processes/0/name /sockets/0/family /sockets/0/protocol /sockets/0/groups/0 /sockets/0/ring_bytes /sockets/0/seq /sockets/0/lost /sockets/0/produced /sockets/0/waiting <out >values 2>>err
[ "$(cat values)" = "$(printf 'nlmmap\tnlmmap\t30\tevents\t65536\t5\t0\t640\t0')" ]
verdict $? "stat --json says the same"
rm out # The background's shell may be slow to empty it.
nlmmap stat -i 2 --count 2 --json >out 2>err 4>&- &
pid=$!
until_true has_lines out 1
say "count 100"
wait $pid
status=$?
json_value /sockets/0/rates/messages_per_second <out >values 2>>err
awk 'NR == 1 && $1 != "-" { bad = 1 } NR == 2 && ($1 < 5 || $1 > 2000) { bad = 1 } END { exit bad || NR != 2 }' values
verdict $? "stat -i has rates from the second look on, of what came between the looks"
run nlmmap stat -i 0.2 --count 2
expect "stat -i has columns for the rates" 0 out 'MESSAGES/S +LOST/S'
kill -INT "$watcher"
watched

# --- permissions and the end of a group

watching events
stop_producer
watched
expect "watch ends with status 3 and a sentence when the group is deleted" 3 out '^-- group events was deleted' err '^nlmmap: 0 messages'
start_producer large public 4096
run nlmmap watch --ring-bytes 8k large
expect "a ring that is too small for the group says what would do" 1 err 'try --ring-bytes 16k'
as_nobody 'ulimit -l 64; nlmmap watch --ring-bytes 16M large'
expect "a ring over RLIMIT_MEMLOCK says what to do" 1 err 'RLIMIT_MEMLOCK' err 'ulimit -l'
stop_producer
start_producer secret private
as_nobody 'nlmmap watch secret'
expect "an ordinary user may not watch a private group" 1 err 'not public' err 'CAP_NET_ADMIN'
as_nobody 'consumer secret'
expect "consumer says the same" 1 err '^consumer: .*CAP_NET_ADMIN'
stop_producer

start_producer events public
su nobody -s /bin/sh -c 'exec nlmmap watch --ring-bytes 16k --count 1 events' >out 2>err &
watcher=$!
until_true has_members 1
say "count 1"
wait "$watcher"
status=$?
expect "an ordinary user may watch a public group" 0 out '^seq 1 '

# --- the examples

consumer events 2 >out 2>err 4>&- &
pid=$!
until_true has_members 1
say "count 2"
wait $pid
status=$?
expect "consumer prints records, messages and attributes" 0 out '^record 2$' out '^  type 256, 88 bytes$' out '^    attribute 2: 0$'
for edge in "" --edge; do
    # shellcheck disable=SC2086
    epoll_loop events $edge >out 2>err 4>&- &
    pid=$!
    until_true has_members 1
    for burst in 1 10 1000 1; do say "count $burst"; done
    until_true grep -q '^1012 messages, 0 lost$' out
    verdict $? "epoll_loop${edge:+ $edge} hears every burst"
    kill -TERM $pid
    wait $pid
    status=$?
    expect "epoll_loop${edge:+ $edge} ends at SIGTERM" 0 out '^1012 messages, 0 lost$'
    until_true has_members 0
done
consumer events >out 2>err 4>&- &
pid=$!
epoll_loop events --edge >out.edge 2>err.edge 4>&- &
edge_pid=$!
until_true has_members 2
stop_producer
wait $pid
status=$?
expect "consumer ends when the group is deleted" 0 out '^the group is gone'
wait $edge_pid
verdict $? "epoll_loop ends when the group is deleted"

# --- groups of other families

# has_rings COUNT: so many of other families, and none of nlmmap's own: whoever attaches asks by one first.
has_rings() { nlmmap list | awk -v count="$1" '$1 ~ "/" { all++; own += $2 == "nlmmap" } END { exit all + 0 != count || own }'; }
# attached COMMAND...: starts it with its output in w.out, waits until it has its ring; ended() waits for its end.
attached() {
    "$@" >w.out 2>w.err &
    watcher=$!
    until_true has_rings "${rings:-1}" || echo "# no ring was attached: $(cat w.err)"
}
ended() {
    wait "$watcher"
    status=$?
    cp w.out out
    cp w.err err
}
# netconf COUNT: as many events of route:ipv4-netconf, each because the value is another one.
forwarding=0
netconf() {
    i=0
    while [ $i -lt "$1" ]; do
        i=$((i + 1))
        forwarding=$((1 - forwarding))
        echo $forwarding >/proc/sys/net/ipv4/conf/lo/forwarding
    done
}
address() { ip addr "$1" 127.11.12.13/32 dev lo; }
echo 0 >/proc/sys/net/ipv4/conf/lo/forwarding

run nlmmap watch route:lnk
expect "a group that rtnetlink has not is named with those that it has" 1 err '`lnk` is no group of route: say link, notify, .*, or a number'
run nlmmap watch route:link,
expect "a comma with nothing behind it is refused" 1 err '`route:link,` lacks the name of a group'
run nlmmap watch genl:no_such
expect "a generic family that is not there is named" 1 err 'no generic netlink family `no_such`'
run nlmmap watch genl:nlctrl/no_such
expect "a group that a generic family has not is named with those that it has" 1 err '`nlctrl/no_such` is no group of genl: say nlctrl/notify'
run nlmmap record -w out.pcap rout
expect "a family that is not there is named with some that are" 1 err 'no netlink family `rout`: say route, netfilter'
run nlmmap watch route:link group
expect "groups of nlmmap and of other families are not mixed" 1 err 'two commands'
as_nobody 'nlmmap watch route:link'
expect "an ordinary user may not attach a ring, and is told how one could" 1 err 'CAP_NET_ADMIN' err 'attach_unprivileged'
as_nobody 'nlmmap record -w - route:link'
expect "an ordinary user is told whose rights record has" 1 err 'CAP_NET_ADMIN.*those of /bin/nlmmap-record, not nlmmap'

attached nlmmap watch --time --count 2 route:link,ipv4-ifaddr
address add
address del
ended
expect "watch tells what happens to addresses in libnl's words, with the link's name" 0 \
    out '^[0-9:.]+  seq 1  route:ipv4-ifaddr  type 20  [0-9]+ bytes  new  route/addr  127\.11\.12\.13 inet dev lo scope' \
    out '  seq 2  route:ipv4-ifaddr  type 21  [0-9]+ bytes  del  route/addr  127\.11\.12\.13 ' err '^nlmmap: 2 messages, 0 records lost$'
attached nlmmap watch --json --count 2 route:ipv4-ifaddr,ipv4-netconf
address add
netconf 1
ended
json_value /event /group /seq /type /action /object /header /attributes/0/type <out >values 2>>err
awk -F '\t' 'NR == 1 && ($2 != "route:ipv4-ifaddr" || $5 != "new" || $6 != "route/addr" || length($7) != 16 || $8 != 1) { bad = 1 }
     NR == 2 && ($2 != "route:ipv4-netconf" || $3 != 2 || $4 != 80 || $6 != "route/netconf" || $7 != "02000000" || $8 != 1) { bad = 1 }
     $1 != "message" { bad = 1 } END { exit bad || NR != 2 }' values
verdict $? "watch --json has libnl's words and the attributes behind each family's own header"
address del

rings=2 attached nlmmap watch genl:nlctrl route:26
run nlmmap stat
expect "stat shows a ring for each family, with its name" 0 out "^nlmmap/$watcher +generic +[0-9]+ +1M +0 " out "^nlmmap/$watcher +route +[0-9]+ +1M +0 "
run nlmmap list
expect "so does list" 0 out '^PROCESS +FAMILY +PORT ' out "^nlmmap/$watcher +generic +[0-9]+ +0 +1M +0 +-\$" out "^nlmmap/$watcher +route +[0-9]+ +0 +1M +0 +-\$"
nlmmap list --json >out 2>err
json_value /sockets/0/family /sockets/0/protocol <out >values && json_value /sockets/1/family /sockets/1/protocol <out >>values
[ "$(sort values)" = "$(printf 'generic\t16\nroute\t0')" ]
verdict $? "list --json has the family's name and number"
kill -TERM "$watcher"
ended
expect "a generic family and a group by its number are watched together" 0 err '^nlmmap: 0 messages, 0 records lost$'

# The ring and the receive buffer together hold some hundred events.
attached nlmmap watch --ring-bytes 4k route:ipv4-netconf
kill -STOP "$watcher"
netconf 1000
kill -CONT "$watcher"
until_true grep -q lost w.out
verdict $? "what the ring and the receive buffer had no room for is told"
netconf 2
kill -0 "$watcher"
usleep 300000
kill -INT "$watcher"
ended
expect "it says why" 0 out '^-- route: lost [0-9]+ records \(seq [0-9]+ to [0-9]+\): the ring and the receive buffer were full$'
# A record that says nothing but that there was a loss has a number of its own.
awk '/^seq / { if ($2 != next_seq + 1 && !($2 == next_seq + 2 && after_loss)) exit 1; next_seq = $2; messages++; after_loss = 0 }
     /^-- / { first = $7; sub(/to.*/, "", first); if (first != next_seq + 1) exit 1; last = $9 + 0; if (last - first + 1 != $4) exit 1; next_seq = last; lost += $4; after_loss = 1 }
     END { print "# " messages " messages, " lost " lost"; exit !(messages + lost == 1002 && lost > 100) }' out
verdict $? "messages and losses together are all that happened, each once"

attached nlmmap record -w out.pcap -c 3 route:ipv4-netconf,ipv4-ifaddr
address add
netconf 2
ended
expect "record ends after -c" 0 err '^nlmmap: 3 datagrams recorded, 0 lost$'
# pcap with nanoseconds, link type 253, and after the first packet's head 6 (to user space), 824 (netlink), protocol 0.
[ "$(od -A n -t x4 -N 4 out.pcap | tr -d ' ')" = a1b23c4d ] && [ "$(od -A n -t u4 -j 20 -N 4 out.pcap | tr -d ' ')" = 253 ] &&
    [ "$(od -A n -t x1 -j 40 -N 4 out.pcap | tr -d ' ')" = 00060338 ] && [ "$(od -A n -t x1 -j 54 -N 2 out.pcap | tr -d ' ')" = 0000 ] &&
    [ "$(od -A n -t u2 -j 60 -N 2 out.pcap | tr -d ' ')" = 20 ]
verdict $? "the file begins as nlmon's captures do, with the first address"
packet_seconds=$(od -A n -t u4 -j 24 -N 4 out.pcap | tr -d ' ')
now=$(date +%s)
[ "$packet_seconds" -le "$now" ] && [ "$packet_seconds" -gt $((now - 60)) ]
verdict $? "its time stamps are the wall clock's"

attached nlmmap record -w out.pcap route:ipv4-netconf
netconf 1
until_true test -s out.pcap
until_true sh -c '[ "$(wc -c <out.pcap)" -gt 24 ]'
verdict $? "what came is in the file before anything else comes"
kill -INT "$watcher"
ended
expect "Ctrl-C ends record with a summary" 0 err '^nlmmap: 1 datagram recorded, 0 lost$'
(until_true has_rings 1 && netconf 1) &
# All of it is read: record would end with its reader, before there is anything to record.
run sh -c 'nlmmap record -w - -c 1 route:ipv4-netconf | od -A n -t x4 -v'
wait $!
expect "record -w - writes to a pipe" 0 out '^ *a1b23c4d'
run sh -c 'nlmmap record -w - route:link | true'
expect "record ends when nobody reads its output, though nothing comes" 0
run nlmmap record -w /dev/full route:link
expect "record tells of a full disk" 1 err 'cannot write /dev/full: No space left on device'
echo 0 >/proc/sys/net/ipv4/conf/lo/forwarding

# --- a real producer

if [ -e /modules/process_events.ko ]; then
    load process_events || exit 1
    nlmmap watch --json --ring-bytes 4M process_events >w.out 2>w.err 4>&- &
    watcher=$!
    until_true has_members 1
    sh -c 'exec /bin/true'
    until_true grep -q '"string":"true"' w.out
    verdict $? "watch shows what happens to processes"
    kill -INT "$watcher"
    wait "$watcher"
    json_value /group <w.out >/dev/null 2>err
    verdict $? "every line of it is JSON"
fi
load nlmmap_test

cd /
rm -rf "$work"
echo "1..$count"
echo "# $((count - failed)) passed, $failed failed"
[ "$failed" = 0 ]
