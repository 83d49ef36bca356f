# A guest's driver makes its card read and write where it has no business.
memory=128
sum() { md5sum <"$1"; }

step "With nothing between the card and memory, the attack is one"
echo "$nic" >/sys/bus/pci/drivers/e1000e/unbind
page=$(hostile-driver poison /run/first first) || fail "no page"
before=$(sum /run/first)
said=$(hostile-driver dma "$nic" "$page" 2>&1 | tr '\n' ';')
claim attack-works "$(echo "$said" | grep -q "read $page stolen 512" && [ "$(sum /run/first)" != "$before" ] &&
    echo pass || echo fail)" \
    "in the host, IOMMU domain $(cat /sys/bus/pci/devices/$nic/iommu_group/type), at the page of another program: $said"

step "Two guests, one of them with the card; a page of the host's and of the other guest's"
bind_vfio $nic || fail "the NIC cannot be bound"
host=$(hostile-driver poison /run/host host) || fail "no page"
host_sum=$(sum /run/host)
GUEST_NET=none GUEST_PROGRAM=hostile-driver guest-start w
claimed=$(guest-sh w "hostile-driver poison /run/page guest") || fail "guest w has no page: $claimed"
other_sum=$(guest-sh w 'md5sum </run/page')
other=$(hostile-driver locate "$(cat /run/rig/guest/w/pid)" guest) || fail "guest w's page is not found"
note "the host's page is at $host; guest w's, at $claimed for itself, is at $other"
GUEST_NET=none attacker
native_off || fail "guest v is not up"

step "The card is told to read and write there"
beyond=$(printf %#x $((memory << 20)))
targets="$beyond $host $other 0x100000000"
said=$(GUEST_TIMEOUT=90 driver dma $own own $targets)
claim own-memory "$(echo "$said" | grep -q "read own stolen 512" && echo "$said" | grep -q "write own changed" &&
    echo pass || echo fail)" "its own memory it reads and writes: $(echo "$said" | grep own | tr '\n' ';')"
claim nothing-stolen "$(echo "$said" | grep -v own | grep -q stolen && echo fail || echo pass)" \
    "elsewhere it reads: $(echo "$said" | grep -v own | grep read | tr '\n' ';')"
for target in $targets; do
    read=$(dmesg | grep 'DMA Read' | grep "device \[${nic#0000:}\]" | grep -c "fault addr $target ")
    write=$(dmesg | grep 'DMA Write' | grep "device \[${nic#0000:}\]" | grep -c "fault addr $target ")
    claim "stopped-$target" "$([ $read -ge 1 ] && [ $write -ge 1 ] && echo pass || echo fail)" \
        "$(dmesg | grep "fault addr $target " | head -n 1 | sed 's/^[^]]*\] //') ($read reads, $write writes)"
done

step "Its rings are put there"
dmesg -c >"$OUT/dmesg-buffers"
said=$(driver rings $own $beyond $host)
for target in $beyond $host; do
    count=$(stopped "fault addr $target ")
    claim "rings-$target" "$([ $count -ge 1 ] && echo pass || echo fail)" "stopped $count times"
done
claim host-page "$([ "$(sum /run/host)" = "$host_sum" ] && echo pass || echo fail)" "the host's page at $host is as it was"
claim other-page "$([ "$(guest-sh w 'md5sum </run/page')" = "$other_sum" ] && echo pass || echo fail)" \
    "guest w's page at $other is as it was"

# An IOMMU would check who sends them; QEMU 7.2's does not when they are written by DMA, so what is left to show
# is that the host takes interrupts that nobody expects.
step "Messages to the host's vectors"
dmesg -c >"$OUT/dmesg-rings"
cat /proc/interrupts >"$OUT/interrupts-before"
note "$(driver dma $own msi=0xfee00000,0xe9)"
cat /proc/interrupts >"$OUT/interrupts-after"
both() { guest-sh v true && guest-sh w true; }
claim alive "$(verdict both)" "both guests go on"
guest-stop v
guest-stop w
back
