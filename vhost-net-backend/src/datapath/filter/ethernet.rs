//! The Ethernet header: who may speak to whom over this link, and in which protocols.

use super::super::drop_reason::DropReason;
use super::frame::{Stop, View};
use super::{Class, ETHERNET_HEADER_LEN};

pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const RARP: u16 = 0x8035;
pub(super) const IPV6: u16 = 0x86dd;

/// 802.1Q, 802.1ad, and what was used before it.
const VLAN_TAGS: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];

/// 01:80:c2:00:00:00, the first of sixteen addresses that bridges never forward (IEEE 802.1Q 8.6.3).
const RESERVED: u64 = 0x0180_c200_0000;

/// An Ethernet header. Addresses are numbers of 48 bits, so that comparing them is one instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ethernet {
    pub(super) destination: u64,
    pub(super) source: u64,
    pub(super) ethertype: u16,
}

impl Ethernet {
    #[inline]
    pub(super) fn parse(view: View<'_>) -> Result<Self, Stop> {
        let header: &[u8; ETHERNET_HEADER_LEN] = view.array(0, DropReason::FrameShort)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        Ok(Self {
            destination: mac_number([d0, d1, d2, d3, d4, d5]),
            source: mac_number([s0, s1, s2, s3, s4, s5]),
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// The destination is `own`, or a group of which it may be a member.
    #[inline]
    pub(super) fn class_for(&self, own: u64, elsewhere: DropReason) -> Result<Class, Stop> {
        if self.destination == own {
            Ok(Class::Data)
        } else if !is_group(self.destination) {
            Err(elsewhere.into())
        } else if self.destination & !0xf == RESERVED {
            Err(DropReason::DestinationReserved.into())
        } else {
            Ok(Class::Control)
        }
    }

    /// Why an ethertype that no rule knows is dropped. Below 0x0600 it is a length (IEEE 802.3).
    #[cold]
    pub(super) fn refused(&self) -> Stop {
        if VLAN_TAGS.contains(&self.ethertype) {
            DropReason::VlanTag.into()
        } else {
            DropReason::Ethertype.into()
        }
    }
}

/// A MAC address as a number of 48 bits.
#[inline]
pub(super) const fn mac_number(octets: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = octets;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// Whether it is a multicast or broadcast address.
#[inline]
pub(super) const fn is_group(mac: u64) -> bool {
    mac & 1 << 40 != 0
}
