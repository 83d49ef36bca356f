# A NIC that comes to a guest on minivmm and leaves it while both run, a hundred times and more.
cycles=100
api=/run/rig/guest/v/api
slot=/sys/bus/pci/devices/0000:00:01.0
tell() { minivmm tell $api "$@"; }
# The guest looks for what came, and has an address and a megabyte from outside by it.
found() {
    guest-sh v "echo 1 >/sys/bus/pci/rescan; modprobe -a \$(cat $slot/modalias)
        for round in \$(seq 40); do [ -e /sys/class/net/eth0 ] && break; usleep 250000; done
        ip link set eth0 up && udhcpc -i eth0 -s /rig/udhcpc -t 20 -T 1 -n -q -f 2>&1 | grep obtained"
}
megabyte() {
    guest-sh v "printf 'GET /megabyte HTTP/1.0\r\n\r\n' | nc -w 20 $outside 80 | sed '1,/^\r*\$/d' | md5sum |
        grep 618e6fcfda61bb49b6dfe31caccbb708"
}
received() { guest-sh v 'cat /sys/class/net/eth0/statistics/rx_packets'; }
traffic() {
    # As long as there is a NIC, and not as fast as it fails when there is none behind it.
    guest-sh v "(while [ -e /sys/class/net/eth0 ]; do
            printf 'GET /megabyte HTTP/1.0\r\n\r\n' | nc -w 2 $outside 80 >/dev/null || sleep 1
        done) >/dev/null 2>&1 &"
    sleep 1
    first=$(received)
    sleep 1
    echo "$first frames received, a second later $(received)"
    [ "$(received)" -gt "$first" ]
}
no_faults() { ! dmesg | grep 'DMAR:.*fault'; }

step "A guest without a NIC is given one"
bind_vfio $nic || fail "the NIC cannot be bound"
GUEST_VMM=minivmm GUEST_NET=none guest-start v
guest-wait v || fail "the guest is not up"
minivmm=$(cat /run/rig/guest/v/pid)
claim_that attach tell attach $nic
claim_that found found
claim_that megabyte megabyte
claim_not attach-twice tell attach $nic
claim_not attach-nothing tell attach 0000:00:09.0
claim_not attach-unbound tell attach /sys/bus/pci/devices/0000:00:1f.2

step "The guest removes it in traffic, then it leaves"
claim_that traffic traffic
claim_that removed guest-sh v "echo 1 >$slot/remove; [ ! -e /sys/class/net/eth0 ]"
claim_that detach tell detach $nic
claim_not detach-twice tell detach $nic
claim_that attach-again tell attach $nic
claim_that found-again found
claim_that megabyte-again megabyte

step "It leaves in traffic, and nobody has told the guest"
claim_that surprise-traffic traffic
claim_that surprise-detach tell detach $nic
claim_that guest-lives guest-sh v "hexdump -n 4 -e '4/1 \"%02x\" \"\n\"' $slot/config"
claim_that guest-lets-go env GUEST_TIMEOUT=60 guest-sh v "echo 1 >$slot/remove; [ ! -e $slot ] && cut -d' ' -f1 /proc/uptime"
# QEMU 7.2's e1000e keeps its causes of interrupts through the reset that it has, and QEMU ends when somebody turns MSI-X on
# over them ("e1000e_intrmgr_on_throttling_timer: Assertion").
echo $nic >/sys/bus/pci/drivers/vfio-pci/unbind
note "$(hostile-driver quiet $nic 2>&1)"
echo $nic >/sys/bus/pci/drivers/vfio-pci/bind
claim_that surprise-attach tell attach $nic
claim_that surprise-found found
claim_that surprise-megabyte megabyte
claim_that no-stray-dma no_faults

step "$cycles times, and what minivmm and the kernel hold"
# held: files, of those VFIO's; KiB locked and pinned; mappings of minivmm's; its threads; pages that the kernel pinned for
# any device.
held() {
    files=$(ls -l /proc/$minivmm/fd | grep -c -- '->') vfio=$(ls -l /proc/$minivmm/fd | grep -c vfio)
    status=$(sed -n 's/^\(VmLck\|VmPin\|Threads\):[[:space:]]*/\1 /p' /proc/$minivmm/status | tr '\n' ' ')
    # Each processor counts by itself; reading this adds the counts up.
    cat /proc/sys/vm/stat_refresh
    pinned=$(awk '$1 == "nr_foll_pin_acquired" { n += $2 } $1 == "nr_foll_pin_released" { n -= $2 }
        END { print n }' /proc/vmstat)
    echo "$files files ($vfio of VFIO), $status, $(wc -l </proc/$minivmm/maps) mappings, $pinned pages pinned"
}
guest-sh v "echo 1 >$slot/remove"
started=$(cut -d' ' -f1 /proc/uptime)
for cycle in $(seq $cycles); do
    tell detach $nic || fail "cycle $cycle: not detached"
    [ $cycle -gt 1 ] || gone=$(held)
    tell attach $nic || fail "cycle $cycle: not attached"
    [ $cycle -gt 1 ] || there=$(held)
    # Now and then the guest drives it.
    case $cycle in
    *25 | *50 | *75) found >/dev/null && guest-sh v "echo 1 >$slot/remove" || fail "cycle $cycle: the guest has it not" ;;
    esac
done
ended=$(cut -d' ' -f1 /proc/uptime)
# The share that the rig's files come from pins pages of its own for a moment.
same() {
    for _ in 1 2 3 4 5; do
        now=$(held)
        [ "$1" = "$now" ] && break
        sleep 1
    done
    echo "$now, before $1"
    [ "$1" = "$now" ]
}
claim_that holds-no-more same "$there"
tell detach $nic
claim_that gives-all-back same "$gone"
note "$cycles cycles in $(echo "$started $ended" | awk '{ print $2 - $1 }') s"
tell attach $nic
claim_that found-at-last found
claim_that megabyte-at-last megabyte
guest-stop v
unbind_vfio $nic
claim released "$([ "$(driver_of $nic)" = e1000e ] && echo pass || echo fail)" "driver $(driver_of $nic) again"
