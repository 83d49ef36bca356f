# What `netvm demo` shows; runs in the rig's PC. Claims made here are tests as well.
export NETVM_DECLARATION=$OUT/netvm.toml
# With another VMM for netvm than the declaration's, if one is named.
sed "s/^vmm = .*/vmm = \"${DEMO_VMM:-qemu}\"/" /etc/netvm/netvm.toml >"$NETVM_DECLARATION"
get_from_b() { get a "$b_address" 8000; }
get_from_a() { get b 100.127.77.10 8000; }
serve() { guest-sh "$1" "mkdir -p /www && echo 'page of $1' >/www/index.html && httpd -p 8000 -h /www"; }

step "netvm check: what would stand in the way of giving $nic away?"
netvm check >"$OUT/check.txt" 2>&1
code=$?
cat "$OUT/check.txt"
if [ $code = 0 ]; then
    claim check pass "$(grep -c '^ok' "$OUT/check.txt") checks passed, NIC bound to $(driver_of $nic)"
else
    claim check fail "exit $code: $(grep REFUSED "$OUT/check.txt" | head -n 1)"
fi
host_driver=$(driver_of $nic)
netvm plan >"$OUT/plan.txt" 2>&1 || fail "netvm plan: $(tail -n 3 "$OUT/plan.txt")"
note "netvm plan: $(grep -c '^ *[0-9]' "$OUT/plan.txt") steps, in plan.txt"

step "netvm up: the NIC leaves the host, netvm boots"
netvm_up up-1.txt || fail "netvm up did not come up"
claim nic-in-netvm "$([ "$(driver_of $nic)" = vfio-pci ] && echo pass || echo fail)" \
    "driver $(driver_of $nic), IOMMU group $(group_of $nic)"
note "$(netvm status | grep '^uplink')"

step "Two guests start with the flags that netvm printed for them"
a_address=$(guest a)
b_address=$(guest b)
claim static-address "$([ "$a_address" = 100.127.77.10 ] && echo pass || echo fail)" "guest a has $a_address"
case $b_address in
100.127.77.*) claim dynamic-address pass "guest b has $b_address" ;;
*) claim dynamic-address fail "guest b has ${b_address:-no address}" ;;
esac

step "Both fetch a page from the server outside, through netvm"
for name in a b; do
    if page=$(outside_to $name) && [ "$page" = "this is the outside" ]; then
        claim "internet-$name" pass "$page"
    else
        claim "internet-$name" fail "$page"
    fi
done

step "Guests see nothing of each other"
serve a && serve b || fail "no web server in a guest"
claim_not denied-a-to-b get_from_b
claim_not denied-b-to-a get_from_a
b_mac=$(guest-sh b 'cat /sys/class/net/eth0/address')
guest-sh b 'tcpdump -Z root -i eth0 -n -e -U -w /run/seen.pcap >/run/tcpdump 2>&1 </dev/null &
    sleep 2; cat /run/tcpdump'
# To b's MAC, to broadcast, and from a MAC that is not a's; all towards an address that only they name.
guest-sh a "arp -i eth0 -s 100.127.77.200 $b_mac && ping -c 2 -w 2 100.127.77.200; ping -c 2 -w 2 -b 100.127.77.255; true" >/dev/null
guest-sh a 'ip link set eth0 down; ip link set eth0 address 02:66:66:66:66:66; ip link set eth0 up
    ip address replace 100.127.77.10/24 dev eth0; ip route replace default via 100.127.77.1
    ping -c 2 -w 2 100.127.77.1; true' >/dev/null
guest-sh a "ip link set eth0 down; ip link set eth0 address $(netvm status --json | sed -n 's/.*"mac": "\(.*\)".*/\1/p' | head -n 1)
    ip link set eth0 up; ip address replace 100.127.77.10/24 dev eth0; ip route replace default via 100.127.77.1
    ping -c 1 -w 10 100.127.77.1" >/dev/null || note "guest a did not come back"
