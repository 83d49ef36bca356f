# Frontends and links come and go; the other ends do not notice. And what a link is confined to.
count_fds() { ls "/proc/$1/fd" | wc -l; }
count_threads() { ls "/proc/$1/task" | wc -l; }
netvm_up up.txt || fail "netvm did not come up"
guest a && guest b || fail "no addresses"
link=$(link_pid a)
outside_to a && outside_to b || fail "no traffic"
fds=$(count_fds "$link") threads=$(count_threads "$link")

step "Guest a's VMM is killed and started again, while b keeps pinging"
guest-sh b 'ping -i 0.5 100.127.77.1 >/run/ping 2>&1 </dev/null & echo $! >/run/ping.pid'
for round in 1 2; do
    guest-stop a
    guest a || fail "guest a has no address after restart $round"
done
claim guest-returns "$(verdict outside_to a)" "guest a has traffic after two restarts of its VMM"
claim same-link "$([ "$(link_pid a)" = "$link" ] && echo pass || echo fail)" "through the same link process"
claim no-leak "$([ "$(count_fds "$link")" = "$fds" ] && [ "$(count_threads "$link")" = "$threads" ] && echo pass || echo fail)" \
    "link a: $fds fds and $threads threads before, $(count_fds "$link") and $(count_threads "$link") after"
lost=$(guest-sh b 'kill -INT $(cat /run/ping.pid); sleep 1; grep loss /run/ping')
claim others-undisturbed "$(echo "$lost" | grep -q '^[2-9][0-9].* 0% packet loss' && echo pass || echo fail)" "guest b meanwhile: $lost"

step "A link is killed: both its ends reconnect"
kill -9 "$link"
if wait_for 60 "guest a's traffic" outside_to a; then
    claim link-returns pass "guest a has traffic through a new link process ($(link_pid a), was $link), without a restart"
else
    claim link-returns fail "$(netvm status)"
fi
claim b-still-there "$(verdict outside_to b)" "guest b has traffic"

step "What link b is confined to"
link=$(link_pid b)
field() { sed -n "s/^$1:[[:space:]]*\([0-9a-f]*\).*/\1/p" "/proc/$link/status"; }
claim sandbox "$([ "$(field Uid)" -gt 65536 ] && [ "$(field CapEff)" = 0000000000000000 ] && [ "$(field CapPrm)" = 0000000000000000 ] && [ "$(field NoNewPrivs)" = 1 ] && [ "$(field Seccomp)" = 2 ] && echo pass || echo fail)" \
    "uid $(field Uid), capabilities $(field CapEff), no new privileges $(field NoNewPrivs), seccomp $(field Seccomp)"
shared=
for space in net mnt ipc uts; do
    for other in 1 "$(link_pid a)"; do
        [ "$(readlink "/proc/$link/ns/$space")" != "$(readlink "/proc/$other/ns/$space")" ] || shared="$shared $space of $other"
    done
done
claim namespaces "$([ -z "$shared" ] && echo pass || echo fail)" "net, mnt, ipc, uts: shared with the host or link a:${shared:- none}"
root=$(ls -A "/proc/$link/root" | wc -l)
claim empty-root "$([ "$root" = 0 ] && echo pass || echo fail)" "$root entries in its root"
whole=$(netvm status --json | grep -c '"sandbox_missing": \[\]')
claim nothing-missing "$([ "$whole" = 2 ] && echo pass || echo fail)" "$whole of 2 links say that no part of their sandbox is missing"

step "Link b against guest a: neither its memory nor its socket"
# The memory files that a process has mapped or open, by inode.
memory() { { sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([0-9]*\) *\/memfd:.*/\1/p' "/proc/$1/maps"; for fd in "/proc/$1/fd"/*; do case $(readlink "$fd") in /memfd:*) stat -L -c %i "$fd" ;; esac; done; } | sort -u; }
# The sockets below a link's directory, by inode, and those that a process holds.
sockets_of() { awk -v path="/run/netvm/links/$1/" 'index($8, path) == 1 {print $7}' /proc/net/unix | sort -u; }
sockets_in() { for fd in "/proc/$1/fd"/*; do readlink "$fd"; done | sed -n 's/^socket:\[\(.*\)\]$/\1/p' | sort -u; }
common() { echo "$1" | while read -r item; do [ -n "$item" ] && echo "$2" | grep -x "$item"; done | wc -l; }
vmm() { cat "/run/rig/guest/$1/pid"; }
mine=$(memory "$link")
claim memory-of-b "$([ "$(common "$(memory "$(vmm b)")" "$mine")" -gt 0 ] && echo pass || echo fail)" "link b shares $(common "$(memory "$(vmm b)")" "$mine") memory files with guest b"
claim memory-of-netvm "$([ "$(common "$(memory "$(netvm_pid)")" "$mine")" -gt 0 ] && echo pass || echo fail)" "and some with netvm"
claim memory-of-a "$([ "$(common "$(memory "$(vmm a)")" "$mine")" = 0 ] && [ -n "$(memory "$(vmm a)")" ] && echo pass || echo fail)" \
    "but none of the $(memory "$(vmm a)" | wc -l) of guest a; it holds $(echo "$mine" | wc -l) in all"
mine=$(sockets_in "$link")
claim socket-of-b "$([ "$(common "$(sockets_of b)" "$mine")" -gt 0 ] && echo pass || echo fail)" "link b holds $(common "$(sockets_of b)" "$mine") sockets of its own directory"
claim socket-of-a "$([ "$(common "$(sockets_of a)" "$mine")" = 0 ] && [ -n "$(sockets_of a)" ] && echo pass || echo fail)" "and none of the $(sockets_of a | wc -l) of link a"
guest-stop a
guest-stop b
netvm down || fail "netvm down"
