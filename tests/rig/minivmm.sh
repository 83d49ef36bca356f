# The VMM that links vmm-plugin, alone: what it passes through. (minivmm-refusals.sh has what it says to nonsense.)
# (That netvm works on it is the demonstration's to show.)
step "The NIC passed through by vmm-plugin"
bind_vfio $nic || fail "the NIC cannot be bound"
GUEST_VMM=minivmm GUEST_CPUS=2 guest-start v --vfio $nic
claim_that passed-through guest-wait v
claim msi-x "$(verdict guest-sh v 'grep -q "PCI-MSI.*eth0-rx" /proc/interrupts')" \
    "$(guest-sh v 'grep -c "PCI-MSI.*eth0" /proc/interrupts') vectors of the NIC"
claim smp "$([ "$(guest-sh v nproc)" = 2 ] && echo pass || echo fail)" "$(guest-sh v nproc) processors"
sum=$(guest-sh v "printf 'GET /megabyte HTTP/1.0\r\n\r\n' | nc -w 20 $outside 80 | sed '1,/^\r*\$/d' | wc -c")
claim megabyte "$([ "$sum" = 1048576 ] && echo pass || echo fail)" "$sum bytes came from outside"
minivmm=$(cat /run/rig/guest/v/pid)
guest-sh v 'poweroff -f' >/dev/null 2>&1
wait_for 30 "the guest's end" sh -c "! readlink /proc/$minivmm/exe"
claim power-off "$([ ! -s /run/rig/guest/v/vmm.log ] && echo pass || echo fail)" \
    "switched off without a word: $(cat /run/rig/guest/v/vmm.log)"
claim released "$(unbind_vfio $nic; [ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" \
    "driver $(driver_of $nic) again"
