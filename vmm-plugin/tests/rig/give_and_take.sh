# The NIC's own group passes, the south bridge's does not, a NIC in use does not; the NIC goes
# to VFIO and comes back, also after SIGKILL at every write.
nic=0000:00:03.0
journal=/run/give_away/journal
mkdir -p -m 700 /run/give_away

ends_with() { # CODE COMMAND...
    wanted=$1; shift
    "$@" >/tmp/said 2>&1; code=$?
    cat /tmp/said >&2
    grep -E 'REFUSED|failed' /tmp/said | head -3
    echo "ended with $code"
    [ "$code" = "$wanted" ]
}
said() { grep -qE "$1" /tmp/said; }
as_before() {
    echo "driver $(driver_of $nic), override $(cat /sys/bus/pci/devices/$nic/driver_override)"
    [ "$(driver_of $nic)" = e1000e ] \
        && [ "$(cat /sys/bus/pci/devices/$nic/driver_override)" = '(null)' ] \
        && [ ! -e $journal ]
}

claim_that own-group-passes ends_with 0 give_away check $journal pci=$nic
claim_that south-bridge-refused ends_with 3 give_away check $journal pci=0000:00:1f.3
claim_that south-bridge-refused-by-R3 said 'REFUSED +R3 '

ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0
claim_that nic-in-use-refused ends_with 3 give_away check $journal pci=$nic
claim_that nic-in-use-refused-by-R4 said 'REFUSED +R4 '
export SSH_CONNECTION='10.0.2.2 50000 10.0.2.15 22'
claim_that session-refused ends_with 3 give_away check $journal pci=$nic take-from-host
claim_that session-refused-by-D27 said 'REFUSED +D27 '
unset SSH_CONNECTION
ip address flush dev eth0; ip link set eth0 down

claim_that bound ends_with 0 give_away bind $journal pci=$nic
claim_that bound-read-back [ "$(driver_of $nic)" = vfio-pci ]
sleep 60 3<>/dev/vfio/$(group_of $nic) & holder=$!
sleep 1
claim_that not-taken-from-a-holder ends_with 4 give_away recover $journal
kill $holder; wait $holder
claim_that recovered ends_with 0 give_away recover $journal
claim_that as-before as_before
claim_that recover-repeated ends_with 0 give_away recover $journal

for file in /sys/bus/pci/devices/$nic/driver_override /sys/bus/pci/drivers/e1000e/unbind \
    /sys/bus/pci/drivers_probe; do
    name=$(basename $file)
    code=$(kill_after_writes 1 $file give_away bind $journal pci=$nic 2>&1 | tail -1)
    claim_that killed-at-$name [ "$code" = 137 ]
    claim_that recovered-after-$name ends_with 0 give_away recover $journal
    claim_that as-before-after-$name as_before
done
for write in 1 2 3; do
    code=$(kill_after_writes $write $journal give_away bind $journal pci=$nic 2>&1 | tail -1)
    claim_that killed-at-journal-$write [ "$code" = 137 ]
    claim_that recovered-after-journal-$write ends_with 0 give_away recover $journal
    claim_that as-before-after-journal-$write as_before
done
for file in /sys/bus/pci/devices/$nic/reset /sys/bus/pci/drivers/vfio-pci/unbind \
    /sys/bus/pci/devices/$nic/driver_override /sys/bus/pci/drivers/e1000e/bind; do
    name=back-$(basename $file)
    give_away bind $journal pci=$nic
    code=$(kill_after_writes 1 $file give_away recover $journal 2>&1 | tail -1)
    claim_that killed-at-$name [ "$code" = 137 ]
    claim_that recovered-after-$name ends_with 0 give_away recover $journal
    claim_that as-before-after-$name as_before
done

ip link set eth0 up
claim_that nic-works-again udhcpc -i eth0 -n -q -t 10
