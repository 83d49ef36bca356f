# Frames of up to 64 KiB between Linux drivers: from guest a to netvm, and from there to guest b.
cat >>"$NETVM_DECLARATION" <<'END'

[[allow]]
from = "a"
to = "b"
protocol = "tcp"
ports = [8000]
END
netvm_up up.txt || fail "netvm did not come up"
guest a && b=$(guest b) || fail "no addresses"

# counter GUEST END NAME: of the end of a guest's link.
counter() { netvm status --json | sed -n '/"links": \[/,$p' | sed -n "/\"guest\": \"$1\",/,\$p" | sed -n "/^ *\"$2\": {/,\$p" | sed -n "s/.*\"$3\": \([0-9]*\).*/\1/p" | head -n 1; }

step "Guest a sends 8 MiB to guest b"
# It must not close its side first: then the sender would stop.
guest-sh b 'sleep 100 | nc -l -p 8000 >/run/got & sleep 0.5'
frames=$(counter a guest frames_in) bytes=$(counter a guest bytes_in)
sent=$(guest-sh a "dd if=/dev/urandom of=/run/sent bs=65536 count=128 2>/dev/null; nc -w 30 ${b##* } 8000 </run/sent; md5sum </run/sent")
got=$(guest-sh b 'sleep 1; md5sum </run/got')
claim unchanged "$([ -n "$got" ] && [ "$got" = "$sent" ] && echo pass || echo fail)" "sent $sent, got $got"
frames=$(($(counter a guest frames_in) - frames)) bytes=$(($(counter a guest bytes_in) - bytes))
mean=$((bytes / (frames > 0 ? frames : 1)))
claim large-frames "$([ "$mean" -gt 3000 ] && echo pass || echo fail)" "link a took $bytes bytes in $frames frames, $mean a frame; the MTU is 1500"
frames=$(counter b guest frames_out) bytes=$(counter b guest bytes_out)
mean=$((bytes / (frames > 0 ? frames : 1)))
claim large-to-b "$([ "$mean" -gt 1600 ] && echo pass || echo fail)" "link b gave guest b $bytes bytes in $frames frames, $mean a frame"
claim no-lies "$(netvm status --json | grep -qE '"(gso-|offload-|checksum-place|header-)' && echo fail || echo pass)" "no frame was dropped for its offloads"
guest-stop a
guest-stop b
netvm down || fail "netvm down"
