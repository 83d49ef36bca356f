//! The frame rules: who may speak to whom over this link, about what, and in whose name.
//!
//! The guest may send to netvm and to groups; IPv4, IPv6 and ARP; from addresses that are its own.
//! It cannot speak for another guest, for a router or for a DHCP server. What netvm sends must be
//! for the guest; the DHCP acknowledgements in it say which dynamic address the guest has.
//!
//! Every rule has a [`DropReason`]. The rules read the private copy of a frame's beginning, which
//! is also what is delivered, and ask for more of it only where a rule depends on more.

mod arp;
mod binding;
mod dhcp;
mod ethernet;
mod frame;
mod ipv4;
mod ipv6;
mod neighbour;
mod plain;
mod sources;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use self::ethernet::Ethernet;
pub use self::frame::Frame;
use self::frame::{Stop, View};
pub(crate) use self::ipv4::is_host;
use self::plain::Plain;
use self::sources::Sources;
use super::EndId;
use super::drop_reason::DropReason;
use crate::mac::MacAddr;

/// Destination, source and ethertype: the shortest Ethernet frame a driver may hand over.
pub const ETHERNET_HEADER_LEN: usize = 14;

/// What a link's filter is to let through.
#[derive(Clone, Debug)]
pub struct Rules {
    /// MAC address of the guest's card.
    pub guest: MacAddr,
    /// MAC address that the guest knows as its gateway.
    pub netvm: MacAddr,
    /// IP MTU, bytes.
    pub mtu: u16,
    /// Addresses that are the guest's for good. Its link-local IPv6 address in EUI-64 form is
    /// always one of them.
    pub addresses: Vec<IpAddr>,
    /// Whether the guest may use the IPv4 address that netvm leases it.
    pub dynamic: bool,
    /// What netvm has leased it before, if the guest is dynamic.
    pub lease: Option<Lease>,
}

/// A dynamic address and how long it is the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Seconds left; `u32::MAX`: for ever.
    pub seconds: u32,
}

/// What the rules say about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May pass.
    Pass(Class),
    /// Must not, for this reason.
    Drop(DropReason),
    /// The rules need to see this many bytes of the frame (at most `len`); ask again with them.
    /// Never returned when `bytes.len() == len`.
    More(usize),
}

/// What kind of frame it is, for the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// To one card.
    Data,
    /// Group-addressed, ARP, neighbour discovery.
    Control,
}

/// The rules of one link.
///
/// Clones share the guest's dynamic address, so that each of several workers can have one.
#[derive(Clone, Debug)]
pub struct Filter {
    guest: u64,
    netvm: u64,
    max_frame: usize,
    plain: Plain,
    sources: Sources,
}

impl Filter {
    /// The filter for these rules, at `now`: nanoseconds of any clock that does not go back, the
    /// same for every call.
    pub fn new(rules: &Rules, now: u64) -> Self {
        let [guest, netvm] =
            [rules.guest, rules.netvm].map(|mac| ethernet::mac_number(mac.octets()));
        Self {
            guest,
            netvm,
            plain: Plain::new(guest, netvm),
            max_frame: usize::from(rules.mtu) + ETHERNET_HEADER_LEN,
            sources: Sources::new(rules, now),
        }
    }

    /// Longest frame carried, Ethernet header included, frame check sequence not.
    pub const fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Whether a frame that came from `from` may pass at `now` (ns).
    ///
    /// Asked again with more of the frame, the verdict is the one on the whole frame.
    #[inline]
    pub fn check(&self, from: EndId, frame: &Frame<'_>, now: u64) -> Verdict {
        if plain::passes(self, from, frame, now) {
            return Verdict::Pass(Class::Data);
        }
        self.apply(from, frame, now)
    }

    /// Whether a frame of `len` bytes that starts with these words, little-endian, may pass as
    /// data, if that is seen at a glance.
    #[inline(always)]
    pub fn passes(&self, from: EndId, words: &[u64], len: usize, now: u64) -> bool {
        match words.first_chunk() {
            Some(words) => plain::words_pass(self, from, words, (len, len), now),
            None => false,
        }
    }

    /// The rules, one after the other.
    fn apply(&self, from: EndId, frame: &Frame<'_>, now: u64) -> Verdict {
        let checked = match from {
            EndId::Guest => self.guest_sends(frame, now),
            EndId::Netvm => self.guest_gets(frame, now),
        };
        match checked {
            Ok(class) => Verdict::Pass(class),
            Err(Stop::Drop(reason)) => Verdict::Drop(reason),
            Err(Stop::More(bytes)) => Verdict::More(bytes),
        }
    }

    #[inline]
    fn parse<'a>(&self, frame: &Frame<'a>) -> Result<(View<'a>, Ethernet), Stop> {
        if frame.wire_len > self.max_frame {
            return Err(DropReason::FrameLong.into());
        }
        let view = View::new(frame);
        Ok((view, Ethernet::parse(view)?))
    }

    #[inline]
    fn guest_sends(&self, frame: &Frame<'_>, now: u64) -> Result<Class, Stop> {
        let (view, ethernet) = self.parse(frame)?;
        if ethernet.source != self.guest {
            return Err(DropReason::SourceNotGuest.into());
        }
        let class = ethernet.class_for(self.netvm, DropReason::DestinationNotNetvm)?;
        match ethernet.ethertype {
            ethernet::IPV4 => ipv4::from_guest(self, view, now).map(|()| class),
            ethernet::IPV6 => ipv6::from_guest(self, view).map(|own| class.or(own)),
            ethernet::ARP => arp::from_guest(self, view, now).map(|()| Class::Control),
            ethernet::RARP => arp::rarp_from_guest(self, view).map(|()| Class::Control),
            _ => Err(ethernet.refused()),
        }
    }

    #[inline]
    fn guest_gets(&self, frame: &Frame<'_>, now: u64) -> Result<Class, Stop> {
        let (view, ethernet) = self.parse(frame)?;
        if ethernet.source == self.guest {
            return Err(DropReason::SourceIsGuest.into());
        }
        if ethernet::is_group(ethernet.source) || ethernet.source == 0 {
            return Err(DropReason::SourceGroup.into());
        }
        let class = ethernet.class_for(self.guest, DropReason::DestinationNotGuest)?;
        match ethernet.ethertype {
            ethernet::IPV4 => dhcp::from_netvm(self, view, now).map(|()| class),
            ethernet::IPV6 => Ok(class.or(neighbour::class_from_netvm(view))),
            ethernet::ARP | ethernet::RARP => Ok(Class::Control),
            _ => Err(ethernet.refused()),
        }
    }
}

impl Class {
    /// Control if either is.
    #[inline]
    const fn or(self, other: Self) -> Self {
        match self {
            Self::Control => Self::Control,
            Self::Data => other,
        }
    }
}
