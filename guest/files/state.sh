# Sourced: netvm's state as one line of JSON, at most 8 KiB. Only checked values go in: numbers,
# addresses, names from the declaration and interface names. Reasons are our own texts.

# Most leases in one line.
STATE_LEASES=45

# text TEXT: a JSON string without what JSON would have to escape.
text() {
	printf '"%s"' "$(printf %.200s "$1" | tr -cd 'a-zA-Z0-9 .,:/()_+-' )"
}

boolean() {
	[ "$1" = "$2" ] && echo true || echo false
}

state_uplink() {
	local interface driver mac gateway server list=
	interface=$(get uplink.interface)
	[ -n "$interface" ] && [ -e "/sys/class/net/$interface/address" ] || {
		echo null
		return
	}
	driver=$(readlink "/sys/class/net/$interface/device/driver")
	read -r mac <"/sys/class/net/$interface/address"
	gateway=$(get uplink.gateway)
	for server in $(get uplink.dns); do
		list="$list${list:+,}\"$server\""
	done
	printf '{"interface":"%s","mac":"%s","driver":%s,"address":"%s","gateway":%s,"dns":[%s]}' \
		"$interface" "$mac" "$(text "${driver##*/}")" "$(get uplink.address)" \
		"$([ -z "$gateway" ] && echo null || text "$gateway")" "$list"
}

# The lease file has "expiry MAC address name client-id" a line. The name is the declared one.
state_leases() {
	[ -f "$RUN/leases" ] || return 0
	awk -v most="$STATE_LEASES" '
		NR == FNR { name[$4] = $2; next }
		($2 in name) && $1 ~ /^[0-9]+$/ && $3 ~ /^[0-9.]+$/ && count < most {
			printf "%s{\"mac\":\"%s\",\"address\":\"%s\",\"name\":\"%s\",\"expires\":%s}", \
				count++ ? "," : "", $2, $3, name[$2], $1
		}' "$ETC/links" "$RUN/leases"
}

# Packets that policy refused: other guests, other senders, too many connections.
state_denied() {
	nft list counters 2>/dev/null | awk '
		$1 == "counter" { name = $2 }
		$1 == "packets" && name ~ /^(denied|spoofed|bridged|limited)$/ { sum += $2 }
		END { printf "%d", sum }'
}

state_line() {
	local forwarding
	read -r forwarding </proc/sys/net/ipv4/ip_forward
	printf '{"v":1,"phase":"%s","reason":%s,"uplink":%s,"ruleset":%s,"forwarding":%s,"leases":[%s],"denied":%s}\n' \
		"$(get phase)" "$(text "$(get reason)")" "$(state_uplink)" \
		"$(boolean "$(get ruleset)" yes)" "$(boolean "$forwarding" 1)" \
		"$(state_leases)" "$(state_denied)"
}

# state_report CHANNEL: a line on every change and every 4 s. Its own process: a host that does
# not read stops this one only.
state_report() {
	local age=4 fifo="$RUN/never"
	[ -p "$fifo" ] || mkfifo "$fifo"
	# A read from a pipe that nobody writes to is a sleep without a process.
	exec 3<>"$fifo"
	while :; do
		if [ -e "$RUN/changed" ] || [ "$age" -ge 4 ]; then
			rm -f "$RUN/changed"
			state_line >"$1"
			age=0
		fi
		read -r -t 1 _ <&3
		age=$((age + 1))
	done
}
