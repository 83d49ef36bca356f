//! IPv4 (RFC 791) from the guest: a sane header, the guest's own source, and no way around either.

use std::net::Ipv4Addr;

use super::super::drop_reason::DropReason;
use super::frame::{Stop, View};
use super::{ETHERNET_HEADER_LEN, Filter, dhcp};

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

const HEADER_LEN: usize = 20;
/// First address of class D; multicast, reserved and broadcast addresses follow to the end.
const FIRST_GROUP: u32 = 0xe000_0000;

const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

const ICMP_REDIRECT: u8 = 5;
const ICMP_ROUTER_ADVERTISEMENT: u8 = 9;

/// Whether a card can have this address.
pub(crate) const fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

/// A header whose lengths are right.
pub(super) struct Header {
    /// Where the transport header starts in the frame.
    pub(super) payload: usize,
    /// Flags and offset, as they lie in the header.
    pub(super) fragment: u16,
    pub(super) protocol: u8,
    pub(super) source: u32,
    pub(super) destination: u32,
}

impl Header {
    /// Parses the header; the view returned ends where the packet ends.
    #[inline]
    pub(super) fn parse(view: View<'_>) -> Result<(View<'_>, Self), Stop> {
        let wrong = DropReason::Ipv4Header;
        let bytes: &[u8; HEADER_LEN] = view.array(ETHERNET_HEADER_LEN, wrong)?;
        let [first, _, l0, l1, _, _, f0, f1, _, protocol, _, _, rest @ ..] = *bytes;
        let header_len = usize::from(first & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([l0, l1]));
        if first >> 4 != 4 || header_len < HEADER_LEN || total_len < header_len {
            return Err(wrong.into());
        }
        let view = view.until(ETHERNET_HEADER_LEN + total_len, wrong)?;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = rest;
        let header = Self {
            payload: ETHERNET_HEADER_LEN + header_len,
            fragment: u16::from_be_bytes([f0, f1]) & (MORE_FRAGMENTS | OFFSET),
            protocol,
            source: u32::from_be_bytes([s0, s1, s2, s3]),
            destination: u32::from_be_bytes([d0, d1, d2, d3]),
        };
        Ok((view, header))
    }

    /// Offset of this fragment in its packet, in units of 8 bytes.
    const fn offset(&self) -> u16 {
        self.fragment & OFFSET
    }
}

/// Checks everything behind the Ethernet header.
#[inline]
pub(super) fn from_guest(filter: &Filter, view: View<'_>, now: u64) -> Result<(), Stop> {
    let (view, header) = Header::parse(view)?;
    if !filter.sources.holds_v4(header.source, now) {
        foreign_source(view, &header)?;
    }
    if header.payload != ETHERNET_HEADER_LEN + HEADER_LEN {
        options(view, &header)?;
    }
    if header.fragment != 0 {
        fragment(view, &header)?;
        if header.offset() != 0 {
            return Ok(());
        }
    }
    match header.protocol {
        UDP => udp(filter, view, &header),
        ICMP => icmp(view, &header),
        _ => Ok(()),
    }
}

/// A source that is not the guest's: only a client without an address may have one, 0.0.0.0, and
/// only to look for a DHCP server.
#[cold]
fn foreign_source(view: View<'_>, header: &Header) -> Result<(), Stop> {
    if header.source >= FIRST_GROUP {
        return Err(DropReason::Ipv4SourceGroup.into());
    }
    if header.source != 0 {
        return Err(DropReason::Ipv4Source.into());
    }
    let wrong = DropReason::Ipv4Unspecified;
    if header.protocol != UDP || header.destination != u32::MAX || header.offset() != 0 {
        return Err(wrong.into());
    }
    let ports: &[u8; 4] = view.array(header.payload, wrong)?;
    if *ports == dhcp::CLIENT_TO_SERVER { Ok(()) } else { Err(wrong.into()) }
}

/// Looks for source routes, which would let the guest choose through whom its packets come back.
#[cold]
fn options(view: View<'_>, header: &Header) -> Result<(), Stop> {
    let wrong = DropReason::Ipv4Options;
    let mut at = ETHERNET_HEADER_LEN + HEADER_LEN;
    while at < header.payload {
        let [kind] = *view.array(at, wrong)?;
        at += match kind {
            OPTION_END => return Ok(()),
            OPTION_NOP => 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => {
                return Err(DropReason::Ipv4SourceRoute.into());
            }
            _ => {
                let [len] = *view.array(at + 1, wrong)?;
                if len < 2 || at + usize::from(len) > header.payload {
                    return Err(wrong.into());
                }
                usize::from(len)
            }
        };
    }
    Ok(())
}

/// A first fragment has its whole transport header, and no later one reaches into it (RFC 1858,
/// RFC 3128).
#[cold]
fn fragment(view: View<'_>, header: &Header) -> Result<(), Stop> {
    let payload_len = view.end() - header.payload;
    if is_hidden(header.protocol, header.offset(), payload_len)
        || usize::from(header.offset()) * 8 + view.end() - ETHERNET_HEADER_LEN > 65535
    {
        return Err(DropReason::Ipv4Fragment.into());
    }
    Ok(())
}

/// Whether a fragment at `offset` (units of 8 bytes) with this payload keeps a transport header
/// from being seen, or could replace a part of it.
pub(super) fn is_hidden(protocol: u8, offset: u16, payload_len: usize) -> bool {
    let header_len = if protocol == TCP { 20 } else { 8 };
    match offset {
        0 => payload_len < header_len,
        // The least MTU of IPv4, 68 bytes, has room for 48 (RFC 791, 3.2): nobody cuts here.
        1 | 2 => true,
        _ => false,
    }
}

fn udp(filter: &Filter, view: View<'_>, header: &Header) -> Result<(), Stop> {
    let [_, _, d0, d1, ..]: [u8; 8] = *view.array(header.payload, DropReason::TransportShort)?;
    match u16::from_be_bytes([d0, d1]) {
        dhcp::CLIENT_PORT => Err(DropReason::DhcpServer.into()),
        dhcp::SERVER_PORT => dhcp::from_guest(filter, view, header),
        _ => Ok(()),
    }
}

fn icmp(view: View<'_>, header: &Header) -> Result<(), Stop> {
    let [kind] = *view.array(header.payload, DropReason::TransportShort)?;
    match kind {
        ICMP_REDIRECT => Err(DropReason::Redirect.into()),
        ICMP_ROUTER_ADVERTISEMENT => Err(DropReason::RouterAdvertisement.into()),
        _ => Ok(()),
    }
}
