//! The `[network]` table: the guests' subnet and what netvm is in it.

use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::at::At;
use super::check::{Check, Field};
use super::error::Problem;
use super::mac::{MacAddress, MacRole};
use super::name::Domain;
use super::raw::RawNetwork;

/// Default subnet: in the shared address space of RFC 6598 (100.64.0.0/10), which home and office
/// networks do not use, in contrast to RFC 1918's. Those who do use it are carriers (who number
/// from 100.64.0.0 upwards), overlay networks that take single addresses anywhere in it, and at
/// least one that takes 100.96.0.0/12. An odd /24 in the top /16, away from both of its ends, is
/// the least likely to be on the other side of an uplink. If it is all the same, netvm notices
/// the overlap and does not forward.
const DEFAULT_SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 127, 77, 0), 24);

/// Where a subnet behind an address translation may be: RFC 1918 and RFC 6598.
const PRIVATE: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Prefix lengths: /30 has room for netvm and one guest, /16 for more guests than links.
const PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 16..=30;

/// The network of the guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Private space, host bits zero, /16 to /30.
    pub subnet: Ipv4Net,
    /// netvm's address: gateway, DHCP server and DNS server of the guests.
    pub address: Ipv4Addr,
    /// netvm's address on the links, the gateway's as guests resolve it.
    pub mac: MacAddress,
    /// DNS domain of the guests.
    pub domain: Domain,
    /// DNS servers that netvm asks; empty: what the uplink's DHCP server says.
    pub dns: Vec<Ipv4Addr>,
    /// Largest IP packet on the links in bytes, 1280 to 9000.
    pub mtu: u16,
}

impl Network {
    /// Whether a host of the subnet can have the address: it is neither outside, nor the network
    /// or broadcast address.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        is_host(self.subnet, address)
    }
}

pub(super) fn is_host(subnet: Ipv4Net, address: Ipv4Addr) -> bool {
    subnet.contains(&address) && address != subnet.network() && address != subnet.broadcast()
}

/// Validates the table; `None` if something in it is wrong, which has then been reported.
pub(super) fn check_network(check: &mut Check, raw: Option<&At<RawNetwork>>) -> Option<Network> {
    let absent = At { span: 0..0, value: RawNetwork::default() };
    let At { span, value: raw } = raw.unwrap_or(&absent);
    let subnet = check_subnet(check, span, raw.subnet.as_ref());
    let subnet = subnet.or(DEFAULT_SUBNET);
    let address = check_address(check, span, raw.address.as_ref(), subnet);
    let fix = "write lower-case labels with dots between them, such as \"netvm.internal\"";
    let domain = check.parsed(
        span,
        "domain",
        raw.domain.as_ref(),
        ("netvm::network::domain", "a domain", fix),
    );
    let dns = check_dns(check, &raw.dns, subnet);
    let mtu = check.number(span, "mtu", raw.mtu.as_ref(), 1280..=9000, "netvm::network::mtu");
    Some(Network {
        subnet: subnet?,
        address: address?,
        mac: MacAddress::derive(MacRole::Netvm, "netvm"),
        domain: domain.or(Domain::default())?,
        dns: dns?,
        mtu: mtu.or(1500)?,
    })
}

fn check_subnet(
    check: &mut Check,
    table: &Range<usize>,
    raw: Option<&At<String>>,
) -> Field<Ipv4Net> {
    let code = "netvm::network::subnet";
    let fix = format!("write an address and a prefix length, such as \"{DEFAULT_SUBNET}\"");
    let field: Field<Ipv4Net> = check.parsed(table, "subnet", raw, (code, "an IPv4 subnet", &fix));
    let Some(At { span, value: subnet }) = field.good() else { return field };
    let refusal = if *subnet != subnet.trunc() {
        Some((
            "netvm::network::host_bits",
            format!("{subnet} is an address in a subnet, not a subnet"),
            format!("write \"{}\"", subnet.trunc()),
        ))
    } else if !PREFIX_LENGTHS.contains(&subnet.prefix_len()) {
        Some((
            "netvm::network::size",
            format!("A /{} has no fitting number of addresses", subnet.prefix_len()),
            "write a prefix length from /16 to /30; a /24 has room for 253 guests".to_owned(),
        ))
    } else if !PRIVATE.iter().any(|private| private.contains(subnet)) {
        Some((
            "netvm::network::not_private",
            format!("{subnet} is not in a space for private networks"),
            format!(
                "use a part of 100.64.0.0/10 such as {DEFAULT_SUBNET}, or of 10.0.0.0/8, \
                 172.16.0.0/12 or 192.168.0.0/16"
            ),
        ))
    } else {
        None
    };
    match refusal {
        Some((code, message, fix)) => {
            check.report(Problem::error(code, span.clone(), message, "this subnet").help(fix));
            Field::Bad
        }
        None => field,
    }
}

fn check_address(
    check: &mut Check,
    table: &Range<usize>,
    raw: Option<&At<String>>,
    subnet: Option<Ipv4Net>,
) -> Option<Ipv4Addr> {
    let code = "netvm::network::address";
    let fix = "write four numbers with dots between them, such as \"100.127.77.1\"";
    let field: Field<Ipv4Addr> =
        check.parsed(table, "address", raw, (code, "an IPv4 address", fix));
    let subnet = subnet?;
    if let Some(At { span, value: address }) = field.good()
        && !is_host(subnet, *address)
    {
        check.report(
            Problem::error(
                "netvm::network::address",
                span.clone(),
                format!("netvm cannot have {address}: it is no host's address in {subnet}"),
                "this address",
            )
            .help(host_range(subnet)),
        );
        return None;
    }
    field.or(first_host(subnet))
}

/// `subnet` has at least two hosts, as its prefix length was checked.
fn first_host(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() | 1)
}

/// A fix that names the addresses that hosts can have.
pub(super) fn host_range(subnet: Ipv4Net) -> String {
    let last = Ipv4Addr::from_bits(subnet.broadcast().to_bits() & !1);
    format!("write an address from {} to {last}", first_host(subnet))
}

fn check_dns(
    check: &mut Check,
    raw: &[At<String>],
    subnet: Option<Ipv4Net>,
) -> Option<Vec<Ipv4Addr>> {
    let mut servers = Vec::new();
    for at in raw {
        let (what, fix) = ("an IPv4 address", "write the address of a server, such as \"9.9.9.9\"");
        let field: Field<Ipv4Addr> =
            check.parsed(&at.span, "dns", Some(at), ("netvm::network::dns", what, fix));
        let Some(At { span, value: server }) = field.good() else { continue };
        let refusal = if subnet.is_some_and(|subnet| subnet.contains(server)) {
            "it is in the guests' own subnet, where netvm is the server"
        } else if server.is_unspecified()
            || server.is_loopback()
            || server.is_multicast()
            || server.is_broadcast()
        {
            "no server can have this address"
        } else if servers.contains(server) {
            "it is in the list twice"
        } else {
            servers.push(*server);
            continue;
        };
        check.report(
            Problem::error(
                "netvm::network::dns",
                span.clone(),
                format!("netvm cannot ask {server}: {refusal}"),
                "this server",
            )
            .help("name servers on the outside network, or leave `dns` out to use its own"),
        );
    }
    (servers.len() == raw.len()).then_some(servers)
}
