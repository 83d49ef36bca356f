# The development scenario: the host routes, and says what that exposes.
export NETVM_DECLARATION=$OUT/netvm.toml
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
ip link set "$interface" up
udhcpc -i "$interface" -s /rig/udhcpc -n -q -f >/dev/null 2>&1 || { ip address add 10.0.2.15/24 dev "$interface"; ip route add default via 10.0.2.2; }
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
netvm up >"$OUT/up.txt" 2>&1 &
up=$!
wait_for 30 "netvm up" netvm status || fail "$(cat "$OUT/up.txt")"
cat "$OUT/up.txt"
claim warning "$(grep -q INSECURE "$OUT/up.txt" && grep -q "exposed to the Internet" "$OUT/up.txt" && echo pass || echo fail)" "$(grep -m 1 INSECURE "$OUT/up.txt")"
a=$(guest a)
b=$(guest b)
claim addresses "$([ "$a" = 100.127.77.10 ] && [ -n "$b" ] && echo pass || echo fail)" "a has $a, b has $b"
page=$(outside_to a)
claim internet "$([ "$page" = "this is the outside" ] && echo pass || echo fail)" "$page"
netvm status
netvm down || fail "netvm down"
wait $up
claim ended "$([ $? = 0 ] && echo pass || echo fail)" "netvm up ended with 0"
left=$(ip -o link show | grep netvm; nft list tables 2>/dev/null | grep netvm; [ "$(cat /proc/sys/net/ipv4/ip_forward)" = "$forwarding" ] || echo ip_forward)
claim nothing-left "$([ -z "$left" ] && echo pass || echo fail)" "left: ${left:-nothing}"
