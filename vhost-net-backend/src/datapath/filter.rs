//! The frame rules: who may speak to whom over this link.

use super::EndId;
use super::drop_reason::DropReason;
use crate::mac::MacAddr;

/// Destination, source and ethertype: the shortest Ethernet frame a driver may hand over.
pub const ETHERNET_HEADER_LEN: usize = 14;

/// A frame as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its first bytes, in private memory: all of it, or at least 128.
    pub bytes: &'a [u8],
    /// Length of the whole frame, Ethernet header included.
    pub len: usize,
    /// Length of the longest frame that will be on a wire.
    pub wire_len: usize,
}

/// What the rules say to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May pass.
    Pass(Class),
    /// Must not, for this reason.
    Drop(DropReason),
    /// The rules need to see this many bytes.
    More(usize),
}

/// What kind of frame it is, for the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Any other.
    Data,
    /// To a group, or address resolution.
    Control,
}

/// What this link carries.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    guest: MacAddr,
    netvm: MacAddr,
    max_frame: usize,
}

impl Filter {
    /// Rules for a link between `guest` and `netvm` with an IP MTU of `mtu` bytes.
    pub fn new(guest: MacAddr, netvm: MacAddr, mtu: u16) -> Self {
        Self { guest, netvm, max_frame: usize::from(mtu) + ETHERNET_HEADER_LEN }
    }

    /// Longest frame carried, Ethernet header included, frame check sequence not.
    pub const fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Whether a frame that came from `from` may pass.
    pub fn check(&mut self, from: EndId, frame: &Frame<'_>, _now: u64) -> Verdict {
        if frame.wire_len > self.max_frame {
            return Verdict::Drop(DropReason::FrameLong);
        }
        let Some((destination, source)) = addresses(frame.bytes) else {
            return Verdict::Drop(DropReason::FrameShort);
        };
        let verdict = match from {
            EndId::Guest => self.guest_sends(destination, source),
            EndId::Netvm => self.guest_gets(destination, source),
        };
        verdict.map_or_else(Verdict::Drop, |()| Verdict::Pass(Class::Data))
    }

    fn guest_sends(&self, destination: MacAddr, source: MacAddr) -> Result<(), DropReason> {
        if source != self.guest {
            Err(DropReason::SourceNotGuest)
        } else if destination != self.netvm && !destination.is_group() {
            Err(DropReason::DestinationNotNetvm)
        } else {
            Ok(())
        }
    }

    fn guest_gets(&self, destination: MacAddr, source: MacAddr) -> Result<(), DropReason> {
        if source.is_group() {
            Err(DropReason::SourceGroup)
        } else if source == self.guest {
            Err(DropReason::SourceIsGuest)
        } else if destination != self.guest && !destination.is_group() {
            Err(DropReason::DestinationNotGuest)
        } else {
            Ok(())
        }
    }
}

/// Destination and source of a frame that has a whole Ethernet header.
fn addresses(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let header = frame.first_chunk::<ETHERNET_HEADER_LEN>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
    Some((MacAddr::new([d0, d1, d2, d3, d4, d5]), MacAddr::new([s0, s1, s2, s3, s4, s5])))
}
