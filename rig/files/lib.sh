# Functions for scenario scripts (busybox sh). $OUT is the scenario's folder on the host.

# Fields of an event are separated by tabs and end with the line.
rig_event() { # KIND FIELD...
    rig_line=rig
    for rig_field; do
        case $rig_field in *[[:cntrl:]]*) rig_field=$(printf %s "$rig_field" | tr '[:cntrl:]' ' ') ;; esac
        rig_line="$rig_line	$rig_field"
    done
    echo "$rig_line" >"$RIG_EVENTS"
}

# step TEXT: what happens next, shown to whoever watches.
step() {
    echo "[$(cut -d' ' -f1 /proc/uptime)] == $*"
    rig_event step "$*"
}

# note TEXT: something worth showing about the present step.
note() {
    echo "[$(cut -d' ' -f1 /proc/uptime)] $*"
    rig_event note "$*"
}

# claim ID pass|fail EVIDENCE: a statement decided here. A failed one fails the scenario.
claim() {
    rig_id=$1 rig_verdict=$2
    shift 2
    echo "[$(cut -d' ' -f1 /proc/uptime)] claim $rig_id: $rig_verdict: $*"
    rig_event claim "$rig_id" "$rig_verdict" "$*"
}

# claim_that ID COMMAND...: passes when the command succeeds; its output is the evidence.
claim_that() {
    rig_claimed=$1
    shift
    if rig_said=$("$@" 2>&1); then
        claim "$rig_claimed" pass "${rig_said:-$*}"
    else
        claim "$rig_claimed" fail "${rig_said:-nothing said}: $* (exit code $?)"
    fi
}

# claim_not ID COMMAND...: passes when the command fails.
claim_not() {
    rig_claimed=$1
    shift
    if rig_said=$("$@" 2>&1); then
        claim "$rig_claimed" fail "${rig_said:-nothing said}: $* succeeded"
    else
        claim "$rig_claimed" pass "${rig_said:-$* fails}"
    fi
}

# fail TEXT: ends the scenario with exit code 1.
fail() {
    note "failed: $*"
    exit 1
}

# wait_for SECONDS WHAT COMMAND...: repeats the command four times a second until it succeeds.
# Returns 1, after a note that names WHAT, when it has not within SECONDS.
wait_for() {
    rig_until=$(($(date +%s) + $1)) rig_what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$rig_until" ]; then
            note "gave up waiting for $rig_what"
            return 1
        fi
        usleep 250000
    done
}

# driver_of BDF: the driver a PCI device is bound to, or "none".
driver_of() {
    if [ -e "/sys/bus/pci/devices/$1/driver" ]; then
        basename "$(readlink "/sys/bus/pci/devices/$1/driver")"
    else
        echo none
    fi
}

# group_of BDF: the number of a PCI device's IOMMU group; fails when it has none.
group_of() {
    [ -e "/sys/bus/pci/devices/$1/iommu_group" ] || return 1
    basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"
}

# bind_vfio BDF: hands a PCI device to vfio-pci, as the tool would.
bind_vfio() {
    [ ! -e "/sys/bus/pci/devices/$1/driver" ] || echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
    echo vfio-pci >"/sys/bus/pci/devices/$1/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
    [ "$(driver_of "$1")" = vfio-pci ]
}

# unbind_vfio BDF: gives it back to its native driver.
unbind_vfio() {
    echo >"/sys/bus/pci/devices/$1/driver_override"
    [ ! -e "/sys/bus/pci/devices/$1/driver" ] || echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
    echo "$1" >/sys/bus/pci/drivers_probe
}

# capture_start NAME INTERFACE [FILTER...]: records frames into $OUT/NAME.pcap until capture_stop.
capture_start() {
    rig_capture=$1 rig_interface=$2
    shift 2
    tcpdump -i "$rig_interface" -n -U -s 0 -w "$OUT/$rig_capture.pcap" "$@" \
        2>"/run/rig/$rig_capture.tcpdump" &
    echo $! >"/run/rig/$rig_capture.capture"
    # Frames before this line are not recorded.
    wait_for 20 "tcpdump on $rig_interface" grep -q "listening on" "/run/rig/$rig_capture.tcpdump"
}

# capture_stop NAME: ends a capture; $OUT/NAME.pcap is complete.
capture_stop() {
    kill -INT "$(cat "/run/rig/$1.capture")" && wait "$(cat "/run/rig/$1.capture")"
}

# kill_at SYSCALL COUNT PATH COMMAND...: runs the command and kills it with SIGKILL as it enters the
# COUNT-th such system call on PATH, which then does not happen (needs strace in the bundle).
# Prints its exit code last: 137 when it was killed. All on one processor: strace and what it stops
# take turns, and waking another emulated processor for each turn takes many times as long.
kill_at() {
    rig_call=$1 rig_count=$2 rig_path=$3
    shift 3
    busybox taskset 1 strace -f -qq -o /dev/null -P "$rig_path" -e trace="$rig_call" \
        -e inject="$rig_call":signal=KILL:when="$rig_count" "$@"
    echo $?
}

# kill_after_writes COUNT PATH COMMAND...: kill_at for write(2).
kill_after_writes() {
    kill_at write "$@"
}
