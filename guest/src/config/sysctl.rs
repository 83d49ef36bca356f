//! Kernel parameters (Documentation/networking/ip-sysctl.rst), set before any card is up.

/// Parameters set first of all.
///
/// The kernel sets `accept_redirects` again whenever forwarding is switched off, so netvm applies
/// this file after each such change as well.
pub(super) fn global() -> String {
    "\
# No forwarding before the ruleset is loaded and the uplink accepted.
net.ipv4.ip_forward=0
net.ipv6.conf.all.forwarding=0
# IPv4 only: nothing routes or answers IPv6 here.
net.ipv6.conf.all.disable_ipv6=1
net.ipv6.conf.default.disable_ipv6=1
# A packet whose source is not reached through the interface it came by is dropped.
net.ipv4.conf.all.rp_filter=1
net.ipv4.conf.default.rp_filter=1
# Nobody changes routes by ICMP or by source routing.
net.ipv4.conf.all.accept_redirects=0
net.ipv4.conf.default.accept_redirects=0
net.ipv4.conf.all.secure_redirects=0
net.ipv4.conf.default.secure_redirects=0
net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.default.send_redirects=0
net.ipv4.conf.all.accept_source_route=0
net.ipv4.conf.default.accept_source_route=0
# An address is answered for only on its own interface.
net.ipv4.conf.all.arp_ignore=1
net.ipv4.conf.default.arp_ignore=1
net.ipv4.conf.all.arp_announce=2
net.ipv4.conf.default.arp_announce=2
net.ipv4.icmp_echo_ignore_broadcasts=1
net.ipv4.tcp_syncookies=1
"
    .to_owned()
}

/// Parameters of the guests' bridge, set once it exists.
pub(super) fn guests() -> String {
    "\
# Guests reach each other through netvm's routing: it answers ARP for all of their subnet on the
# interface the question came by (RFC 3069), and never points a guest to another one.
net.ipv4.conf.guests.proxy_arp_pvlan=1
net.ipv4.conf.guests.send_redirects=0
net.ipv4.conf.guests.rp_filter=1
"
    .to_owned()
}
