# netvm up is killed at every single change to the host, while it runs, and while it is undone: netvm recover heals.
device=/sys/bus/pci/devices/$nic
group=/dev/vfio/$(group_of $nic)
journal=/run/netvm/journal
healed() { [ "$(driver_of $nic)" = e1000e ] && [ "$(cat $device/driver_override)" = "(null)" ] && [ ! -e $journal ] && [ ! -e "$group" ]; }
# killed_at ID SYSCALL COUNT PATH COMMAND...: the command dies there, or the scenario shows nothing.
killed_at() {
    point=$1
    shift
    code=$(kill_at "$@" 2>"$OUT/$point.txt" | tail -n 1)
    note "$point: exit $code, driver $(driver_of $nic), override $(cat $device/driver_override), journal of $(cat $journal 2>/dev/null | wc -l) lines"
    [ "$code" = 137 ] || claim "$point" fail "exit $code: it was not killed there"
}

step "netvm up is killed at each of its writes"
while read -r id call count path; do
    killed_at "up-$id" "$call" "$count" "$path" netvm up
    netvm up >/dev/null 2>&1
    up_says=$?
    netvm status >/dev/null 2>&1
    status_says=$?
    claim "refused-after-$id" "$([ $up_says = 4 ] && [ $status_says = 4 ] && echo pass || echo fail)" \
        "netvm up ends with $up_says, netvm status with $status_says"
    recovered=$(netvm recover 2>&1)
    code=$?
    claim "healed-after-$id" "$([ $code = 0 ] && healed && echo pass || echo fail)" \
        "exit $code, driver $(driver_of $nic): $(echo "$recovered" | tail -n 1)"
done <<END
journal-start write 1 $journal
journal-note write 2 $journal
journal-device write 3 $journal
override write 1 $device/driver_override
unbind write 1 /sys/bus/pci/drivers/e1000e/unbind
probe write 1 /sys/bus/pci/drivers_probe
journal-owner write 4 $journal
owner fchownat 1 $group
END

step "SIGKILL while netvm runs: its VMM and its links die with it"
netvm_up up.txt || fail "netvm did not come up"
vmm=$(netvm_pid)
kill -9 $up
gone() { ! pidof netvm-link && [ ! -e "/proc/$vmm" ]; }
wait_for 20 "the VMM and the links to die" gone
claim nothing-outlives "$(verdict gone)" "of the VMM (pid $vmm) and the links, left: $(pidof netvm-link || echo nothing)"
claim still-with-vfio "$([ "$(driver_of $nic)" = vfio-pci ] && echo pass || echo fail)" "the NIC waits with $(driver_of $nic)"

step "netvm recover is killed at each of its writes, and goes on from there"
while read -r id call count path; do
    killed_at "recover-$id" "$call" "$count" "$path" netvm recover
    netvm status >/dev/null 2>&1
    code=$?
    claim "still-asked-after-$id" "$([ $code = 4 ] && echo pass || echo fail)" "netvm status ends with $code"
done <<END
owner fchownat 1 $group
journal-owner write 1 $journal
reset write 1 $device/reset
unbind write 1 /sys/bus/pci/drivers/vfio-pci/unbind
override write 1 $device/driver_override
bind write 1 /sys/bus/pci/drivers/e1000e/bind
journal-device write 1 $journal
retire rename 1 $journal
END
recovered=$(netvm recover 2>&1)
code=$?
claim recovered "$([ $code = 0 ] && healed && echo pass || echo fail)" "exit $code, driver $(driver_of $nic): $(echo "$recovered" | tail -n 1)"
claim_that recover-again netvm recover
claim usable "$([ -n "$(ls $device/net)" ] && echo pass || echo fail)" "the host has its interface $(ls $device/net) again"
