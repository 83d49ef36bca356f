//! DHCP (RFC 2131): the guest is a client for its own card only, and netvm's acknowledgements say
//! which address it has.

use std::net::Ipv4Addr;

use super::super::drop_reason::DropReason;
use super::Filter;
use super::ethernet::mac_number;
use super::frame::{Stop, View};
use super::ipv4::{self, Header};

pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;
/// Source and destination port of a client's message, as they lie in a UDP header.
pub(super) const CLIENT_TO_SERVER: [u8; 4] = [0, 68, 0, 67];
const SERVER_TO_CLIENT: [u8; 4] = [0, 67, 0, 68];

const UDP_HEADER_LEN: usize = 8;
/// The fixed part of a message, up to and with the magic cookie.
const FIXED_LEN: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Hardware type and address length of Ethernet.
const ETHERNET: [u8; 2] = [1, 6];

const OPTION_PAD: u8 = 0;
const OPTION_END: u8 = 255;
const OPTION_LEASE: u8 = 51;
const OPTION_OVERLOAD: u8 = 52;
const OPTION_KIND: u8 = 53;

/// Values of the message type option (RFC 2132, 9.6).
const DECLINE: u8 = 4;
const ACKNOWLEDGE: u8 = 5;
const REFUSE: u8 = 6;
const RELEASE: u8 = 7;

/// What matters in a message.
struct Message {
    operation: u8,
    ethernet: bool,
    yours: Ipv4Addr,
    relay: u32,
    client: u64,
    options: Options,
}

/// What matters in its options.
#[derive(Default)]
struct Options {
    kind: Option<u8>,
    lease: Option<u32>,
}

/// The message in the UDP datagram at `at`.
fn parse(view: View<'_>, at: usize) -> Result<Message, Stop> {
    let wrong = DropReason::DhcpShape;
    let [_, _, _, _, l0, l1, ..]: [u8; UDP_HEADER_LEN] = *view.array(at, wrong)?;
    // What the UDP length leaves out does not reach the server.
    let view = view.until(at + usize::from(u16::from_be_bytes([l0, l1])), wrong)?;
    let start = at + UDP_HEADER_LEN;
    let fixed: &[u8; FIXED_LEN] = view.array(start, wrong)?;
    let [operation, kind, len, ..] = *fixed;
    let at = |offset: usize| -> [u8; 4] { std::array::from_fn(|index| fixed[offset + index]) };
    if at(236) != COOKIE {
        return Err(wrong.into());
    }
    let [c0, c1, c2, c3] = at(28);
    let options = options(view.rest(start + FIXED_LEN, wrong)?).ok_or(wrong)?;
    Ok(Message {
        operation,
        ethernet: [kind, len] == ETHERNET,
        yours: Ipv4Addr::from(at(16)),
        relay: u32::from_be_bytes(at(24)),
        client: mac_number([c0, c1, c2, c3, fixed[32], fixed[33]]),
        options,
    })
}

/// The options, unless they are cut off, or could be read in two ways: with the message type twice,
/// or with more options elsewhere in the message.
fn options(mut bytes: &[u8]) -> Option<Options> {
    let mut found = Options::default();
    loop {
        let (&code, rest) = match bytes.split_first() {
            None | Some((&OPTION_END, _)) => return Some(found),
            Some(first) => first,
        };
        if code == OPTION_PAD {
            bytes = rest;
            continue;
        }
        let (&len, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(len))?;
        bytes = rest;
        match (code, value) {
            (OPTION_KIND, &[kind]) if found.kind.is_none() => found.kind = Some(kind),
            (OPTION_LEASE, &[a, b, c, d]) if found.lease.is_none() => {
                found.lease = Some(u32::from_be_bytes([a, b, c, d]));
            }
            (OPTION_KIND | OPTION_LEASE | OPTION_OVERLOAD, _) => return None,
            _ => {}
        }
    }
}

/// What the guest says to a DHCP server must be about its own card, and in one piece. An address
/// that it gives back is no longer its own: netvm may lease it to another guest.
#[cold]
pub(super) fn from_guest(filter: &Filter, view: View<'_>, header: &Header) -> Result<(), Stop> {
    if header.fragment != 0 {
        return Err(DropReason::DhcpFragment.into());
    }
    let message = parse(view, header.payload)?;
    if message.operation != REQUEST || !message.ethernet {
        return Err(DropReason::DhcpShape.into());
    }
    if message.client != filter.guest {
        return Err(DropReason::DhcpClientMac.into());
    }
    if message.relay != 0 {
        return Err(DropReason::DhcpRelay.into());
    }
    match message.options.kind {
        None => Err(DropReason::DhcpShape.into()),
        Some(DECLINE | RELEASE) => {
            filter.sources.unbind();
            Ok(())
        }
        Some(_) => Ok(()),
    }
}

/// Follows what netvm leases to the guest. Nothing is dropped here.
#[inline]
pub(super) fn from_netvm(filter: &Filter, view: View<'_>, now: u64) -> Result<(), Stop> {
    if !filter.sources.is_dynamic() {
        return Ok(());
    }
    match reply(view) {
        Err(Stop::More(bytes)) => Err(Stop::More(bytes)),
        Err(Stop::Drop(_)) | Ok(None) => Ok(()),
        Ok(Some(message)) => {
            follow(filter, &message, now);
            Ok(())
        }
    }
}

/// The DHCP message to a client in an IPv4 packet, if it is one.
#[inline]
fn reply(view: View<'_>) -> Result<Option<Message>, Stop> {
    let (view, header) = Header::parse(view)?;
    if header.protocol != ipv4::UDP || header.fragment != 0 {
        return Ok(None);
    }
    let ports: &[u8; 4] = view.array(header.payload, DropReason::TransportShort)?;
    if *ports != SERVER_TO_CLIENT {
        return Ok(None);
    }
    parse(view, header.payload).map(Some)
}

#[cold]
fn follow(filter: &Filter, message: &Message, now: u64) {
    if message.operation != REPLY || !message.ethernet || message.client != filter.guest {
        return;
    }
    match (message.options.kind, message.options.lease) {
        // Without an address or a time it answers a client that has its address from elsewhere.
        (Some(ACKNOWLEDGE), Some(seconds)) if !message.yours.is_unspecified() => {
            filter.sources.bind(message.yours, seconds, now);
        }
        (Some(REFUSE), _) => filter.sources.unbind(),
        _ => {}
    }
}
