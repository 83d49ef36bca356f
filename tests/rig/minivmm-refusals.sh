# What minivmm, and so vmm-plugin, cannot do: said with the value and the next step, alone and under netvm up.
kernel=$(ls /rig/guest/vmlinux 2>/dev/null || echo /rig/guest/vmlinuz)
group=$(group_of $nic)
# closed: nobody has a group of VFIO open.
closed() { ! ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q '/dev/vfio/[0-9]'; }
# refused ID TEXT COMMAND...: ends with exit code 1 and says TEXT.
refused() {
    id=$1 text=$2
    shift 2
    said=$("$@" 2>&1 </dev/null)
    code=$?
    echo "$said" | grep -q "$text" && [ $code = 1 ] && verdict=pass || verdict=fail
    claim "$id" $verdict "exit code $code: $(echo "$said" | grep -m 1 "$text" || echo "$said")"
}
boot() { minivmm --kernel "$kernel" "$@"; }

step "A machine that cannot be made"
refused kernel "/nowhere" minivmm --kernel /nowhere
refused no-kernel "no vmlinux" minivmm --kernel /rig/guest/initrd
refused small-memory "64 to" boot --memory 63
refused memory-for-kernel "larger --memory" boot --memory 64
refused initramfs "larger --memory" boot --memory 80 --initramfs /rig/guest/initrd
refused link "/nowhere.sock" boot --link /nowhere.sock,mac=02:00:00:00:00:01
mv /dev/kvm /dev/kvm.away
refused kvm "/dev/kvm" boot
mv /dev/kvm.away /dev/kvm

step "A NIC that cannot be passed through"
refused no-such-device "0000:00:09.0 is not there" boot --vfio 0000:00:09.0
refused unbound "/dev/vfio/$group .*bind" boot --vfio $nic
bind_vfio $nic || fail "the NIC cannot be bound"
exec 5<>/dev/vfio/$group
refused in-use "/dev/vfio/$group .*another process has it" boot --vfio $nic
exec 5>&-
# Two functions of the south bridge: one is bound to VFIO alone, then the host drives the other.
bind_vfio 0000:00:1f.2 || fail "the south bridge cannot be bound"
refused sibling "0000:00:1f.3.* group $(group_of 0000:00:1f.2) and bound to VFIO" boot --memory 64 --vfio 0000:00:1f.3
modprobe uio_pci_generic
echo uio_pci_generic >/sys/bus/pci/devices/0000:00:1f.3/driver_override
echo 0000:00:1f.3 >/sys/bus/pci/drivers_probe
refused not-viable "group $(group_of 0000:00:1f.2) is not viable.*bind" boot --vfio 0000:00:1f.2

step "Memory that cannot be mapped for its DMA"
setting=/sys/module/vfio_iommu_type1/parameters/dma_entry_limit
limit=$(cat $setting)
echo 0 >$setting
refused no-mapping "needs 1 DMA mappings.*0 left.*dma_entry_limit" boot --vfio $nic

step "The same under netvm up"
export NETVM_DECLARATION=$OUT/netvm.toml
unbind_vfio $nic
sed 's/^vmm = .*/vmm = "minivmm"/' /etc/netvm/netvm.toml >"$NETVM_DECLARATION"
refused up "dma_entry_limit" netvm up
claim up-undone "$([ "$(driver_of $nic)" = e1000e ] && [ ! -e /run/netvm/journal ] && closed && echo pass || echo fail)" \
    "driver $(driver_of $nic) again, no journal"
echo "$limit" >$setting

step "A user that may lock 8 MiB"
printf 'vmm:x:4000:104::/:/bin/sh\n' >/etc/passwd
bind_vfio $nic || fail "the NIC cannot be bound"
as_user() { (ulimit -l 8192 && exec start-stop-daemon -S -q -c 4000:104 -x /usr/bin/minivmm -- --kernel "$kernel" "$@"); }
refused no-permission "/dev/vfio/$group .*give this user the file" as_user --vfio $nic
chown 4000 /dev/vfio/$group
refused memlock "268435456 bytes.*8388608.*RLIMIT_MEMLOCK" as_user --vfio $nic
rm /etc/passwd
claim closed "$(verdict closed)" "nobody has a group of VFIO open"
