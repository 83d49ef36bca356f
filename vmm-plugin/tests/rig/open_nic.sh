# A NIC behind a root port, opened as a VMM does without a guest: what it holds is given back.
nic=$(basename $(ls -d /sys/bus/pci/devices/0000:01:00.0))
bind_vfio $nic
group=$(group_of $nic)
said() { grep -E "^$1 " /tmp/said; }

open_nic check $group $nic >/tmp/said 2>&1; code=$?
cat /tmp/said
claim_that open-nic-ends-well [ $code = 0 ]
for what in second-open foreign limits device decoding-off mapped interrupts reset dma window \
    slots routes given-back; do
    claim_that $what said $what
done
open_nic adopt $group $nic >/tmp/said 2>&1
cat /tmp/said
for what in device decoding-off mapped interrupts reset given-back; do
    claim_that vfio-ioctls-$what said $what
done
open_nic time $group $nic >/tmp/said 2>&1
cat /tmp/said
for what in opened anonymous: memfd:; do
    claim_that time-${what%:} said $what
done
open_nic limited $group $nic >/tmp/said 2>&1
cat /tmp/said
claim_that memlock-is-counted said memlock
claim_that kernel-counts-too said kernel
claim_that read-only-mapped said read-only

# QEMU's root ports do not bring their link up again after a bus reset, so Linux calls that failed;
# a bridge of conventional PCI has no link.
other=$(basename $(ls -d /sys/bus/pci/devices/*/ | while read device; do
    [ "$(cat $device/vendor)" = 0x10ec ] && echo $device; done))
bind_vfio $other
open_nic reset-bus $(group_of $other) $other >/tmp/said 2>&1
cat /tmp/said
claim_that bus-reset-wants-its-groups said alone
claim_that bus-reset said bus-reset

open_nic hand $group $nic >/tmp/said 2>&1
cat /tmp/said
claim_that taken-without-rights grep -E '^taken .* by user 65534' /tmp/said
claim_that handed-over said handed

open_nic wait $group $nic >/tmp/said 2>&1 & holder=$!
wait_for 20 "the NIC to be held" grep -q waiting /tmp/said
echo $nic >/sys/bus/pci/drivers/vfio-pci/unbind
wait $holder
claim_that host-wants-it-back grep -x 'news Wanted' /tmp/said
cat /tmp/said
claim_that and-has-it [ "$(driver_of $nic)" = none ]
