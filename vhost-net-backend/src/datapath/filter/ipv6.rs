//! IPv6 (RFC 8200) from the guest: a sane header, the guest's own source, and a chain of extension
//! headers that can be followed to its end.

use super::super::drop_reason::DropReason;
use super::frame::{Stop, View};
use super::{Class, ETHERNET_HEADER_LEN, Filter, ipv4, neighbour};

pub(super) const HEADER_LEN: usize = 40;
pub(super) const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Most extension headers that a packet may have.
const EXTENSIONS_MAX: usize = 8;

/// The port of DHCPv6 clients (RFC 8415, 7.2).
const DHCPV6_CLIENT_PORT: u16 = 546;

/// Where a packet's transport header is.
pub(super) struct Upper {
    /// Its protocol.
    pub(super) protocol: u8,
    /// Where it starts in the frame; of a later fragment, where its payload starts.
    pub(super) at: usize,
    /// The fragment's offset in units of 8 bytes, if the packet has a fragment header.
    pub(super) fragment: Option<u16>,
}

/// What matters in the fixed header.
pub(super) struct Header {
    pub(super) hop_limit: u8,
    pub(super) source: u128,
    pub(super) destination: u128,
}

/// Whether it is a multicast address.
pub(super) const fn is_multicast(address: u128) -> bool {
    address >> 120 == 0xff
}

/// Checks everything behind the Ethernet header.
#[inline]
pub(super) fn from_guest(filter: &Filter, view: View<'_>) -> Result<Class, Stop> {
    let wrong = DropReason::Ipv6Header;
    let bytes: &[u8; HEADER_LEN] = view.array(ETHERNET_HEADER_LEN, wrong)?;
    let [first, _, _, _, l0, l1, next, hop_limit, ..] = *bytes;
    if first >> 4 != 6 {
        return Err(wrong.into());
    }
    let payload_len = usize::from(u16::from_be_bytes([l0, l1]));
    let view = view.until(ETHERNET_HEADER_LEN + HEADER_LEN + payload_len, wrong)?;
    let address = |at| view.array(ETHERNET_HEADER_LEN + at, wrong).copied();
    let header = Header {
        hop_limit,
        source: u128::from_be_bytes(address(8)?),
        destination: u128::from_be_bytes(address(24)?),
    };
    if !filter.sources.holds_v6(header.source) {
        foreign_source(header.source)?;
    }
    let upper = upper(view, next)?;
    let later = upper.fragment.is_some_and(|offset| offset != 0);
    match upper.protocol {
        ICMPV6 if !later => neighbour::from_guest(filter, view, &header, &upper),
        _ if header.source == 0 => Err(DropReason::Ipv6Unspecified.into()),
        ipv4::UDP if !later => udp(view, &upper).map(|()| Class::Data),
        _ => Ok(Class::Data),
    }
}

/// A source that is not the guest's. The unspecified address is looked at again where the packet's
/// content is known.
#[cold]
fn foreign_source(source: u128) -> Result<(), Stop> {
    if source == 0 {
        Ok(())
    } else if is_multicast(source) {
        Err(DropReason::Ipv6SourceGroup.into())
    } else {
        Err(DropReason::Ipv6Source.into())
    }
}

/// Follows the chain of extension headers.
#[inline]
fn upper(view: View<'_>, next: u8) -> Result<Upper, Stop> {
    let at = ETHERNET_HEADER_LEN + HEADER_LEN;
    match next {
        ipv4::TCP | ipv4::UDP | ICMPV6 => Ok(Upper { protocol: next, at, fragment: None }),
        _ => chain(view, next, at),
    }
}

#[cold]
fn chain(view: View<'_>, mut next: u8, mut at: usize) -> Result<Upper, Stop> {
    let mut fragment = None;
    for number in 0..=EXTENSIONS_MAX {
        // In a first fragment all of the chain must be there (RFC 7112).
        let cut = match fragment {
            None => DropReason::Ipv6Extension,
            Some(_) => DropReason::Ipv6Fragment,
        };
        let (following, len) = match next {
            ROUTING => return Err(DropReason::Ipv6RoutingHeader.into()),
            HOP_BY_HOP if number != 0 => return Err(DropReason::Ipv6Extension.into()),
            HOP_BY_HOP | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                let [following, len] = *view.array(at, cut)?;
                (following, (usize::from(len) + 1) * 8)
            }
            AUTHENTICATION => {
                let [following, len] = *view.array(at, cut)?;
                (following, (usize::from(len) + 2) * 4)
            }
            FRAGMENT if fragment.is_some() => return Err(DropReason::Ipv6Fragment.into()),
            FRAGMENT => {
                let [following, _, o0, o1, ..]: [u8; 8] = *view.array(at, cut)?;
                let offset = u16::from_be_bytes([o0, o1]) >> 3;
                fragment = Some(offset);
                if offset != 0 {
                    let upper = Upper { protocol: following, at: at + 8, fragment };
                    return checked(view, upper);
                }
                (following, 8)
            }
            _ => return checked(view, Upper { protocol: next, at, fragment }),
        };
        if number == EXTENSIONS_MAX {
            break;
        }
        next = following;
        at += len;
        // Nothing of the chain may lie outside of the packet.
        view.until(at, cut)?;
    }
    Err(DropReason::Ipv6Extension.into())
}

/// A fragment shows its whole transport header or none of it, as in IPv4.
fn checked(view: View<'_>, upper: Upper) -> Result<Upper, Stop> {
    let payload_len = view.end().saturating_sub(upper.at);
    match upper.fragment {
        Some(offset)
            if upper.protocol != NO_NEXT_HEADER
                && ipv4::is_hidden(upper.protocol, offset, payload_len) =>
        {
            Err(DropReason::Ipv6Fragment.into())
        }
        _ => Ok(upper),
    }
}

fn udp(view: View<'_>, upper: &Upper) -> Result<(), Stop> {
    let [_, _, d0, d1, ..]: [u8; 8] = *view.array(upper.at, DropReason::TransportShort)?;
    if u16::from_be_bytes([d0, d1]) == DHCPV6_CLIENT_PORT {
        return Err(DropReason::Dhcpv6Server.into());
    }
    Ok(())
}
