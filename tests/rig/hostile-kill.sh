# The VMM is killed, in traffic and while it starts: what it had pinned, mapped and opened is given back.
# pinned: pages that VFIO holds for devices. The counters are of all that ever were.
pinned() {
    cat /proc/sys/vm/stat_refresh
    awk '/nr_foll_pin_acquired/ { all = $2 } /nr_foll_pin_released/ { back = $2 } END { print all - back }' /proc/vmstat
}
available() { awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo; }
as_before() { [ "$(pinned)" = "$pins" ] && [ -z "$(vfio_open)" ]; }
bind_vfio $nic || fail "the NIC cannot be bound"
pins=$(pinned)
memory=$(available)
pages=$((128 * 256))

step "Killed in traffic"
attacker
claim_that address guest-wait v
guest-sh v "(while :; do printf 'GET /megabyte HTTP/1.0\r\n\r\n' | nc -w 3 $outside 80; done) >/dev/null 2>&1 &"
sleep 1
held=$(($(pinned) - pins))
claim pinned "$([ $held = $pages ] && echo pass || echo fail)" "$held pages are pinned for a guest of $pages"
locked=$(awk '/VmLck/ { print $2 / 4 }' "/proc/$(cat /run/rig/guest/v/pid)/status")
claim counted "$([ "$locked" = $pages ] && echo pass || echo fail)" "VmLck has $locked pages"
guest-stop v
claim unpinned "$(verdict wait_for 5 "what it had" as_before)" \
    "$(($(pinned) - pins)) pages are pinned, and VFIO's files are open for: $(vfio_open | wc -l)"

step "Killed while it starts, and started again at once"
for delay in 0.2 0.4 0.8 2; do
    attacker
    sleep $delay
    held=$(($(pinned) - pins))
    seen="$seen, $held after $delay s"
    guest-stop v
    wait_for 5 "what it had" as_before || left="$left, $(($(pinned) - pins)) pages and $(vfio_open) after $delay s"
done
claim killed-at-start "$([ -z "$left" ] && echo pass || echo fail)" "pages pinned when it was killed: ${seen#, }; left: ${left:-nothing}"
all_mapped() { [ $(($(pinned) - pins)) = $pages ]; }
attacker
claim mapped-again "$(verdict wait_for 30 "all pages mapped" all_mapped)" "$(($(pinned) - pins)) pages are mapped where the first had them"
guest-stop v
wait_for 5 "what it had" as_before || fail "$(($(pinned) - pins)) pages are left"
claim memory "$([ "$(available)" -ge $((memory - 64)) ] && echo pass || echo fail)" \
    "$memory MiB were available before, $(available) are now"
claim no-faults "$([ "$(stopped .)" = 0 ] && echo pass || echo fail)" "$(stopped .) times the IOMMU stopped the card"
back
