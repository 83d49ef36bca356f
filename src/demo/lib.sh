# What the demonstration and the rig's tests share; the rig's own lib.sh is there already.
nic=0000:00:03.0
outside=10.0.2.100

# netvm's kernel as it is after unpacking itself, which takes an emulated PC four seconds.
if [ -e /rig/guest/vmlinux ] && [ ! -L /var/lib/netvm/image/vmlinuz ]; then
    chmod a+rX /rig /rig/guest /rig/guest/vmlinux
    ln -sf /rig/guest/vmlinux /var/lib/netvm/image/vmlinuz
fi

# netvm_up LOG: starts netvm and waits until it has an uplink; its pid is in $up.
netvm_up() {
    for attempt in 1 2; do
        netvm up >"$OUT/$1" 2>&1 &
        up=$!
        wait_for 150 "netvm and its uplink" uplink_or_end
        has_uplink && return 0
        cat "$OUT/$1"
        tail -n 20 /run/netvm/console.log 2>/dev/null
        # The emulated PC's nested virtualisation now and then loses a guest: its VMM then ends without a word.
        grep -q 'netvm ended (exit status: 0)' "$OUT/$1" || return 1
        grep -qi panic /run/netvm/console.log 2>/dev/null && return 1
        note "the emulated PC lost netvm's kernel; once more"
    done
    return 1
}
has_uplink() { netvm status 2>/dev/null | grep -q "^uplink *10\."; }
uplink_or_end() { has_uplink || ! kill -0 $up 2>/dev/null; }

# guest NAME [VMM]: a guest with the very flags that netvm prints for it; prints its address when it has one.
# One that the emulated PC lost at its first instructions is started anew.
guest() {
    guest_start "$@"
    guest-wait "$1" && return 0
    [ -s "/run/rig/guest/$1/console" ] && return 1
    note "guest $1 was lost before its kernel said a word; once more"
    guest-stop "$1" 2>/dev/null
    guest_start "$@"
    guest-wait "$1"
}
guest_start() { eval "GUEST_VMM=${2:-qemu} GUEST_MEMORY=flags guest-start $1 $(netvm flags "$1" --vmm "${2:-qemu}" --memory 128M)"; }

# get GUEST ADDRESS PORT: what a web server answers to a guest. (Debian 12's static busybox wget crashes.)
get() { guest-sh "$1" "printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 $2 $3 | sed '1,/^\r*\$/d' | grep ."; }
outside_to() { get "$1" $outside 80; }

# link_pid GUEST: the process of its link.
link_pid() { netvm status --json | sed -n "/\"guest\": \"$1\",/{n;s/.*\"pid\": \([0-9]*\).*/\1/p}"; }

# netvm_pid: the process of netvm's VMM.
netvm_pid() { netvm status --json | sed -n '/^  "netvm": {/{n;s/.*"pid": \([0-9]*\).*/\1/p}'; }

# verdict COMMAND...: pass or fail, for claim.
verdict() { if "$@" >/dev/null 2>&1; then echo pass; else echo fail; fi; }
