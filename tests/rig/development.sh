# The development scenario: the host routes, and says what that exposes.
export NETVM_DECLARATION=$OUT/netvm.toml
# The user that dnsmasq becomes; every Debian has it, the PC has none.
grep -qs ^nobody: /etc/passwd || echo "nobody:x:65534:65534::/nonexistent:/bin/false" >>/etc/passwd
grep -qs ^nogroup: /etc/group || echo "nogroup:x:65534:" >>/etc/group
modprobe -a tun bridge nf_tables nft_chain_nat nft_masq
cat >"$NETVM_DECLARATION" <<'END'
scenario = "development"

[[guest]]
name = "a"
address = "100.127.77.10"

[[guest]]
name = "b"
END
interface=$(ls /sys/bus/pci/devices/$nic/net)
# The other scenarios need a NIC that the host does not use.
trap 'ip address flush dev "$interface"; ip link set "$interface" down' EXIT
ip link set "$interface" up
ip address add 10.0.2.15/24 dev "$interface"
ip route add default via 10.0.2.2
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
netvm up >"$OUT/up.txt" 2>&1 &
up=$!
answers_or_end() { netvm status || ! kill -0 $up; }
wait_for 30 "netvm up" answers_or_end
sleep 1 # dnsmasq may still end
kill -0 $up 2>/dev/null || fail "$(cat "$OUT/up.txt")"
cat "$OUT/up.txt"
claim warning "$(grep -q INSECURE "$OUT/up.txt" && grep -q "exposed to the Internet: this host" "$OUT/up.txt" && grep -q "exposed to the guests (a, b): .*netvm-dev" "$OUT/up.txt" && echo pass || echo fail)" \
    "$(grep INSECURE -A 2 "$OUT/up.txt")"
taps=$(ls -d /sys/class/net/netvm-dev/brif/* 2>/dev/null | wc -l)
claim taps "$([ "$taps" = 2 ] && echo pass || echo fail)" "$taps TAPs are ports of netvm-dev"
a=$(guest a)
b=$(guest b)
claim addresses "$([ "$a" = 100.127.77.10 ] && case $b in 100.127.77.*) [ "$b" != "$a" ] ;; *) false ;; esac && echo pass || echo fail)" "a has $a, b has $b"
page=$(outside_to a)
claim internet-a "$([ "$page" = "this is the outside" ] && echo pass || echo fail)" "$page"
page=$(outside_to b)
claim internet-b "$([ "$page" = "this is the outside" ] && echo pass || echo fail)" "$page"
claim host-sees-it "$([ "$(cat /sys/class/net/netvm-dev/statistics/rx_packets)" -gt 0 ] && echo pass || echo fail)" "$(cat /sys/class/net/netvm-dev/statistics/rx_packets) frames met the host's stack"
netvm status
guest-stop a
guest-stop b
netvm down || fail "netvm down"
wait $up
claim ended "$([ $? = 0 ] && echo pass || echo fail)" "netvm up ended with 0"
claim driver-stays "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "the NIC never left $(driver_of $nic)"
left=$(ip -o link show | grep netvm; nft list tables 2>/dev/null | grep netvm; [ "$(cat /proc/sys/net/ipv4/ip_forward)" = "$forwarding" ] || echo ip_forward; pidof netvm-link dnsmasq; ls /run/netvm/journal /run/netvm/development 2>/dev/null)
claim nothing-left "$([ -z "$left" ] && echo pass || echo fail)" "left: ${left:-nothing}"
