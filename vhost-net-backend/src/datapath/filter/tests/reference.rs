//! Whose a frame is, and whether a guest must not say it: by etherparse, and with no thought for
//! speed.

use std::net::IpAddr;

use etherparse::{ArpOperation, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};

use super::frames::GUEST;
use crate::datapath::drop_reason::DropReason;

/// The reasons that are about whose a frame is.
pub const OWNERSHIP: &[DropReason] = &[
    DropReason::SourceNotGuest,
    DropReason::ArpSenderMac,
    DropReason::ArpSenderAddress,
    DropReason::Ipv4Source,
    DropReason::Ipv4SourceGroup,
    DropReason::Ipv6Source,
    DropReason::Ipv6SourceGroup,
];

/// Which of [`OWNERSHIP`] a frame from a guest with these addresses deserves. A frame without a
/// source that can be read deserves none.
pub fn foreign(frame: &[u8], own: &[IpAddr]) -> Option<DropReason> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { return None };
    if ethernet.source() != GUEST.octets() {
        return Some(DropReason::SourceNotGuest);
    }
    match packet.net? {
        LaxNetSlice::Arp(arp) => {
            let sender: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
            let probe = sender == [0; 4] && arp.operation() == ArpOperation::REQUEST;
            if arp.sender_hw_addr() != GUEST.octets() {
                Some(DropReason::ArpSenderMac)
            } else if !probe && !own.contains(&IpAddr::from(sender)) {
                Some(DropReason::ArpSenderAddress)
            } else {
                None
            }
        }
        LaxNetSlice::Ipv4(packet) => {
            let source = packet.header().source_addr();
            if own.contains(&source.into()) || source.is_unspecified() {
                None
            } else if source.is_multicast() || source.octets()[0] >= 240 {
                Some(DropReason::Ipv4SourceGroup)
            } else {
                Some(DropReason::Ipv4Source)
            }
        }
        LaxNetSlice::Ipv6(packet) => {
            let source = packet.header().source_addr();
            if own.contains(&source.into()) || source.is_unspecified() {
                None
            } else if source.is_multicast() {
                Some(DropReason::Ipv6SourceGroup)
            } else {
                Some(DropReason::Ipv6Source)
            }
        }
    }
}

/// Whether it is a message that no guest may send, whatever its addresses.
pub fn forbidden(frame: &[u8]) -> bool {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return false };
    let unspecified = matches!(&packet.net, Some(LaxNetSlice::Ipv4(packet))
        if packet.header().source_addr().is_unspecified());
    match packet.transport {
        Some(TransportSlice::Icmpv6(message)) => matches!(message.slice()[0], 134 | 137),
        Some(TransportSlice::Icmpv4(message)) => matches!(message.slice()[0], 5 | 9),
        Some(TransportSlice::Udp(datagram)) => {
            matches!(datagram.destination_port(), 68 | 546)
                && (datagram.destination_port() == 68)
                    == matches!(packet.net, Some(LaxNetSlice::Ipv4(_)))
                || unspecified && datagram.destination_port() != 67
        }
        Some(_) | None => unspecified,
    }
}
