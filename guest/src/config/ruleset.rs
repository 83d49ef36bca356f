//! netvm's nftables ruleset: one transaction that replaces everything.
//!
//! Table `bridge links` knows each link's port: which MAC and which addresses may come in, and
//! what may go out by it. It marks packets with the link they came by. Table `inet netvm` decides
//! by that mark. Both begin with "drop".

use std::fmt::Write;
use std::ops::RangeInclusive;

use super::{Allow, Config, Forward, Link, MacAddress, Protocol, interface};

/// Most tracked connections one link may have open, so that no guest fills the table alone.
const CONNECTIONS_PER_LINK: u32 = 4096;

/// Renders the whole ruleset.
pub(super) fn ruleset(config: &Config) -> String {
    format!("flush ruleset\n\n{}\n{}", bridge(config), inet(config))
}

/// The mark of packets from a link. 0 means "from no link".
fn mark(index: usize) -> usize {
    index + 1
}

/// `{ a, b }` elements as a set or map statement, or nothing: nft refuses an empty list.
fn elements(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        return String::new();
    }
    format!("\t\telements = {{\n\t\t\t{}\n\t\t}}\n", items.join(",\n\t\t\t"))
}

fn bridge(config: &Config) -> String {
    let links = || config.links.iter().enumerate();
    let cards = elements(
        links().map(|(index, link)| format!("\"{}\" . {}", interface(index), link.guest_mac)),
    );
    let sources = elements(links().filter_map(|(index, link)| {
        Some(format!("\"{}\" . {}", interface(index), link.guest_address?))
    }));
    let marks =
        elements(links().map(|(index, _)| format!("\"{}\" : {}", interface(index), mark(index))));
    let dhcp_in = elements(
        links().map(|(index, _)| format!("\"{}\" : jump dhcp_from_{index}", interface(index))),
    );
    let mut dhcp_chains = String::new();
    let mut dhcp_out = String::new();
    for (index, link) in links() {
        dhcp_chains.push_str(&dhcp_chain(index, link));
        let (port, chaddr) = (interface(index), chaddr(link.guest_mac));
        let _ = writeln!(
            dhcp_out,
            "\t\tether daddr ff:ff:ff:ff:ff:ff udp sport 67 udp dport 68 oifname \"{port}\" {chaddr} accept"
        );
    }
    let netvm_mac = config.netvm_mac;
    format!(
        "\
table bridge links {{
	# A source that is not the link's own.
	counter spoofed {{ }}
	# Protocols and group addresses that are not served here, IPv6 and VLAN tags included.
	counter unserved {{ }}
	# From one port to another, or out to a card that is not the port's own. Of netvm's own
	# broadcasts a port gets what is about its guest: ARP for its addresses, its DHCP.
	counter bridged {{ }}

	set cards {{
		type ifname . ether_addr
{cards}	}}
	# Addresses by link: declared ones here, leased ones added by the DHCP server's script.
	set sources {{
		type ifname . ipv4_addr
{sources}	}}
	map marks {{
		type ifname : mark
{marks}	}}

{dhcp_chains}	map dhcp_from {{
		type ifname : verdict
{dhcp_in}	}}
	chain arp_in {{
		arp htype != 1 counter name unserved drop
		arp ptype != ip counter name unserved drop
		arp hlen != 6 counter name unserved drop
		arp plen != 4 counter name unserved drop
		iifname . arp saddr ether != @cards counter name spoofed drop
		arp operation request arp saddr ip 0.0.0.0 accept
		iifname . arp saddr ip @sources accept
		counter name spoofed drop
	}}
	chain ip_in {{
		udp dport 67 iifname vmap @dhcp_from
		ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
		iifname . ip saddr @sources accept
		counter name spoofed drop
	}}
	chain prerouting {{
		type filter hook prerouting priority dstnat; policy drop;
		iifname . ether saddr != @cards counter name spoofed drop
		ether daddr != {{ {netvm_mac}, ff:ff:ff:ff:ff:ff }} counter name unserved drop
		meta mark set iifname map @marks
		ether type arp goto arp_in
		ether type ip goto ip_in
		counter name unserved drop
	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
		counter name bridged drop
	}}
	chain output {{
		type filter hook output priority filter; policy drop;
		oifname . ether daddr @cards accept
		ether daddr ff:ff:ff:ff:ff:ff oifname . arp daddr ip @sources accept
{dhcp_out}		counter name bridged drop
	}}
}}
"
    )
}

/// DHCP messages from a link name that link's card as their client: a lease is asked for and
/// released by its owner only.
fn dhcp_chain(index: usize, link: &Link) -> String {
    let chaddr = chaddr(link.guest_mac);
    format!(
        "\tchain dhcp_from_{index} {{\n\t\t{chaddr} return\n\t\tcounter name spoofed drop\n\t}}\n"
    )
}

