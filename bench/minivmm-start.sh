# From the start of a VMM to its guest's first line: minivmm beside QEMU, in the emulated PC, three times in turn.
#
#   NETVM_RIG_SCRIPT=bench/minivmm-start.sh cargo test --test rig -- script --nocapture
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
claim start pass "minivmm$ours ms, QEMU$qemus ms, best to best $ratio"
