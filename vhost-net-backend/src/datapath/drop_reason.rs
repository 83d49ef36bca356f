//! Why a frame was not carried.

use serde::{Deserialize, Serialize};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The rule that dropped a frame. Names are stable: they appear in reports and in tests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of the checks.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable kebab-case name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// The chain is not longer than a virtio-net header.
    HeaderShort = "header-short",
    /// The header claims an offload that was not negotiated.
    HeaderOffload = "header-offload",
    /// The header claims a kind of segmentation that does not exist, or two.
    GsoType = "gso-type",
    /// The header claims segmentation without a checksum to complete.
    GsoNoChecksum = "gso-no-checksum",
    /// The header claims an offload for more than the longest IP packet.
    OffloadLong = "offload-long",
    /// The header claims segments that are too small, too large or too many.
    GsoSize = "gso-size",
    /// The header claims an offload for a frame that is not IP, or whose headers lie.
    OffloadHeaders = "offload-headers",
    /// The header claims an offload for an IP fragment.
    OffloadFragment = "offload-fragment",
    /// The header claims a checksum where a transport header has none.
    ChecksumPlace = "checksum-place",
    /// The header claims a kind of segmentation that the frame is not made for.
    GsoMismatch = "gso-mismatch",
    /// Fewer than 14 bytes: not an Ethernet frame.
    FrameShort = "frame-short",
    /// More than MTU + 14 bytes.
    FrameLong = "frame-long",
    /// From the guest, with a source address that is not the guest's.
    SourceNotGuest = "source-not-guest",
    /// From the guest, to a unicast address that is not netvm's.
    DestinationNotNetvm = "destination-not-netvm",
    /// To the guest, with a group address as its source.
    SourceGroup = "source-group",
    /// To the guest, with the guest's own address as its source.
    SourceIsGuest = "source-is-guest",
    /// To the guest's end, for a unicast address that is not the guest's.
    DestinationNotGuest = "destination-not-guest",
    /// The receiving end has no running receive ring.
    PeerDown = "peer-down",
    /// The receiving end has too few receive buffers at the moment.
    NoRxBuffer = "no-rx-buffer",
    /// The receive buffers offered are too small for the frame.
    RxBufferShort = "rx-buffer-short",
}

impl DropReason {
    /// Position in [`DropReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_equal_the_serialised_form_and_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("{:?}", reason.name()));
            assert_eq!(reason.index(), position);
            assert!(seen.insert(reason.name()));
        }
    }
}
