//! The virtio-net header (virtio 1.2, 5.1.6).
//!
//! A header is never forwarded. What comes in is checked; what goes out is written anew, because
//! the kernel of the receiving guest is the victim of a bad one.

use super::offload::{GSO_NONE, NEEDS_CSUM};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header with VIRTIO_F_VERSION_1 or VIRTIO_NET_F_MRG_RXBUF.
pub const HEADER_LEN: usize = 12;
/// Length of the header of a legacy driver without mergeable buffers (no `num_buffers`).
pub const LEGACY_HEADER_LEN: usize = 10;

/// `struct virtio_net_hdr_v1`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct VirtioNetHeader {
    /// VIRTIO_NET_HDR_F_* bits.
    pub flags: u8,
    /// VIRTIO_NET_HDR_GSO_* value.
    pub gso_type: u8,
    /// Bytes of all headers; a hint.
    pub hdr_len: U16,
    /// Bytes of payload per segment.
    pub gso_size: U16,
    /// Where checksumming starts.
    pub csum_start: U16,
    /// Where the checksum goes, from `csum_start`.
    pub csum_offset: U16,
    /// How many receive buffers the frame takes.
    pub num_buffers: U16,
}

impl VirtioNetHeader {
    /// From the bytes that a driver wrote.
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// Whether it asks for nothing: neither a checksum nor segmentation.
    #[inline]
    pub const fn is_plain(&self) -> bool {
        self.flags & NEEDS_CSUM == 0 && self.gso_type == GSO_NONE
    }

    /// The bytes as they go to a driver.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        zerocopy::transmute!(self)
    }
}
