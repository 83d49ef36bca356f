//! ARP (RFC 826) and RARP (RFC 903) from the guest: for IPv4 over Ethernet, and about itself only.

use super::super::drop_reason::DropReason;
use super::ethernet::mac_number;
use super::frame::{Stop, View};
use super::{ETHERNET_HEADER_LEN, Filter};

/// An ARP packet for IPv4 over Ethernet.
const PACKET_LEN: usize = 28;

/// The shortest frame on a wire, frame check sequence not included: what senders pad to.
const WIRE_MIN: usize = 60;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const REVERSE_REQUEST: u16 = 3;

/// What matters in a packet.
struct Packet {
    operation: u16,
    sender_mac: u64,
    sender: u32,
    target_mac: u64,
    target: u32,
}

fn parse(view: View<'_>, wrong: DropReason) -> Result<Packet, Stop> {
    if view.end() > WIRE_MIN {
        return Err(wrong.into());
    }
    let bytes: &[u8; PACKET_LEN] = view.array(ETHERNET_HEADER_LEN, wrong)?;
    let [h0, h1, p0, p1, hl, pl, o0, o1, rest @ ..] = *bytes;
    if [h0, h1, p0, p1, hl, pl] != ETHERNET_IPV4 {
        return Err(wrong.into());
    }
    let [m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, n0, n1, n2, n3, n4, n5, t0, t1, t2, t3] = rest;
    Ok(Packet {
        operation: u16::from_be_bytes([o0, o1]),
        sender_mac: mac_number([m0, m1, m2, m3, m4, m5]),
        sender: u32::from_be_bytes([s0, s1, s2, s3]),
        target_mac: mac_number([n0, n1, n2, n3, n4, n5]),
        target: u32::from_be_bytes([t0, t1, t2, t3]),
    })
}

/// A request or reply whose sender is the guest. A sender of 0.0.0.0 asks whether an address is
/// free (RFC 5227, 2.1.1).
pub(super) fn from_guest(filter: &Filter, view: View<'_>, now: u64) -> Result<(), Stop> {
    let packet = parse(view, DropReason::ArpShape)?;
    if packet.operation != REQUEST && packet.operation != REPLY {
        return Err(DropReason::ArpShape.into());
    }
    if packet.sender_mac != filter.guest {
        return Err(DropReason::ArpSenderMac.into());
    }
    let probe = packet.operation == REQUEST && packet.sender == 0;
    if !probe && !filter.sources.holds_v4(packet.sender, now) {
        return Err(DropReason::ArpSenderAddress.into());
    }
    Ok(())
}

/// What a VMM sends in the name of a guest that has moved here: a reverse request of the guest's
/// card for its own card.
pub(super) fn rarp_from_guest(filter: &Filter, view: View<'_>) -> Result<(), Stop> {
    let packet = parse(view, DropReason::Rarp)?;
    let own = packet.operation == REVERSE_REQUEST
        && packet.sender_mac == filter.guest
        && packet.target_mac == filter.guest
        && packet.sender == 0
        && packet.target == 0;
    if own { Ok(()) } else { Err(DropReason::Rarp.into()) }
}
