#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash disable=SC2016
#
# `nlmmap watch` and `record` on families that stock kernels have as modules, in a guest: those and
# macsec are in /stock.tar, the tool's libraries in /libraries.tar. Prints KTAP.

tar -x -C / -f /libraries.tar || exit 1
tar -x -C / -f /stock.tar || exit 1
while read -r file; do
    # Comes later: its registration is an event.
    [ "$file" = macsec.ko ] || insmod "/stock/$file" || exit 1
done </stock/order
echo 65536 >/proc/sys/net/netfilter/nf_conntrack_max
work=$(mktemp -d /tmp/families.XXXXXX)
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
    head -c 2000 out | sed 's/^/#   /'
    echo
    head -c 2000 err | sed 's/^/#   /'
}

# rings_are COUNT: so many of other families, and none of nlmmap's own: whoever attaches asks by one first.
rings_are() { nlmmap list | awk -v count="$1" '$1 ~ "/" { all++; own += $2 == "nlmmap" } END { exit all + 0 != count || own }'; }
until_true() {
    tries=0
    while ! "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || return 1
        usleep 100000
    done
}
listening() { # listening COMMAND...: its output in out and err; ended() waits for its end
    "$@" >out 2>err &
    pid=$!
    until_true rings_are "${rings:-1}" || echo "# no ring was attached"
}
ended() {
    wait $pid
    status=$?
    until_true rings_are 0
    return $status
}
lines() { grep -c -E -e "$1" out; }

listening nlmmap watch --count 6 netfilter:conntrack-new,conntrack-destroy
conntrack_entries 3
ended
verdict $? "watch ends after six conntrack events"
[ "$(lines '^seq [1-3]  netfilter:conntrack-new  type 256  [0-9]+ bytes  flags 0x600  new  netfilter/ct  (udp|0x11) 10\.0\.0\.[0-2]:53 <-> 192\.0\.2\.1:53')" = 3 ]
verdict $? "new entries are told in libnl's words"
[ "$(lines '^seq [4-6]  netfilter:conntrack-destroy  type 258  [0-9]+ bytes  del  netfilter/ct  (udp|0x11) 10\.0\.0\.[0-2]:53 ')" = 3 ]
verdict $? "so are those that end"

listening nlmmap watch --json --count 2 netfilter:conntrack-new,conntrack-destroy
conntrack_entries 1
ended
json_value /group /action /object /header /attributes/0/type <out >values 2>>err
awk -F '\t' '$3 != "netfilter/ct" || length($4) != 8 || $5 != 1 { bad = 1 }
    NR == 1 && ($1 != "netfilter:conntrack-new" || $2 != "new") { bad = 1 }
    NR == 2 && ($1 != "netfilter:conntrack-destroy" || $2 != "del") { bad = 1 } END { exit bad || NR != 2 }' values
verdict $? "the same in JSON, with the attributes behind struct nfgenmsg"

listening nlmmap watch netfilter:conntrack-new
[ "$(nlmmap list --json | json_value /sockets/0/family /sockets/0/protocol)" = "$(printf 'netfilter\t12')" ]
verdict $? "list names the family of the ring's socket"
conntrack_entries 5000
until_true grep -q '^seq 5000 ' out
kill -INT $pid
ended
[ "$(lines '^seq ')" = 5000 ] && grep -q '^nlmmap: 5000 messages, 0 records lost$' err
verdict $? "a burst of 5,000 entries is told whole"

listening nlmmap record -w out.pcap -c 4 netfilter
conntrack_entries 2
ended && [ "$(od -A n -t x1 -j 40 -N 4 out.pcap | tr -d ' ')" = 00060338 ] && [ "$(od -A n -t x1 -j 54 -N 2 out.pcap | tr -d ' ')" = 000c ]
verdict $? "record writes the family's number before each datagram"

listening nlmmap watch --count 1 genl:nlctrl
insmod /stock/macsec.ko
ended && [ "$(lines '^seq 1  genl:nlctrl/notify  type 16  [0-9]+ bytes  new  genl/family  .* macsec ')" = 1 ]
verdict $? "a generic family that comes is told by nlctrl"
rmmod macsec

# What recorded_test.sh takes out of the guest, by the console, for tshark: three families in one file.
rings=3 listening nlmmap record -w recorded.pcap -c 5 genl:nlctrl route:ipv4-ifaddr netfilter
insmod /stock/macsec.ko
ip addr add 127.11.12.13/32 dev lo
ip addr del 127.11.12.13/32 dev lo
conntrack_entries 1
ended && grep -q '^nlmmap: 5 datagrams recorded, 0 lost$' err
verdict $? "several families are recorded to one file"
rmmod macsec
base64 recorded.pcap | sed 's/^/# recorded /'
echo "# recorded-sum $(sha256sum <recorded.pcap | cut -d' ' -f1)"

cd /
rm -rf "$work"
echo "1..$count"
echo "# $((count - failed)) passed, $failed failed"
[ "$failed" = 0 ]
