# Sourced: netvm's side towards the wire.

# uplink_cards: every Ethernet device that is no link, or the declared ones only.
uplink_cards() {
	local device name mac nics
	nics=$(value uplink nic)
	for device in /sys/class/net/*; do
		name=${device##*/}
		case $name in lo | guests | link[0-9]*) continue ;; esac
		is_interface "$name" || continue
		[ "$(cat "$device/type" 2>/dev/null)" = 1 ] || continue
		read -r mac <"$device/address"
		[ -z "$(link_of 3 "$mac")" ] || continue
		[ -z "$nics" ] || echo "$nics" | grep -qx "$mac" || continue
		echo "$name"
	done
}

# uplink_down INTERFACE REASON [PHASE]: closed first, then taken apart.
uplink_down() {
	local current
	current=$(get uplink.interface)
	[ -z "$current" ] || [ "$current" = "$1" ] || return 0
	nft flush set inet netvm uplinks
	forwarding 0
	ip -4 address flush dev "$1" 2>/dev/null
	rm -f "$RUN"/uplink.*
	: >"$RUN/resolv.conf"
	phase "${3:-no-uplink}" "$2"
}

# uplink_accept INTERFACE ADDRESS PREFIX GATEWAY DNS...: checks what the wire said, and opens.
# GATEWAY may be empty: then only the uplink's own network is reached.
uplink_accept() {
	local interface=$1 address=$2 prefix=$3 gateway=$4 server servers='' current
	shift 4
	current=$(get uplink.interface)
	if [ -n "$current" ] && [ "$current" != "$interface" ]; then
		log "$interface has an address too, but $current is the uplink"
		return 0
	fi
	if [ "$(get ruleset)" != yes ] || [ "$(get phase)" = failed ]; then
		return 1
	fi
	if ! is_interface "$interface" || ! is_address "$address" || ! is_prefix "$prefix" ||
		{ [ -n "$gateway" ] && ! is_address "$gateway"; }; then
		uplink_down "$interface" "$interface was offered a malformed address or gateway"
		return 1
	fi
	if overlaps "$address" "$prefix" ||
		{ [ -n "$gateway" ] && in_guests "$gateway"; }; then
		uplink_down "$interface" "the network of $interface, $address/$prefix, overlaps the guests' subnet" overlap
		return 1
	fi
	for server in "$@"; do
		is_address "$server" && ! in_guests "$server" && servers="$servers $server"
	done
	if [ -n "$current" ] && [ "$(get uplink.address)" != "$address/$prefix" ]; then
		uplink_down "$interface" "changing address"
	fi
	ip address replace "$address/$prefix" dev "$interface" &&
		{ [ -z "$gateway" ] || ip route replace default via "$gateway" dev "$interface" onlink; } || {
		uplink_down "$interface" "the address $address/$prefix cannot be set"
		return 1
	}
	for server in $servers; do
		echo "nameserver $server"
	done >"$RUN/resolv.conf.new"
	mv "$RUN/resolv.conf.new" "$RUN/resolv.conf"
	put uplink.address "$address/$prefix"
	put uplink.gateway "$gateway"
	put uplink.dns "${servers# }"
	put uplink.interface "$interface"
	nft add element inet netvm uplinks "{ \"$interface\" }" && forwarding 1 || {
		uplink_down "$interface" "the ruleset did not take $interface"
		return 1
	}
	phase ready
}

# uplink_watch: called again and again; starts what is missing, ends what lost its cable.
uplink_watch() {
	local name pid carrier
	for name in $(uplink_cards); do
		pid=$(get "dhcp.$name")
		if [ ! -e "$RUN/seen.$name" ]; then
			: >"$RUN/seen.$name"
			ip link set "$name" up || log "$name cannot be set up"
		fi
		carrier=0
		read -r carrier <"/sys/class/net/$name/carrier" 2>/dev/null
		if [ "$carrier" != 1 ]; then
			[ -z "$pid" ] || kill "$pid" 2>/dev/null
			rm -f "$RUN/dhcp.$name"
			[ "$(get uplink.interface)" != "$name" ] || uplink_down "$name" "no carrier on $name"
			[ -n "$(get uplink.interface)" ] || phase no-uplink "no carrier on $name"
			continue
		fi
		if [ "$(value uplink mode)" = static ]; then
			[ "$(get uplink.interface)" = "$name" ] ||
				uplink_accept "$name" "$(value uplink address)" "$(value uplink prefix)" \
					"$(value uplink gateway)" $(value uplink dns)
		elif [ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null; then
			[ "$(get phase)" != no-uplink ] || phase no-uplink "asking for an address on $name"
			udhcpc -f -i "$name" -s /lib/netvm/udhcpc -t 4 -T 2 -A 3 -O mtu </dev/null &
			echo $! >"$RUN/dhcp.$name"
		fi
	done
	name=$(get uplink.interface)
	if [ -n "$name" ] && [ ! -e "/sys/class/net/$name" ]; then
		uplink_down "$name" "$name is gone"
	fi
}
