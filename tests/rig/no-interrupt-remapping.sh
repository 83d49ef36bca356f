# A PC whose IOMMU does not remap interrupts: a guest could inject them into the host.
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim refused "$([ $code = 3 ] && echo "$said" | grep -q R2 && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 R2)"
claim untouched "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "driver $(driver_of $nic)"
claim_that override-is-possible netvm check --allow-unsafe-interrupts

step "Overridden: VFIO is told, and told back afterwards"
setting=/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
before=$(cat $setting)
netvm up --allow-unsafe-interrupts >"$OUT/up.txt" 2>&1 &
up=$!
wait_for 150 "netvm and its uplink" uplink_or_end
claim runs-overridden "$(verdict has_uplink)" "allow_unsafe_interrupts was $before, is $(cat $setting); $(netvm status | grep '^overrides')"
netvm down
wait $up
claim setting-restored "$([ "$(cat $setting)" = "$before" ] && [ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "allow_unsafe_interrupts is $(cat $setting), driver $(driver_of $nic)"

step "vmm-plugin alone says what is missing"
bind_vfio $nic || fail "the NIC cannot be bound"
said=$(minivmm --kernel "$(ls /rig/guest/vmlinu[xz] | head -n 1)" --memory 64 --vfio $nic 2>&1)
code=$?
claim minivmm "$([ $code = 1 ] && echo "$said" | grep -q "allow_unsafe_interrupts" && echo pass || echo fail)" "exit $code: $said"
