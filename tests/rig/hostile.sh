# A guest on minivmm has the card, and an attacker in the guest has its driver.
[ -e /rig/guest/hostile-driver.cpio ] || fail "hostile-driver is not built: run cargo build --workspace first"
# Where the guest has it.
own=0000:00:01.0
# attacker: starts the guest. driver ARGUMENT...: what the attacker's driver does with the card.
attacker() { GUEST_VMM=minivmm GUEST_PROGRAM=hostile-driver guest-start v --vfio $nic; }
driver() { guest-sh v "hostile-driver $*" 2>&1; }
# Takes the card from the guest's own driver.
native_off() { guest-sh v "echo $own >/sys/bus/pci/drivers/e1000e/unbind"; }

# host_traffic: the host itself fetches a page over the card, which it has back.
host_traffic() {
    ip link set eth0 up
    ip address add 10.0.2.15/24 dev eth0
    wait_for 10 "the link" grep -q 1 /sys/class/net/eth0/carrier
    page=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 $outside 80 | sed '1,/^\r*$/d' | grep .)
    ip address flush dev eth0
    ip link set eth0 down
    echo "$page"
    [ "$page" = "this is the outside" ]
}

# back: gives the card back to the host, which uses it.
back() {
    unbind_vfio $nic
    claim released "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "driver $(driver_of $nic) again"
    claim_that host-traffic host_traffic
}

# vfio_open: who has VFIO's files open.
vfio_open() { ls -l /proc/[0-9]*/fd 2>/dev/null | sed -n 's|.*-> \(/dev/vfio/.*\)|\1|p'; }

# stopped PATTERN: how many lines of the kernel's log name DMA of the card that the IOMMU stopped.
stopped() { dmesg | grep 'DMAR: \[DMA' | grep "device \[${nic#0000:}\]" | grep -c "$1"; }
