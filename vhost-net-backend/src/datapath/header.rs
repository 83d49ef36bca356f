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

/// A header as two words, little-endian: what is moved from register to register meanwhile never
/// has to wait for the store buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderWords {
    /// Everything up to `csum_start`.
    first: u64,
    /// `csum_offset`, and `num_buffers` above it.
    second: u32,
}

impl HeaderWords {
    /// From the bytes that a driver wrote.
    #[inline]
    pub const fn parse(first: [u8; 8], second: [u8; 4]) -> Self {
        Self { first: u64::from_le_bytes(first), second: u32::from_le_bytes(second) }
    }

    /// Whether it asks for nothing: neither a checksum nor segmentation.
    #[inline]
    pub const fn is_plain(self) -> bool {
        self.first & (NEEDS_CSUM as u64 | 0xff00) == (GSO_NONE as u64) << 8
    }

    /// The same with another `num_buffers`.
    #[inline]
    pub const fn with_buffers(self, buffers: u16) -> Self {
        Self { second: self.second & 0xffff | (buffers as u32) << 16, ..self }
    }

    /// The bytes as they go to a driver.
    #[inline]
    pub const fn to_bytes(self) -> ([u8; 8], [u8; 4]) {
        (self.first.to_le_bytes(), self.second.to_le_bytes())
    }

    /// The bytes in one piece.
    pub fn to_array(self) -> [u8; HEADER_LEN] {
        VirtioNetHeader::from(self).to_bytes()
    }
}

impl VirtioNetHeader {
    /// Whether it asks for nothing: neither a checksum nor segmentation.
    #[inline]
    pub fn is_plain(&self) -> bool {
        HeaderWords::from(*self).is_plain()
    }

    /// The bytes as they go to a driver.
    fn to_bytes(self) -> [u8; HEADER_LEN] {
        zerocopy::transmute!(self)
    }
}

impl From<VirtioNetHeader> for HeaderWords {
    fn from(header: VirtioNetHeader) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = header.to_bytes();
        Self::parse([a, b, c, d, e, f, g, h], [i, j, k, l])
    }
}

impl From<HeaderWords> for VirtioNetHeader {
    fn from(words: HeaderWords) -> Self {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = words.to_bytes();
        let bytes: [u8; HEADER_LEN] = [a, b, c, d, e, f, g, h, i, j, k, l];
        zerocopy::transmute!(bytes)
    }
}
