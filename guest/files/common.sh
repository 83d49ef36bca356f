# Sourced by every script of netvm: where things are, checks of values that come from outside,
# state that the reporter sends to the host.

ETC=/etc/netvm
RUN=/run/netvm

# busybox's shell prefers its own applets to programs of the same name, whatever PATH says.
ip() { /sbin/ip "$@"; }
modprobe() { /sbin/modprobe "$@"; }

log() {
	echo "netvm: $*" >&2
}

# value FILE KEY: every value of KEY in a rendered table, one a line.
value() {
	while read -r key rest; do
		[ "$key" = "$2" ] && echo "$rest"
	done <"$ETC/$1"
	return 0
}

# put NAME TEXT: replaces a state file in one step, and says that there is news.
put() {
	echo "$2" >"$RUN/.$1.$$" && mv "$RUN/.$1.$$" "$RUN/$1"
	: >"$RUN/changed"
}

get() {
	[ -f "$RUN/$1" ] && cat "$RUN/$1"
	return 0
}

# phase NAME [REASON]
phase() {
	[ "$(get phase)" = "$1" ] && [ "$(get reason)" = "$2" ] && return 0
	log "phase $1${2:+: $2}"
	put reason "$2"
	put phase "$1"
}

# Sets a file of kernel parameters; one that the kernel lacks is an error.
parameters() {
	sysctl -q -p "$ETC/$1" >/dev/null
}

# forwarding 0|1. The kernel accepts redirects again when forwarding is switched off (RFC 1122
# defaults for hosts), so all parameters are set again after that.
forwarding() {
	if [ "$1" = 1 ]; then
		echo 1 >/proc/sys/net/ipv4/ip_forward
	else
		echo 0 >/proc/sys/net/ipv4/ip_forward
		parameters sysctl.conf
	fi
	: >"$RUN/changed"
}

# fail REASON: nothing passes any more; the host learns why.
fail() {
	echo 0 >/proc/sys/net/ipv4/ip_forward
	ip link set guests down 2>/dev/null
	nft flush set inet netvm uplinks 2>/dev/null
	phase failed "$*"
	return 1
}

# is_address TEXT: four decimal numbers up to 255, without leading zeros.
is_address() {
	case $1 in
	'' | *[!0-9.]* | .* | *. | *..* | *.*.*.*.*) return 1 ;;
	*.*.*.*) ;;
	*) return 1 ;;
	esac
	local octet IFS=.
	for octet in $1; do
		case $octet in
		0 | [1-9] | [1-9][0-9] | [1-9][0-9][0-9]) [ "$octet" -le 255 ] || return 1 ;;
		*) return 1 ;;
		esac
	done
}

is_prefix() {
	case $1 in
	[1-9] | [12][0-9] | 3[012]) ;;
	*) return 1 ;;
	esac
}

# is_interface TEXT: what the kernel and our own renaming give out.
is_interface() {
	case $1 in
	'' | *[!a-zA-Z0-9]* | ????????????????*) return 1 ;;
	esac
}

# A checked address as a number.
number() {
	local IFS=.
	set -- $1
	echo $((($1 << 24) | ($2 << 16) | ($3 << 8) | $4))
}

# overlaps ADDRESS PREFIX: does that network share an address with the guests'?
overlaps() {
	local prefix guests_prefix
	guests_prefix=$(value network prefix)
	prefix=$2
	[ "$guests_prefix" -lt "$prefix" ] && prefix=$guests_prefix
	[ $(($(number "$1") >> (32 - prefix))) -eq \
		$(($(number "$(value network network)") >> (32 - prefix))) ]
}

# in_guests ADDRESS
in_guests() {
	overlaps "$1" 32
}

# link_of FIELD TEXT: the line of the links table whose FIELD (2 name, 3 card MAC, 4 guest MAC)
# is TEXT.
link_of() {
	awk -v field="$1" -v text="$2" '$field == text { print; exit }' "$ETC/links"
}
