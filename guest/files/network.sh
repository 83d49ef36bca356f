# Sourced: the guests' side of netvm, from nothing to a served bridge. Each step that fails leaves
# everything closed (design: no policy, no forwarding).

# So often is a dead dnsmasq started again before netvm gives up.
SERVICE_ENDS=10

# Parameters and policy, before any card is up.
network_policy() {
	mkdir -p "$RUN"
	phase starting
	echo no >"$RUN/ruleset"
	parameters sysctl.conf || { fail "Kernel parameters cannot be set"; return 1; }
	# Where bridge netfilter exists, bridged frames must not run through the inet table as well.
	for table in iptables ip6tables arptables; do
		file=/proc/sys/net/bridge/bridge-nf-call-$table
		[ ! -e "$file" ] || echo 0 >"$file" || { fail "Bridge netfilter stays on"; return 1; }
	done
	# Large enough for every link's share; 10 MiB at most.
	file=/proc/sys/net/netfilter/nf_conntrack_max
	{ echo 32768 >"$file"; } 2>/dev/null
	nft -f "$ETC/ruleset.nft" || { fail "The ruleset cannot be loaded"; return 1; }
	put ruleset yes
}

# The bridge: netvm's one interface to all guests.
network_bridge() {
	local mac mtu
	mac=$(value network mac)
	mtu=$(value network mtu)
	ip link add guests address "$mac" mtu "$mtu" type bridge stp_state 0 mcast_snooping 0 &&
		parameters sysctl-guests.conf &&
		ip address add "$(value network address)/$(value network prefix)" dev guests &&
		ip link set guests up || { fail "The guests' bridge cannot be made"; return 1; }
}

# Cards of links that are there and not yet ports become ports: renamed by index, isolated from
# each other, nothing learned, nothing flooded, one static entry. Returns 1 when one was refused.
network_links() {
	local device name mac index guest_mac result=0
	for device in /sys/class/net/*; do
		name=${device##*/}
		case $name in lo | guests | link[0-9]*) continue ;; esac
		[ -e "$device/address" ] || continue
		read -r mac <"$device/address"
		set -- $(link_of 3 "$mac")
		[ $# -eq 5 ] || continue
		index=$1 guest_mac=$4
		if [ -e "/sys/class/net/link$index" ]; then
			# Said once a card, not once a second.
			[ -e "$RUN/refused.$name" ] ||
				log "card $name has the MAC of link$index, which is there already: not used"
			: >"$RUN/refused.$name"
			continue
		fi
		ip -batch - <<-END && bridge -batch - <<-END2 && ip link set "link$index" up || result=1
			link set $name down
			link set $name name link$index
			link set link$index mtu $(value network mtu)
			link set link$index master guests
		END
			link set dev link$index isolated on learning off flood off mcast_flood off bcast_flood on hairpin off
			fdb replace $guest_mac dev link$index master static
		END2
		: >"$RUN/changed"
	done
	return $result
}

# DHCP and DNS for the guests; started again whenever it is found dead.
network_service() {
	local pid ends
	pid=$(get dnsmasq.pid)
	[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && return 0
	if [ -n "$pid" ]; then
		ends=$(($(get dnsmasq.ends) + 1))
		echo "$ends" >"$RUN/dnsmasq.ends"
		log "dnsmasq ended, starting it again"
		[ "$ends" -le "$SERVICE_ENDS" ] || { fail "dnsmasq ends again and again"; return 1; }
	fi
	[ -e "$RUN/resolv.conf" ] || : >"$RUN/resolv.conf"
	# Leases of the netvm before; dnsmasq reports each to the lease script when it starts.
	[ -e "$RUN/leases" ] || cp "$ETC/leases" "$RUN/leases"
	dnsmasq --keep-in-foreground --log-facility=- --pid-file= --conf-file="$ETC/dnsmasq.conf" &
	echo $! >"$RUN/dnsmasq.pid"
}

network_up() {
	network_policy && network_bridge || return 1
	network_links || { fail "A link's card cannot be made a port"; return 1; }
	network_service || return 1
	phase no-uplink "no network card yet"
}
