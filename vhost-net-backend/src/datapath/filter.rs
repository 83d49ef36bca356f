//! The frame rules: who may speak to whom over this link.

use super::EndId;
use super::drop_reason::DropReason;
use crate::mac::MacAddr;

/// Destination, source and ethertype: the shortest Ethernet frame a driver may hand over.
pub const ETHERNET_HEADER_LEN: usize = 14;

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
    pub fn check(&self, from: EndId, frame: &[u8]) -> Result<(), DropReason> {
        if frame.len() > self.max_frame {
            return Err(DropReason::FrameLong);
        }
        let Some((destination, source)) = addresses(frame) else {
            return Err(DropReason::FrameShort);
        };
        match from {
            EndId::Guest => self.guest_sends(destination, source),
            EndId::Netvm => self.guest_gets(destination, source),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 1]);
    const NETVM: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 2]);
    const OTHER: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 3]);
    const GROUP: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
    const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);

    fn frame(destination: MacAddr, source: MacAddr, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len.max(12)];
        frame[..6].copy_from_slice(&destination.octets());
        frame[6..12].copy_from_slice(&source.octets());
        frame.truncate(len);
        frame
    }

    fn verdict(from: EndId, destination: MacAddr, source: MacAddr) -> Result<(), DropReason> {
        Filter::new(GUEST, NETVM, 1500).check(from, &frame(destination, source, 60))
    }

    #[test]
    fn guest_reaches_netvm_and_groups_only() {
        assert_eq!(verdict(EndId::Guest, NETVM, GUEST), Ok(()));
        assert_eq!(verdict(EndId::Guest, GROUP, GUEST), Ok(()));
        assert_eq!(verdict(EndId::Guest, BROADCAST, GUEST), Ok(()));
        assert_eq!(verdict(EndId::Guest, OTHER, GUEST), Err(DropReason::DestinationNotNetvm));
        assert_eq!(verdict(EndId::Guest, GUEST, GUEST), Err(DropReason::DestinationNotNetvm));
    }

    #[test]
    fn guest_with_any_other_source_is_dropped() {
        for bit in 0..48 {
            let mut octets = GUEST.octets();
            octets[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                verdict(EndId::Guest, NETVM, MacAddr::new(octets)),
                Err(DropReason::SourceNotGuest)
            );
        }
    }

    #[test]
    fn guest_gets_frames_for_itself_and_groups_only() {
        assert_eq!(verdict(EndId::Netvm, GUEST, NETVM), Ok(()));
        assert_eq!(verdict(EndId::Netvm, BROADCAST, NETVM), Ok(()));
        assert_eq!(verdict(EndId::Netvm, OTHER, NETVM), Err(DropReason::DestinationNotGuest));
        assert_eq!(verdict(EndId::Netvm, GUEST, GUEST), Err(DropReason::SourceIsGuest));
        assert_eq!(verdict(EndId::Netvm, GUEST, GROUP), Err(DropReason::SourceGroup));
    }

    #[test]
    fn length_limits_are_14_and_mtu_plus_14() {
        let filter = Filter::new(GUEST, NETVM, 1500);
        let check = |len| filter.check(EndId::Guest, &frame(NETVM, GUEST, len));
        assert_eq!(check(13), Err(DropReason::FrameShort));
        assert_eq!(check(0), Err(DropReason::FrameShort));
        assert_eq!(check(14), Ok(()));
        assert_eq!(check(1514), Ok(()));
        assert_eq!(check(1515), Err(DropReason::FrameLong));
    }
}
