# netvm up is killed after every single write to the host, and while it runs: netvm recover heals each time.
device=/sys/bus/pci/devices/$nic
healed() { [ "$(driver_of $nic)" = e1000e ] && [ "$(cat $device/driver_override)" = "(null)" ] && [ ! -e /run/netvm/journal ]; }

step "SIGKILL at each write to sysfs"
for path in $device/driver_override /sys/bus/pci/drivers/e1000e/unbind /sys/bus/pci/drivers_probe; do
    code=$(kill_after_writes 1 "$path" netvm up 2>"$OUT/up-$(basename "$path").txt" | tail -n 1)
    note "killed at $path: exit $code, driver $(driver_of $nic), override $(cat $device/driver_override)"
    [ "$code" = 137 ] || claim "killed-at-$(basename "$path")" fail "exit $code: strace did not kill it"
    netvm up >/dev/null 2>&1
    claim "up-refused-after-$(basename "$path")" "$([ $? = 4 ] && echo pass || echo fail)" "netvm up asks for recovery"
    recovered=$(netvm recover 2>&1)
    claim "recovered-from-$(basename "$path")" "$(healed && echo pass || echo fail)" "$(echo "$recovered" | tail -n 1); driver $(driver_of $nic)"
done

step "SIGKILL while netvm runs: its VMM and its links die with it"
netvm_up up.txt || fail "netvm did not come up"
kill -9 $up
wait_for 20 "the VMM to die" sh -c '! pidof qemu-system-x86_64'
wait_for 20 "the links to die" sh -c '! pidof netvm-link'
claim nothing-outlives "$(! pidof qemu-system-x86_64 netvm-link >/dev/null && echo pass || echo fail)" "left: $(pidof qemu-system-x86_64 netvm-link || echo nothing)"
claim still-with-vfio "$([ "$(driver_of $nic)" = vfio-pci ] && echo pass || echo fail)" "the NIC waits with $(driver_of $nic)"
netvm status
claim status-says-so "$([ $? = 4 ] && echo pass || echo fail)" "netvm status ends with 4"
recovered=$(netvm recover 2>&1)
claim recovered "$(healed && echo pass || echo fail)" "$(echo "$recovered" | tail -n 1)"
claim_that recover-again netvm recover
