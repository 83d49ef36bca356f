# The guest resets its card in traffic, as often as it likes and in every way that it has.
bind_vfio $nic || fail "the NIC cannot be bound"
attacker
claim_that address guest-wait v
vmm=$(cat /run/rig/guest/v/pid)
fds() { ls /proc/$vmm/fd | wc -l; }
# megabytes: how many came from outside until now, whole.
megabytes() { guest-sh v 'cat /run/megabytes 2>/dev/null | wc -l'; }
# more: waits for two more, of which the second began after now.
more() {
    now=$(megabytes)
    wait_for 15 "traffic" sh -c "[ \$(guest-sh v 'cat /run/megabytes 2>/dev/null | wc -l') -ge $((now + 2)) ]" || return 1
    echo "$(megabytes) MiB so far, $now before"
}
guest-sh v "(while :; do
        count=\$(printf 'GET /megabyte HTTP/1.0\r\n\r\n' | nc -w 2 $outside 80 | sed '1,/^\r*\$/d' | wc -c)
        [ \$count = 1048576 ] && echo \$count >>/run/megabytes
    done) >/dev/null 2>&1 &"
claim_that traffic more
files=$(fds)

step "By the kernel, with its driver at work"
for round in 1 2 3; do
    guest-sh v "echo 1 >/sys/bus/pci/devices/$own/reset" || note "reset $round is refused"
done
claim_that after-reset more

step "Behind the driver's back"
said=$(driver reset $own 10)
claim reset-behind "$(echo "$said" | grep -q 'reset 10 times' && echo pass || echo fail)" "$said"
note "$(guest-sh v 'dmesg | tail -n 3')"

step "Taken out and found again"
said=$(guest-sh v "echo 1 >/sys/bus/pci/devices/$own/remove; echo 1 >/sys/bus/pci/rescan; sleep 1; ip link set eth0 up
    udhcpc -i eth0 -s /rig/udhcpc -t 20 -T 1 -n -q -f 2>&1 | grep obtained")
claim found-again "$(echo "$said" | grep -q obtained && echo pass || echo fail)" "$said"
claim_that after-rescan more
claim files "$([ "$(fds)" = "$files" ] && echo pass || echo fail)" "the VMM has $(fds) open files, $files before"
claim silent "$([ ! -s /run/rig/guest/v/vmm.log ] && echo pass || echo fail)" "the VMM said: $(cat /run/rig/guest/v/vmm.log)"
claim no-faults "$([ "$(stopped .)" = 0 ] && echo pass || echo fail)" "$(stopped .) times the IOMMU stopped the card"
guest-stop v
back
