# Parts that are missing, fail to start, or die.
export NETVM_DECLARATION=$OUT/netvm.toml
vmm=
back() { [ "$(driver_of $nic)" = e1000e ] && [ ! -e /run/netvm/journal ] && ! pidof netvm-link >/dev/null && { [ -z "$vmm" ] || [ ! -e "/proc/$vmm" ]; }; }
with_vmm() { sed "s|^vmm = .*|vmm = \"qemu\"\nvmm_binary = \"$1\"|" /etc/netvm/netvm.toml >"$NETVM_DECLARATION"; }
# started LOG: netvm up until it answers, its VMM runs and its links do.
started() {
    netvm up >"$OUT/$1" 2>&1 &
    up=$!
    wait_for 60 "netvm's VMM at its links" linked || fail "$(cat "$OUT/$1")"
    vmm=$(netvm_pid)
}
linked() { [ "$(netvm status --json | grep -c '"connected": true')" = 2 ]; }

step "A VMM that is missing"
with_vmm /nonexistent/vmm
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim missing-vmm "$([ $code = 3 ] && back && echo "$said" | grep -q /nonexistent/vmm && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 nonexistent)"
claim missing-vmm-untouched "$([ ! -e /run/netvm/journal.last ] && echo pass || echo fail)" "no journal was begun"

step "A VMM that fails to start"
printf '#!/bin/sh\necho "no such machine" >&2\nexit 7\n' >/run/bad-vmm
chmod +x /run/bad-vmm
with_vmm /run/bad-vmm
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim bad-vmm "$([ $code = 1 ] && back && echo "$said" | grep -q "no such machine" && echo pass || echo fail)" "exit $code, driver $(driver_of $nic): $(echo "$said" | grep -m 1 "no such machine")"

step "netvm up tells a service manager when netvm's ruleset is loaded"
# The one listener on a datagram socket that busybox has.
busybox syslogd -n -O "$OUT/notified.txt" &
wait_for 10 syslogd test -S /dev/log
cp /etc/netvm/netvm.toml "$NETVM_DECLARATION"
export NOTIFY_SOCKET=/dev/log
started up.txt
claim not-ready-early "$(grep -q READY=1 "$OUT/notified.txt" && echo fail || echo pass)" "nothing said while netvm boots"
wait_for 120 "READY=1" grep -q READY=1 "$OUT/notified.txt"
claim ready "$(verdict grep -q READY=1 "$OUT/notified.txt")" "$(grep READY=1 "$OUT/notified.txt"), $(netvm status | grep '^netvm')"
unset NOTIFY_SOCKET

step "A second netvm up"
said=$(netvm up 2>&1)
code=$?
claim second-up "$([ $code = 1 ] && echo "$said" | grep -q "pid $up)" && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 pid)"
claim first-up-undisturbed "$(verdict linked)" "$(netvm status | grep '^netvm')"

step "A link that dies is started again, and counted"
kill -9 "$(link_pid a)"
restarted() { netvm status --json | grep -q '"restarts": 1' && linked; }
wait_for 20 "a new link that netvm has found" restarted
claim link-restarted "$(verdict restarted)" "netvm status: $(netvm status --json | grep '"restarts"' | tr -d '\n')"

step "SIGTERM undoes everything"
kill -TERM $up
wait $up
code=$?
claim sigterm "$([ $code = 0 ] && back && echo pass || echo fail)" "exit $code, driver $(driver_of $nic)"
claim stopping "$(verdict grep -q STOPPING=1 "$OUT/notified.txt")" "$(grep STOPPING=1 "$OUT/notified.txt")"

step "netvm's VMM that dies ends everything"
started up-2.txt
kill -9 "$vmm"
wait $up
code=$?
claim dead-vmm "$([ $code = 1 ] && back && grep -q "netvm ended (signal: 9" "$OUT/up-2.txt" && echo pass || echo fail)" "exit $code, driver $(driver_of $nic): $(grep -m 1 "netvm ended" "$OUT/up-2.txt")"

step "A link that keeps dying ends everything"
started up-3.txt
other_link() { new=$(link_pid a) && [ -n "$new" ] && [ "$new" != "$link" ]; }
link=
for round in 1 2 3 4 5 6; do
    wait_for 20 "link a" other_link || break
    link=$new
    kill -9 "$link"
done
claim five-restarts "$([ $round = 6 ] && echo pass || echo fail)" "link a was killed $round times"
wait $up
code=$?
claim dying-link "$([ $code = 1 ] && back && echo pass || echo fail)" "exit $code, driver $(driver_of $nic): $(tail -n 2 "$OUT/up-3.txt" | head -n 1)"