/// Matches the client's hardware address of a DHCP message: 28 bytes into it (RFC 2131 figure 1),
/// behind a UDP header of 8.
fn chaddr(mac: MacAddress) -> String {
    let digits = mac.to_string().replace(':', "");
    format!("@th,288,48 0x{digits}")
}

fn inet(config: &Config) -> String {
    let mut addresses = String::new();
    for (index, link) in config.links.iter().enumerate() {
        let own = elements(link.guest_address.iter().map(ToString::to_string));
        let _ = write!(addresses, "\tset address_{index} {{\n\t\ttype ipv4_addr\n{own}\t}}\n");
    }
    let allow: String = config.allow.iter().filter_map(|rule| allow_rule(config, rule)).collect();
    let inbound: String =
        config.forwards.iter().filter_map(|forward| forward_rule(config, forward)).collect();
    let address = config.address;
    format!(
        "\
table inet netvm {{
	# Refused by policy: between guests, from outside, to netvm itself.
	counter denied {{ }}
	counter invalid {{ }}
	# Over the number of connections that one link may have.
	counter limited {{ }}

	# Interfaces that were accepted as uplink; empty until then.
	set uplinks {{
		type ifname
	}}
	set connections {{
		type mark
		size 1024
		flags dynamic
	}}
{addresses}
	chain allow {{
{allow}	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
		meta nfproto != ipv4 counter name denied drop
		ct state vmap {{ established : accept, related : accept, invalid : goto drop_invalid }}
		iifname \"guests\" meta mark 0 counter name denied drop
		iifname \"guests\" add @connections {{ meta mark ct count over {CONNECTIONS_PER_LINK} }} counter name limited drop
		iifname \"guests\" oifname \"guests\" jump allow
		iifname \"guests\" oifname @uplinks accept
		iifname @uplinks oifname \"guests\" ct status dnat accept
		counter name denied drop
	}}
	chain input {{
		type filter hook input priority filter; policy drop;
		iifname \"lo\" accept
		meta nfproto != ipv4 counter name denied drop
		ct state vmap {{ established : accept, related : accept, invalid : goto drop_invalid }}
		iifname \"guests\" jump from_guests
		iifname @uplinks udp sport 67 udp dport 68 accept
		counter name denied drop
	}}
	chain from_guests {{
		meta mark 0 counter name denied drop
		udp sport 68 udp dport 67 accept
		ip daddr {address} udp dport 53 accept
		ip daddr {address} tcp dport 53 accept
		ip daddr {address} icmp type echo-request accept
	}}
	chain drop_invalid {{
		counter name invalid drop
	}}
	chain inbound {{
		type nat hook prerouting priority dstnat; policy accept;
{inbound}	}}
	chain outbound {{
		type nat hook postrouting priority srcnat; policy accept;
		iifname \"guests\" oifname @uplinks masquerade
	}}
}}
"
    )
}

/// "From this link to that link's addresses, this protocol". None for a guest without a link,
/// which validation has refused already.
fn allow_rule(config: &Config, rule: &Allow) -> Option<String> {
    let from = mark(config.link_index(&rule.from)?);
    let to = config.link_index(&rule.to)?;
    let what = match rule.protocol {
        Protocol::Tcp => transport("tcp", &rule.ports),
        Protocol::Udp => transport("udp", &rule.ports),
        Protocol::Icmp => " icmp type echo-request".to_owned(),
        Protocol::Any => String::new(),
    };
    Some(format!("\t\tmeta mark {from} ip daddr @address_{to}{what} accept\n"))
}

/// " tcp dport { 80, 8000-8010 }", or " meta l4proto tcp" for all ports. Each port is one
/// element however often it was declared: nft refuses overlapping intervals.
fn transport(protocol: &str, ports: &[RangeInclusive<u16>]) -> String {
    if ports.is_empty() {
        return format!(" meta l4proto {protocol}");
    }
    let mut sorted: Vec<(u16, u16)> = ports.iter().map(|r| (*r.start(), *r.end())).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    let list: Vec<String> = merged
        .iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    format!(" {protocol} dport {{ {} }}", list.join(", "))
}

/// A port of the uplink's address that leads to a guest.
fn forward_rule(config: &Config, forward: &Forward) -> Option<String> {
    let link = config.links.get(config.link_index(&forward.to)?)?;
    let address = link.guest_address?;
    let protocol = match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp | Protocol::Any => return None,
    };
    let (port, to_port) = (forward.port, forward.to_port);
    Some(format!(
        "\t\tiifname @uplinks fib daddr type local {protocol} dport {port} dnat ip to {address}:{to_port}\n"
    ))
}
