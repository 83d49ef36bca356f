# The card interrupts as fast as it can: the host and another guest go on, and it ends with the guest.
work='start=$(cut -d" " -f1 /proc/uptime); i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
    echo "$(cut -d" " -f1 /proc/uptime) $start" | awk "{ print int((\$1 - \$2) * 1000) }"'
# The host's own time for it, and another guest's, in milliseconds.
host_work() { eval "$work"; }
other_work() { guest-sh w "$work"; }
vfio_interrupts() { awk '/vfio-/ { for (i = 2; i <= 3; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }

bind_vfio $nic || fail "the NIC cannot be bound"
GUEST_NET=none guest-start w
guest-sh w true || fail "guest w is not up"
GUEST_NET=none attacker
native_off || fail "guest v is not up"
# What another busy guest costs by itself is not the storm's.
GUEST_TIMEOUT=5 guest-sh v 'while :; do :; done' >/dev/null 2>&1 &
sleep 1
host=$(host_work)
other=$(other_work)
wait $!
note "beside a guest that is busy: the host takes $host ms, another guest $other ms"

# storm KIND: for eight seconds; the host and the other guest work meanwhile.
storm() {
    step "A storm of $1"
    before=$(vfio_interrupts)
    started=$(cut -d. -f1 /proc/uptime)
    GUEST_TIMEOUT=20 driver storm $own $1 8 >/run/storm &
    sleep 1
    host_then=$(host_work)
    other_then=$(other_work)
    # Those of vectors go from the list with the vectors.
    count=$(($(vfio_interrupts) - before))
    uptime=$(cut -d. -f1 /proc/uptime)
    wait $!
    seconds=$((uptime - started))
    claim "$1-host" "$([ "$host_then" -le $((4 * host)) ] && echo pass || echo fail)" "the host takes $host_then ms, $host before"
    claim "$1-other" "$([ "$other_then" -le $((4 * other)) ] && echo pass || echo fail)" "another guest takes $other_then ms, $other before"
}
storm msi-x
claim msi-x-storm "$([ $count -ge $((seconds * 100)) ] && echo pass || echo fail)" \
    "$count interrupts came to the host in $seconds s, of $(cat /run/storm)"
guest-sh v "modprobe uio_pci_generic; echo uio_pci_generic >/sys/bus/pci/devices/$own/driver_override
    echo $own >/sys/bus/pci/drivers_probe; ls /dev/uio0" || fail "guest v has no driver for INTx"
storm intx
# VFIO hands on a line that is still asserted when the guest unmasks it, without an interrupt of the host's.
heard=$(sed -n 's/^\([0-9]*\) interrupts$/\1/p' /run/storm)
claim intx-storm "$([ "${heard:-0}" -ge 400 ] && echo pass || echo fail)" \
    "the guest had ${heard:-no} interrupts in 8 s; $count came to the host in $seconds s"

step "The guest dies in the storm"
GUEST_TIMEOUT=20 driver storm $own intx 15 >/run/storm 2>&1 &
sleep 1
guest-stop v
sleep 1
claim interrupts-gone "$(grep -q vfio- /proc/interrupts && echo fail || echo pass)" "none of VFIO's is left in /proc/interrupts"
after=$(host_work)
claim host-after "$([ "$after" -le $((2 * host)) ] && echo pass || echo fail)" "the host takes $after ms, $host beside a busy guest"
bad=$(dmesg | grep -E 'nobody cared|soft lockup|detected stall|blocked for more' | head -n 1)
claim no-complaint "$([ -z "$bad" ] && echo pass || echo fail)" "the host's kernel says: ${bad:-nothing}"
guest-stop w
echo "$nic" >/sys/bus/pci/drivers/vfio-pci/unbind
note "$(hostile-driver quiet $nic 2>&1)"
back
