# A card passed through by vmm-plugin to a guest that has its native driver: an address by DHCP, and
# 10 MiB each way. $id, $driver, $outside, $sum, $direct and $stray are what nics.rs knows of the card.
for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/vendor"):$(cat "$device/device")" = "0x${id%:*}:0x${id#*:}" ] && bdf=${device##*/}
done
[ -n "$bdf" ] || fail "no device is $id"
native=$(driver_of $bdf)
note "$bdf has the driver $native, resets by $(cat /sys/bus/pci/devices/$bdf/reset_method), group:" \
    "$(ls "/sys/bus/pci/devices/$bdf/iommu_group/devices" | tr '\n' ' ')"
memory=128

step "The guest"
bind_vfio $bdf || fail "the card cannot be bound to vfio-pci: driver $(driver_of $bdf)"
GUEST_VMM=minivmm GUEST_MEMORY=$memory GUEST_NET=none guest-start v --vfio $bdf
guest-sh v 'for round in $(seq 40); do
        modprobe -a $(cat /sys/bus/usb/devices/*/modalias 2>/dev/null) 2>/dev/null
        [ -e /sys/class/net/eth0 ] && break
        usleep 250000
    done
    grep -h 0000:00:01.0 /proc/iomem /proc/ioports' || fail "the guest is not up"
used=$(guest-sh v 'basename "$(readlink /sys/class/net/eth0/device/driver)"')
claim driver "$([ "$used" = "$driver" ] && echo pass || echo fail)" "eth0 has the driver $used"
claim_that address guest-sh v 'ip link set eth0 up
    udhcpc -i eth0 -s /rig/udhcpc -t 20 -T 1 -n -q -f 2>&1 | grep obtained'

step "10 MiB each way"
# taken COMMAND...: what it says, and how long it took.
taken() {
    GUEST_TIMEOUT=60 guest-sh v "start=\$(cut -d' ' -f1 /proc/uptime); $*
        echo \"\$(cut -d' ' -f1 /proc/uptime) \$start\" | awk '{printf \"%.1f s\n\", \$1 - \$2}'"
}
# How often the guest has left to the card's BARs and configuration space, and how many frames it has had.
counted() {
    minivmm tell /run/rig/guest/v/api counters |
        awk '$2 ~ /^bar/ { bar += $3 } $2 ~ /^config/ { config += $3 } END { print bar + 0, config + 0 }'
    guest-sh v 'cd /sys/class/net/eth0/statistics && echo $(($(cat rx_packets) + $(cat tx_packets)))'
}
before=$(counted)
in=$(taken "nc -w 60 $outside 81 </dev/null >/run/data; md5sum </run/data")
claim received "$(echo "$in" | grep -q "$sum" && echo pass || echo fail)" "$in"
back=$(taken "nc -w 60 $outside 82 </run/data")
claim sent "$(echo "$back" | grep -q "$sum" && echo pass || echo fail)" "$back"
left=$(echo $before $(counted) | awk '$6 > $3 { thousands = ($6 - $3) / 1000
    printf "%.0f to BARs, %.0f to configuration space, of %d frames\n", ($4 - $1) / thousands, ($5 - $2) / thousands, $6 - $3
    exit ($4 + $5 > $1 + $2) }')
zero=$?
claim trapped "$([ -n "$left" ] && { [ "$direct" = false ] || [ $zero = 0 ]; } && echo pass || echo fail)" \
    "accesses that ended in the VMM, for 1,000 frames: $left"
note "$(guest-sh v 'cat /proc/interrupts' | grep -E 'CPU|eth0|usb|xhci|virtio|INTx|IO-APIC|PCI')"

step "The VMM is killed in traffic"
guest-sh v "(while :; do nc -w 5 $outside 81 </dev/null >/dev/null; done) >/dev/null 2>&1 &"
sleep 1
guest-stop v
# The executable is let go of before the files.
claim closed "$(verdict wait_for 10 "the group to be closed" sh -c \
    "! ls -l /proc/[0-9]*/fd 2>/dev/null | grep '/dev/vfio/[0-9]'")" "nobody has the group open"
unbind_vfio $bdf
claim released "$([ "$(driver_of $bdf)" = "$native" ] && echo pass || echo fail)" "driver $(driver_of $bdf) again"
# Where the host's IOMMU stopped DMA. At an address of the guest's own it would be the plugin's fault, which maps them all.
faults=$(dmesg | sed -n 's/.*DMAR: \[DMA.*fault addr \(0x[0-9a-f]*\).*/\1/p' | sort -u)
claim faults "$([ -z "$faults" ] || [ "$faults" = "$stray" ] && echo pass || echo fail)" "DMA that was stopped was at: ${faults:-none}"
