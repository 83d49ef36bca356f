# netvm and a guest, both on minivmm: its cards survive a link that is killed.
sed 's/^vmm = .*/vmm = "minivmm"/' /etc/netvm/netvm.toml >/run/netvm.toml
export NETVM_DECLARATION=/run/netvm.toml
netvm_up up.txt || fail "netvm did not come up: $(cat "$OUT/up.txt")"
claim_that guest guest a minivmm
claim traffic "$(verdict outside_to a)" "guest a has traffic"

step "The link is killed: both its ends reconnect"
link=$(link_pid a)
kill -9 "$link"
claim link-returns "$(verdict wait_for 60 "guest a's traffic" outside_to a)" \
    "traffic goes through link process $(link_pid a), was $link"
claim told "$(grep -q 'has a link again' /run/rig/guest/a/vmm.log && echo pass || echo fail)" \
    "$(tr '\n' ' ' </run/rig/guest/a/vmm.log)"
netvm down || fail "netvm down"
wait $up

