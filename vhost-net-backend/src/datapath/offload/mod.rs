//! Offloads: what a driver leaves to its device, and how the link does it (virtio 1.2, 5.1.6).
//!
//! A header that a driver wrote is a claim. [`check`] proves it with the frame's own bytes and
//! makes an [`Offload`] of it, which is all that is kept; the receiver's header is written from
//! that ([`Offload::header`]). What the receiver did not negotiate is done here, in software:
//! [`complete_checksum`] and [`segment`].
//!
//! ```text
//! header, features of the sender ── check ──▶ Offload ── accepted_by ──▶ AsIs: header()
//! first bytes of the frame                       features of the receiver  NeedsChecksum: complete_checksum()
//!                                                                          NeedsSegments: segment()
//! ```
//!
//! What a claim cannot do: make the receiver or the link write a checksum over an address, a port
//! or a type that the frame rules have looked at; make anybody read past the frame; make more than
//! [`MAX_SEGMENTS`] segments of a frame. How long a segment will be is for the frame rules to
//! judge, by [`Offload::wire_len`].

mod check;
mod checksum;
pub mod feature;
mod headers;
mod segment;
mod wire;

#[cfg(test)]
mod tests;

use zerocopy::little_endian::U16;

use super::drop_reason::DropReason;
use super::header::VirtioNetHeader;

pub use check::check;
pub use checksum::complete_checksum;
pub use segment::segment;

/// Longest frame with an offload: the longest IP packet behind an Ethernet header.
pub const MAX_FRAME: usize = 65535 + wire::ETHERNET_LEN;

/// Most segments of a frame. It bounds the work for a frame, and what comes out of one that costs
/// its sender a single descriptor: 64 KiB in segments of 64 bytes are as many.
pub const MAX_SEGMENTS: usize = 1024;

/// Smallest segment size, in bytes of payload, that may be claimed. TCP sends no smaller ones: its
/// least maximum segment size in Linux is 48 bytes, of which options take 40.
pub const MIN_SEGMENT_SIZE: u16 = 8;

/// Smallest segment size that is left to the receiver. netvm hands frames on to a NIC, and there
/// are NICs (i40e, ice, iavf) that take a smaller one for an attack and stop; so the link segments
/// such frames itself.
pub const MIN_RECEIVER_SEGMENT_SIZE: u16 = 64;

/// `flags`: the checksum is not complete.
pub(super) const NEEDS_CSUM: u8 = 1;
/// `gso_type`: not to be segmented.
pub(super) const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP datagrams.
const GSO_UDP_L4: u8 = 5;
/// `gso_type`, a bit beside TCP: with the CWR flag.
const GSO_ECN: u8 = 0x80;

/// A checksum that is not complete: its field holds the sum of the pseudo header only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Where checksumming starts, in bytes from the start of the frame.
    pub start: u16,
    /// Where the checksum goes, in bytes from `start`.
    pub offset: u16,
}

/// What the segments of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams over IPv4.
    Udp4,
    /// UDP datagrams over IPv6.
    Udp6,
}

impl SegmentKind {
    const fn gso_type(self) -> u8 {
        match self {
            Self::Tcp4 => GSO_TCPV4,
            Self::Tcp6 => GSO_TCPV6,
            Self::Udp4 | Self::Udp6 => GSO_UDP_L4,
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Self::Tcp4 | Self::Tcp6 => wire::TCP,
            Self::Udp4 | Self::Udp6 => wire::UDP,
        }
    }

    const fn receiver_feature(self) -> u64 {
        match self {
            Self::Tcp4 => feature::GUEST_TSO4,
            Self::Tcp6 => feature::GUEST_TSO6,
            Self::Udp4 => feature::GUEST_USO4,
            Self::Udp6 => feature::GUEST_USO6,
        }
    }
}

/// How a frame is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// What the segments are.
    pub kind: SegmentKind,
    /// Bytes of payload per segment; the last one may have fewer. The frame has more than this.
    pub size: u16,
    /// Bytes of all headers together, from the Ethernet header to the transport header.
    pub header_len: u16,
    /// Start of the network header, in bytes from the start of the frame.
    pub network: u16,
    /// Whether the TCP header has the CWR flag, which only the first segment may keep.
    pub ecn: bool,
}

/// What a frame needs of its receiver, proven by the frame's own bytes. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum is not complete.
    pub checksum: Option<Checksum>,
    /// The frame is to be segmented. Then `checksum` is that of the transport header.
    pub segments: Option<Segments>,
}

/// What came of checking a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The claims are true.
    Ok(Offload),
    /// The frame must not be carried, for this reason.
    Drop(DropReason),
    /// So many bytes of the frame (at most all of it) are needed in private memory; check again
    /// with them.
    More(usize),
}

/// Whether a receiver takes a frame as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Yes, with the header of [`Offload::header`].
    AsIs,
    /// Only after [`complete_checksum`], with a header of zeros.
    NeedsChecksum,
    /// Only as the frames that [`segment`] makes of it, with headers of zeros.
    NeedsSegments,
}

impl Offload {
    /// Length of the longest frame that this one of `len` bytes will be on a wire.
    pub fn wire_len(&self, len: usize) -> usize {
        match self.segments {
            Some(Segments { size, header_len, .. }) => {
                len.min(usize::from(header_len) + usize::from(size))
            }
            None => len,
        }
    }

    /// Whether a driver that negotiated `features` takes the frame.
    pub const fn accepted_by(&self, features: u64) -> Accepted {
        match self {
            Self { segments: Some(segments), .. } => {
                let ecn = if segments.ecn { feature::GUEST_ECN } else { 0 };
                let needed = feature::GUEST_CSUM | segments.kind.receiver_feature() | ecn;
                if features & needed == needed && segments.size >= MIN_RECEIVER_SEGMENT_SIZE {
                    Accepted::AsIs
                } else {
                    Accepted::NeedsSegments
                }
            }
            Self { checksum: Some(_), .. } if features & feature::GUEST_CSUM == 0 => {
                Accepted::NeedsChecksum
            }
            _ => Accepted::AsIs,
        }
    }

    /// The header for a receiver that takes the frame as it is. `num_buffers` is 0.
    pub fn header(&self) -> VirtioNetHeader {
        let mut header = VirtioNetHeader::default();
        if let Some(checksum) = self.checksum {
            header.flags = NEEDS_CSUM;
            header.csum_start = U16::new(checksum.start);
            header.csum_offset = U16::new(checksum.offset);
        }
        if let Some(segments) = self.segments {
            let ecn = if segments.ecn { GSO_ECN } else { 0 };
            header.gso_type = segments.kind.gso_type() | ecn;
            header.gso_size = U16::new(segments.size);
            header.hdr_len = U16::new(segments.header_len);
        }
        header
    }
}
