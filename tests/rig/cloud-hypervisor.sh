# netvm and a guest on a real cloud-hypervisor, when NETVM_RIG_CLOUD_HYPERVISOR names one.
if ! command -v cloud-hypervisor >/dev/null; then
    echo "NETVM_RIG_CLOUD_HYPERVISOR does not name a cloud-hypervisor binary"
    exit 77
fi
export NETVM_DECLARATION=$OUT/netvm.toml
sed 's/^vmm = .*/vmm = "cloud-hypervisor"/' /etc/netvm/netvm.toml >"$NETVM_DECLARATION"
netvm_up up.txt || fail "netvm did not come up"
claim netvm-on-cloud-hypervisor pass "$(netvm status | grep '^uplink')"
address=$(guest a cloud-hypervisor)
claim guest-address "$([ "$address" = 100.127.77.10 ] && echo pass || echo fail)" "${address:-none}"
page=$(outside_to a)
claim internet "$([ "$page" = "this is the outside" ] && echo pass || echo fail)" "$page"
link=$(link_pid a)
kill -9 "$link"
if wait_for 60 "traffic through a new link" outside_to a; then
    claim link-returns pass "both cloud-hypervisors reconnected, reception included"
else
    claim link-returns fail "$(netvm status)"
fi
netvm status
netvm down || fail "netvm down"
wait $up
claim nic-back "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "driver $(driver_of $nic)"
