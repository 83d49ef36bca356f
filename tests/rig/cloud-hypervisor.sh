# netvm and a guest on a real cloud-hypervisor, when NETVM_RIG_CLOUD_HYPERVISOR names one.
if ! command -v cloud-hypervisor >/dev/null; then
    echo "NETVM_RIG_CLOUD_HYPERVISOR does not name a cloud-hypervisor binary"
    exit 77
fi
# What two guests do not need: an MTU, and PCI segments for 42 links. This cloud-hypervisor gets no
# further than to miss netvm's files; what it does not know or thinks invalid it says before.
large=$OUT/large.toml
{
    sed 's/^vmm = .*/vmm = "cloud-hypervisor"/' /etc/netvm/netvm.toml
    printf '[network]\nmtu = 9000\n'
    for number in $(seq 40); do
        printf '[[guest]]\nname = "guest-%s"\nmemory = "64M"\n' "$number"
    done
} >"$large"
command=$(NETVM_DECLARATION=$large netvm plan | sed -n 's/^ *[0-9]* *start *\(.*cloud-hypervisor --seccomp .*\)$/\1/p')
# refused COMMAND: why its options are refused.
refused() {
    sh -c "timeout 10 $1" </dev/null >"$OUT/large.log" 2>&1
    grep -iE -m 1 'pars|valid' "$OUT/large.log"
}
result=pass
for option in mtu=9000 num_pci_segments=2 pci_segment=1; do
    echo "$command" | grep -q "$option" || result=fail
done
refused "$command" && result=fail
stopped=$(tail -n 1 "$OUT/large.log")
# Each of these is refused, or the test above sees nothing.
control=$(refused "$(echo "$command" | sed 's/mtu=/mut=/')") || result=fail
other=$(refused "$(echo "$command" | sed 's/num_pci_segments=2/num_pci_segments=1/')") || result=fail
claim options-known $result "it stops at: $stopped; at wrong ones: $control; $other"

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
