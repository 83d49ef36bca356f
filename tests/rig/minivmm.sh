# The VMM that links vmm-plugin, alone: how it starts beside QEMU, what it passes through, and what it says to nonsense.
# (That netvm works on it is the demonstration's to show.)
kernel=$(ls /rig/guest/vmlinux 2>/dev/null || echo /rig/guest/vmlinuz)
now() { cut -d' ' -f1 /proc/uptime; }

# first_line NAME COMMAND...: milliseconds until something is in /run/first/NAME.
first_line() {
    rm -f "/run/first/$1"
    started=$(now) name=$1
    shift
    "$@" >"$OUT/$name.log" 2>&1 </dev/null &
    pid=$!
    wait_for 60 "the first line of $name" test -s "/run/first/$name" || cat "$OUT/$name.log" >&2
    echo "$started $(now)" | awk '{print int(($2 - $1) * 1000)}'
    kill -KILL $pid
    wait $pid 2>/dev/null
}
mkdir -p /run/first

step "From the start of the VMM to the guest's first line, beside QEMU"
append="console=ttyS0 panic=-1 tsc=reliable no_timer_check mitigations=off nokaslr"
ours= qemus=
for round in 1 2 3; do
    ours="$ours $(first_line minivmm minivmm --kernel "$kernel" --initramfs /rig/guest/initrd --memory 128 \
        --cmdline "$append" --serial /run/first/minivmm)"
    # The machine and memory that netvm has QEMU make.
    qemus="$qemus $(first_line qemu qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -cpu host \
        -machine q35,accel=kvm,usb=off,vmport=off,smbus=off,sata=off,hpet=off,memory-backend=memory -m 128 \
        -object memory-backend-memfd,id=memory,size=128M,share=on \
        -kernel "$kernel" -initrd /rig/guest/initrd -append "$append" \
        -chardev file,id=console,path=/run/first/qemu -serial chardev:console)"
done
best() { echo "$@" | tr ' ' '\n' | sort -n | head -n 1; }
ratio=$(echo "$(best $ours) $(best $qemus)" | awk '{printf "%.2f", $1 / $2}')
claim start "$(echo "$ratio" | awk '{exit !($1 <= 1.1)}' && echo pass || echo fail)" \
    "minivmm$ours ms, QEMU$qemus ms, best to best $ratio"

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

step "What cannot be"
# refused WHAT TEXT ARGUMENT...: ends with exit code 1 and says TEXT.
refused() {
    what=$1 text=$2
    shift 2
    said=$(minivmm "$@" 2>&1 </dev/null)
    code=$?
    echo "$said" | grep -q "$text" && [ $code = 1 ] && verdict=pass || verdict=fail
    claim "refused-$what" $verdict "exit code $code: $said"
}
refused device "0000:00:09.0 is not there" --kernel "$kernel" --vfio 0000:00:09.0
refused unbound "bind it to vfio-pci" --kernel "$kernel" --vfio 0000:00:1f.2
refused kernel "/nowhere" --kernel /nowhere
refused no-kernel "no vmlinux" --kernel /rig/guest/initrd
refused small-memory "64 to" --kernel "$kernel" --memory 63
refused memory-for-kernel "larger --memory" --kernel "$kernel" --memory 64
refused initramfs "larger --memory" --kernel "$kernel" --memory 80 --initramfs /rig/guest/initrd
refused link "/nowhere.sock" --kernel "$kernel" --link /nowhere.sock,mac=02:00:00:00:00:01
mv /dev/kvm /dev/kvm.away
refused kvm "/dev/kvm" --kernel "$kernel"
mv /dev/kvm.away /dev/kvm