# What b does see, in the same capture: the answers to its own pings.
guest-sh b 'ping -c 2 -w 10 100.127.77.1; kill $(pidof tcpdump); sleep 1
    tcpdump -Z root -n -e -r /run/seen.pcap 2>/run/tcpdump || cat /run/tcpdump' >"$OUT/seen-by-b.txt"
seen=$(grep -ciE '02:66:66:66:66:66|100\.127\.77\.(10|200)[^0-9]' "$OUT/seen-by-b.txt")
own=$(grep -c "100.127.77.1 > $b_address: ICMP echo reply" "$OUT/seen-by-b.txt")
claim isolation "$([ "$seen" = 0 ] && [ "$own" -gt 0 ] && echo pass || echo fail)" \
    "guest b saw $seen frames of guest a, and $own answers to its own pings"
drops=$(netvm status | grep '^a ')
case $drops in
*destination-not-netvm*source-not-guest*) claim drops-counted pass "${drops##* up }" ;;
*) claim drops-counted fail "$drops" ;;
esac

step "The host itself has no part in it"
networks=$(ip -4 -o address show | grep -v ' lo '; ip -4 route show)
claim host-no-network "$([ -z "$networks" ] && echo pass || echo fail)" "addresses and routes: ${networks:-none}"
interfaces=$(ls /sys/class/net | tr '\n' ' ')
packets=$(awk 'NR > 2 && $1 != "lo:" {sum += $2 + $3 + $11} END {print sum + 0}' /proc/net/dev)
claim host-no-frames "$([ "$packets" = 0 ] && echo pass || echo fail)" \
    "interfaces: $interfaces; frames on other than lo: $packets"
netvm status | tee "$OUT/status.txt"
netvm status --json >"$OUT/status.json"
netvm status --svg >"$OUT/topology.svg"

step "netvm down: no netvm, no traffic"
netvm down >"$OUT/down.txt" 2>&1 || fail "netvm down: $(cat "$OUT/down.txt" "$OUT/up-1.txt")"
wait $up
claim up-exit "$([ $? = 0 ] && echo pass || echo fail)" "netvm up ended with status 0 when asked"
claim_not fail-closed outside_to a
claim nic-back "$([ "$(driver_of $nic)" = "$host_driver" ] && echo pass || echo fail)" "driver $(driver_of $nic) again"

step "[[allow]] from = \"a\", to = \"b\", TCP port 8000: netvm comes up anew, the guests just go on"
cat >>"$NETVM_DECLARATION" <<'END'

[[allow]]
from = "a"
to = "b"
protocol = "tcp"
ports = [8000]
END
netvm_up up-2.txt || fail "netvm up did not come up again"
if wait_for 60 "guest a and its new netvm" outside_to a; then
    claim reconnect pass "guest a fetched the page again without a restart"
else
    claim reconnect fail "guest a has no traffic"
fi
page=$(get_from_b)
claim allowed-a-to-b "$([ "$page" = "page of b" ] && echo pass || echo fail)" "$page"
claim_not denied-b-to-a-still get_from_a
denied=$(netvm status | sed -n 's/.* \([0-9]*\) packets denied.*/\1/p')
claim denials-counted "$([ "${denied:-0}" -gt 0 ] && echo pass || echo fail)" "${denied:-0} packets denied"

step "netvm down: the NIC goes back to the host"
netvm down >>"$OUT/down.txt" 2>&1 || fail "netvm down: $(cat "$OUT/down.txt")"
wait $up
claim nic-back-again "$([ "$(driver_of $nic)" = "$host_driver" ] && echo pass || echo fail)" "driver $(driver_of $nic)"
left=$(find /run/netvm -mindepth 1 ! -name lock ! -name 'journal.last' ! -name leases.json ! -name '*.log*' 2>/dev/null)
claim nothing-left "$([ -z "$left" ] && echo pass || echo fail)" "left in /run/netvm: ${left:-nothing}"
