# From the start of a VMM to its guest's first line: minivmm beside QEMU, in the emulated PC, three times in turn.
#
#   NETVM_RIG_SCRIPT=bench/minivmm-start.sh cargo test --test rig -- script --nocapture
kernel=$(ls /rig/guest/vmlinux 2>/dev/null || echo /rig/guest/vmlinuz)
append="console=ttyS0 panic=-1 tsc=reliable no_timer_check mitigations=off nokaslr"
now() { cut -d' ' -f1 /proc/uptime; }

# first_line NAME COMMAND...: milliseconds until something is in /run/first/NAME.
first_line() {
    rm -f "/run/first/$1"
    started=$(now) name=$1
    shift
    "$@" >"$OUT/$name.log" 2>&1 </dev/null &
    pid=$!
    until [ -s "/run/first/$name" ]; do
        kill -0 $pid 2>/dev/null || return
        usleep 20000
    done
    echo "$started $(now)" | awk '{print int(($2 - $1) * 1000)}'
    kill -KILL $pid
    wait $pid 2>/dev/null
}
ours() {
    first_line minivmm minivmm --kernel "$kernel" --initramfs /rig/guest/initrd --memory $mib --cmdline "$append" \
        --serial /run/first/minivmm "$@"
}
theirs() {
    first_line qemu qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none -cpu host -m $mib \
        -kernel "$kernel" -initrd /rig/guest/initrd -append "$append" \
        -chardev file,id=console,path=/run/first/qemu -serial chardev:console "$@"
}
best() { echo "$@" | tr ' ' '\n' | sort -n | head -n 1; }
# beside ID MIB OURS THEIRS: how long both take, with options of each.
beside() {
    id=$1 mib=$2 of_ours=$3 of_theirs=$4 minivmm= qemu=
    for round in 1 2 3; do
        minivmm="$minivmm $(ours $of_ours)"
        qemu="$qemu $(theirs $of_theirs)"
    done
    ratio=$(echo "$(best $minivmm) $(best $qemu)" | awk '{printf "%.2f", $1 / $2}')
    claim "$id" "$([ -n "$ratio" ] && echo pass || echo fail)" "minivmm$minivmm ms, QEMU$qemu ms, best to best $ratio"
}
mkdir -p /run/first
# The machine that netvm has QEMU make, and its memory, which links can map.
machine="-machine q35,accel=kvm,usb=off,vmport=off,smbus=off,sata=off,hpet=off"
shared() { echo "$machine,memory-backend=memory -object memory-backend-memfd,id=memory,size=$1M,share=on"; }

step "128 MiB, which links can map"
beside shared 128 "" "$(shared 128)"
step "128 MiB, QEMU's being of huge pages that nobody else can map"
beside anonymous 128 "" "$machine"
step "512 MiB and a NIC"
bind_vfio $nic || fail "the NIC cannot be bound"
beside nic 512 "--vfio $nic" "$(shared 512) -device vfio-pci,host=$nic"
