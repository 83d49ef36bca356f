//! The `[uplink]` table: netvm on the outside network.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::at::At;
use super::check::{Check, Field};
use super::error::Problem;
use super::network::{Network, is_host};
use super::raw::RawUplink;

/// How netvm gets its outside address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uplink {
    /// From a DHCP server.
    Dhcp,
    /// Fixed.
    Static {
        /// Address and prefix length.
        address: Ipv4Net,
        /// Router, in the same network.
        gateway: Ipv4Addr,
    },
}

/// Validates the table; `None` if something in it is wrong, which has then been reported.
pub(super) fn check_uplink(
    check: &mut Check,
    raw: Option<&At<RawUplink>>,
    network: Option<&Network>,
) -> Option<Uplink> {
    let Some(At { span, value: raw }) = raw else { return Some(Uplink::Dhcp) };
    let fix = "write an address and its prefix length, such as \"192.168.1.20/24\"";
    let dhcp = check.plain(span, "dhcp", raw.dhcp.as_ref());
    let address: Field<Ipv4Net> = check.parsed(
        span,
        "address",
        raw.address.as_ref(),
        ("netvm::uplink::address", "an address with a prefix length", fix),
    );
    let fix = "write the router's address, such as \"192.168.1.1\"";
    let gateway: Field<Ipv4Addr> = check.parsed(
        span,
        "gateway",
        raw.gateway.as_ref(),
        ("netvm::uplink::gateway", "an IPv4 address", fix),
    );
    match (&dhcp, &address, &gateway) {
        (Field::Bad, _, _) | (_, Field::Bad, _) | (_, _, Field::Bad) => None,
        (Field::Good(At { span: dhcp, value: true }), Field::Good(At { span, .. }), _)
        | (Field::Good(At { span: dhcp, value: true }), _, Field::Good(At { span, .. })) => {
            check.report(
                Problem::error(
                    "netvm::uplink::both",
                    span.clone(),
                    "The uplink has both DHCP and a fixed address",
                    "fixed",
                )
                .also(dhcp.clone(), "by DHCP")
                .help("remove `dhcp`, or both `address` and `gateway`"),
            );
            None
        }
        (Field::Good(At { span, value: false }), Field::Absent, _) => {
            check.report(
                Problem::error(
                    "netvm::uplink::incomplete",
                    span.clone(),
                    "The uplink has neither DHCP nor a fixed address",
                    "no DHCP",
                )
                .help("write `address` and `gateway`, or remove `dhcp = false`"),
            );
            None
        }
        (_, Field::Good(address), Field::Good(gateway)) => {
            check_static(check, address, gateway, network)
        }
        (_, Field::Good(At { span, .. }), Field::Absent)
        | (_, Field::Absent, Field::Good(At { span, .. })) => {
            check.report(
                Problem::error(
                    "netvm::uplink::incomplete",
                    span.clone(),
                    "A fixed uplink needs both `address` and `gateway`",
                    "the other is missing",
                )
                .help("write both, or neither for DHCP"),
            );
            None
        }
        (_, Field::Absent, Field::Absent) => Some(Uplink::Dhcp),
    }
}

fn check_static(
    check: &mut Check,
    address: &At<Ipv4Net>,
    gateway: &At<Ipv4Addr>,
    network: Option<&Network>,
) -> Option<Uplink> {
    let At { span, value: net } = address;
    let unusable = |ip: Ipv4Addr| {
        ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.octets()[0] >= 240
    };
    // A /31 has two hosts and neither network nor broadcast address (RFC 3021).
    let is_host_of_uplink = |ip: Ipv4Addr| {
        if net.prefix_len() == 31 { net.contains(&ip) } else { is_host(net.trunc(), ip) }
    };
    if unusable(net.addr()) || net.prefix_len() > 31 || !is_host_of_uplink(net.addr()) {
        check.report(
            Problem::error(
                "netvm::uplink::address",
                span.clone(),
                format!("No host can have {net}"),
                "this address",
            )
            .help("write a host's address and its prefix length, such as \"192.168.1.20/24\""),
        );
        return None;
    }
    if let Some(network) = network
        && (network.subnet.contains(&net.trunc()) || net.contains(&network.subnet))
    {
        check.report(
            Problem::error(
                "netvm::uplink::overlap",
                span.clone(),
                format!("The uplink's network {} overlaps the guests'", net.trunc()),
                format!("overlaps {}", network.subnet),
            )
            .help("set `subnet` in [network] to another one: netvm could not route otherwise"),
        );
        return None;
    }
    if !is_host_of_uplink(gateway.value) || gateway.value == net.addr() {
        check.report(
            Problem::error(
                "netvm::uplink::gateway",
                gateway.span.clone(),
                format!("{} cannot be the router of {}", gateway.value, net.trunc()),
                "this router",
            )
            .also(span.clone(), "netvm's address")
            .help("write another host's address in the uplink's network"),
        );
        return None;
    }
    Some(Uplink::Static { address: *net, gateway: gateway.value })
}
