# Parts that are missing, fail to start, or die.
export NETVM_DECLARATION=$OUT/netvm.toml
back() { [ "$(driver_of $nic)" = e1000e ] && [ ! -e /run/netvm/journal ] && ! pidof netvm-link >/dev/null; }
with_vmm() { sed "s|^vmm = .*|vmm = \"qemu\"\nvmm_binary = \"$1\"|" /etc/netvm/netvm.toml >"$NETVM_DECLARATION"; }

step "A VMM that is missing"
with_vmm /nonexistent/vmm
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim missing-vmm "$([ $code = 3 ] && back && echo "$said" | grep -q /nonexistent/vmm && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 nonexistent)"

step "A VMM that fails to start"
printf '#!/bin/sh\necho "no such machine" >&2\nexit 7\n' >/run/bad-vmm
chmod +x /run/bad-vmm
with_vmm /run/bad-vmm
said=$(netvm up 2>&1)
code=$?
echo "$said"
claim bad-vmm "$([ $code = 1 ] && back && echo "$said" | grep -q "no such machine" && echo pass || echo fail)" "exit $code, driver $(driver_of $nic): $(echo "$said" | grep -m 1 "no such machine")"

step "A second netvm up"
cp /etc/netvm/netvm.toml "$NETVM_DECLARATION"
netvm_up up.txt || fail "netvm did not come up"
said=$(netvm up 2>&1)
code=$?
claim second-up "$([ $code = 1 ] && echo "$said" | grep -q "pid $up" && echo pass || echo fail)" "exit $code: $(echo "$said" | grep -m 1 pid)"

step "A link that dies is started again"
link=$(pidof netvm-link | tr ' ' '\n' | sort -n | head -n 1)
kill -9 "$link"
wait_for 10 "a new link" sh -c "[ \$(pidof netvm-link | wc -w) = 2 ]"
claim link-restarted "$(netvm status --json | grep -q '"restarts": 1' && echo pass || echo fail)" "$(pidof netvm-link | wc -w) links, one restarted"

step "netvm's VMM that dies ends everything"
kill -9 "$(pidof qemu-system-x86_64)"
wait $up
code=$?
claim dead-vmm "$([ $code = 1 ] && back && echo pass || echo fail)" "exit $code, driver $(driver_of $nic)"

step "SIGTERM undoes everything"
netvm up >"$OUT/up-2.txt" 2>&1 &
up=$!
wait_for 60 "netvm" netvm status
kill -TERM $up
wait $up
code=$?
claim sigterm "$([ $code = 0 ] && back && echo pass || echo fail)" "exit $code, driver $(driver_of $nic)"
