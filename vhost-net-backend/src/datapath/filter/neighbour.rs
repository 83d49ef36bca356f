//! ICMPv6: neighbour discovery (RFC 4861), duplicate address detection (RFC 4862) and multicast
//! listener reports (RFC 2710, RFC 3810). A guest speaks for its own addresses, and never as a
//! router.

use super::super::drop_reason::DropReason;
use super::ethernet::mac_number;
use super::frame::{Stop, View};
use super::ipv6::{self, Header, Upper, is_multicast};
use super::{Class, ETHERNET_HEADER_LEN, Filter};

const ERROR_FIRST: u8 = 1;
const ERROR_LAST: u8 = 4;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT_V2: u8 = 143;

/// Source or target link-layer address.
const OPTION_LINK_ADDRESS: [u8; 2] = [1, 2];
/// Most options that a message may have; usual is one.
const OPTIONS_MAX: usize = 16;

/// ff02::2, all routers of a link.
const ALL_ROUTERS: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0002;
/// ff02::16, where listener reports go.
const LISTENER_ROUTERS: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0016;
/// ff02::1:ff00:0/104, solicited-node addresses (RFC 4291, 2.7.1).
const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

/// Checks an ICMPv6 message, whole or the first fragment of one.
#[cold]
pub(super) fn from_guest(
    filter: &Filter,
    view: View<'_>,
    header: &Header,
    upper: &Upper,
) -> Result<Class, Stop> {
    let [kind, code, ..]: [u8; 4] = *view.array(upper.at, DropReason::TransportShort)?;
    match kind {
        ROUTER_ADVERTISEMENT => return Err(DropReason::RouterAdvertisement.into()),
        REDIRECT => return Err(DropReason::Redirect.into()),
        ERROR_FIRST..=ERROR_LAST | ECHO_REQUEST | ECHO_REPLY if header.source == 0 => {
            return Err(DropReason::Ipv6Unspecified.into());
        }
        ERROR_FIRST..=ERROR_LAST | ECHO_REQUEST | ECHO_REPLY => return Ok(Class::Data),
        _ => {}
    }
    // RFC 6980 for neighbour discovery; a listener report always fits in a packet.
    if upper.fragment.is_some() {
        return Err(DropReason::NeighbourFragment.into());
    }
    match kind {
        LISTENER_REPORT | LISTENER_DONE | LISTENER_REPORT_V2 => listener(view, header, upper, kind),
        ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => {
            if header.hop_limit != 255 {
                return Err(DropReason::NeighbourHopLimit.into());
            }
            if code != 0 {
                return Err(DropReason::NeighbourShape.into());
            }
            match kind {
                ROUTER_SOLICITATION => router_solicitation(filter, view, header, upper),
                NEIGHBOUR_SOLICITATION => solicitation(filter, view, header, upper),
                _ => advertisement(filter, view, header, upper),
            }
        }
        _ => Err(DropReason::Icmpv6Type.into()),
    }?;
    Ok(Class::Control)
}

fn router_solicitation(
    filter: &Filter,
    view: View<'_>,
    header: &Header,
    upper: &Upper,
) -> Result<(), Stop> {
    if header.source == 0 {
        return Err(DropReason::Ipv6Unspecified.into());
    }
    options(filter, view, upper.at + 8).map(drop)
}

/// Asks for anybody's link-layer address; from :: only whether an address of the guest's own is
/// free.
fn solicitation(
    filter: &Filter,
    view: View<'_>,
    header: &Header,
    upper: &Upper,
) -> Result<(), Stop> {
    let target = target(view, upper)?;
    let options = options(filter, view, upper.at + 24)?;
    if header.source != 0 {
        return Ok(());
    }
    if !filter.sources.holds_v6(target) {
        return Err(DropReason::NeighbourTarget.into());
    }
    if header.destination != SOLICITED_NODE | target & 0xff_ffff || options.link_address {
        return Err(DropReason::NeighbourShape.into());
    }
    Ok(())
}

fn advertisement(
    filter: &Filter,
    view: View<'_>,
    header: &Header,
    upper: &Upper,
) -> Result<(), Stop> {
    if header.source == 0 {
        return Err(DropReason::Ipv6Unspecified.into());
    }
    if !filter.sources.holds_v6(target(view, upper)?) {
        return Err(DropReason::NeighbourTarget.into());
    }
    options(filter, view, upper.at + 24).map(drop)
}

/// The address that a solicitation or advertisement is about.
fn target(view: View<'_>, upper: &Upper) -> Result<u128, Stop> {
    let wrong = DropReason::NeighbourShape;
    let target = u128::from_be_bytes(*view.array(upper.at + 8, wrong)?);
    if is_multicast(target) { Err(wrong.into()) } else { Ok(target) }
}

/// What the options of a message say.
struct Options {
    link_address: bool,
}

/// Checks the options from `at` on: a link-layer address can only be the guest's.
fn options(filter: &Filter, view: View<'_>, mut at: usize) -> Result<Options, Stop> {
    let wrong = DropReason::NeighbourShape;
    let mut found = Options { link_address: false };
    for _ in 0..=OPTIONS_MAX {
        if at == view.end() {
            return Ok(found);
        }
        let [kind, len] = *view.array(at, wrong)?;
        if len == 0 {
            return Err(wrong.into());
        }
        if OPTION_LINK_ADDRESS.contains(&kind) {
            let address = mac_number(*view.array(at + 2, wrong)?);
            if len != 1 || address != filter.guest {
                return Err(DropReason::NeighbourLinkAddress.into());
            }
            found.link_address = true;
        }
        at += usize::from(len) * 8;
        view.until(at, wrong)?;
    }
    Err(wrong.into())
}

/// Reports go to where listeners' routers expect them (RFC 2710, 4; RFC 3810, 5.2.14), from :: or
/// a link-local address.
fn listener(view: View<'_>, header: &Header, upper: &Upper, kind: u8) -> Result<(), Stop> {
    let wrong = DropReason::MulticastListener;
    let expected = match kind {
        LISTENER_REPORT_V2 => LISTENER_ROUTERS,
        LISTENER_DONE => ALL_ROUTERS,
        _ => u128::from_be_bytes(*view.array(upper.at + 8, wrong)?),
    };
    let link_local = header.source >> 118 == 0xfe80 >> 6;
    let right = header.hop_limit == 1
        && header.destination == expected
        && is_multicast(expected)
        && (link_local || header.source == 0);
    if right { Ok(()) } else { Err(wrong.into()) }
}

/// Whether a frame from netvm is neighbour discovery; with extension headers it is data.
#[inline]
pub(super) fn class_from_netvm(view: View<'_>) -> Class {
    let at = ETHERNET_HEADER_LEN;
    let Ok(&[next]) = view.array(at + 6, DropReason::Ipv6Header) else { return Class::Data };
    if next != ipv6::ICMPV6 {
        return Class::Data;
    }
    match view.array(at + ipv6::HEADER_LEN, DropReason::TransportShort) {
        Ok([ROUTER_SOLICITATION..=REDIRECT]) => Class::Control,
        _ => Class::Data,
    }
}
