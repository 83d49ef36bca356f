# Frontends and links come and go; the other ends do not notice.
count_fds() { ls "/proc/$1/fd" | wc -l; }
netvm_up up.txt || fail "netvm did not come up"
guest a && guest b || fail "no addresses"
link=$(link_pid a)
outside_to a && outside_to b || fail "no traffic"
fds=$(count_fds "$link") threads=$(ls "/proc/$link/task" | wc -l)

step "Guest a's VMM is killed and started again, while b keeps pinging"
guest-sh b 'ping -c 60 -i 0.5 100.127.77.1 >/run/ping 2>&1 </dev/null & true'
for round in 1 2; do
    guest-stop a
    guest a || fail "guest a has no address after restart $round"
done
claim guest-returns "$(outside_to a >/dev/null && echo pass || echo fail)" "guest a has traffic after two restarts of its VMM"
claim no-leak "$([ "$(count_fds "$link")" = "$fds" ] && [ "$(ls "/proc/$link/task" | wc -l)" = "$threads" ] && echo pass || echo fail)" \
    "link a: $fds fds and $threads threads before, $(count_fds "$link") and $(ls "/proc/$link/task" | wc -l) after"
lost=$(GUEST_TIMEOUT=90 guest-sh b 'while pidof ping >/dev/null; do sleep 1; done; grep loss /run/ping')
claim others-undisturbed "$(echo "$lost" | grep -q ' 0% packet loss' && echo pass || echo fail)" "guest b: $lost"

step "A link is killed: both its ends reconnect"
kill -9 "$link"
if wait_for 30 "guest a's traffic" outside_to a; then
    claim link-returns pass "guest a has traffic through a new link process, without a restart"
else
    claim link-returns fail "$(netvm status)"
fi
claim b-still-there "$(outside_to b >/dev/null && echo pass || echo fail)" "guest b has traffic"

step "The links' sandbox"
link=$(link_pid b)
grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$link/status"
field() { sed -n "s/^$1:[[:space:]]*\([0-9a-f]*\).*/\1/p" "/proc/$link/status"; }
claim sandbox "$([ "$(field Uid)" -gt 65536 ] && [ "$(field CapEff)" = 0000000000000000 ] && [ "$(field NoNewPrivs)" = 1 ] && [ "$(field Seccomp)" = 2 ] && echo pass || echo fail)" \
    "uid $(field Uid), capabilities $(field CapEff), no new privileges $(field NoNewPrivs), seccomp $(field Seccomp)"
for space in net mnt ipc uts; do
    [ "$(readlink "/proc/$link/ns/$space")" != "$(readlink "/proc/1/ns/$space")" ] || claim "namespace-$space" fail "it shares the host's"
done
root=$(ls -A "/proc/$link/root" | wc -l)
claim empty-root "$([ "$root" = 0 ] && echo pass || echo fail)" "$root entries in its root"
guests=$(ls -l "/proc/$link/fd" | grep -c memfd)
note "link b holds $(ls "/proc/$link/fd" | wc -l) fds, $guests memfds"
netvm down || fail "netvm down"
