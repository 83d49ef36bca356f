//! The virtio-net header before every frame (virtio 1.3, 5.1.6).

/// Bytes of a header: with VERSION_1 it always has the number of buffers.
pub const HEADER_LEN: usize = 12;
/// The same, as rings count bytes.
pub(crate) const HEADER_BYTES: u32 = 12;
/// The checksum from `csum_start` on is to be completed.
pub const NEEDS_CSUM: u8 = 1;
/// The frame is no GSO frame.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4 to be segmented.
pub const GSO_TCPV4: u8 = 1;

/// A header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetHeader {
    /// [`NEEDS_CSUM`] or nothing.
    pub flags: u8,
    /// [`GSO_NONE`] or [`GSO_TCPV4`].
    pub gso_type: u8,
    /// Bytes of all headers of the frame.
    pub hdr_len: u16,
    /// Bytes of payload of a segment.
    pub gso_size: u16,
    /// Where the checksum begins, in bytes from the start of the frame.
    pub csum_start: u16,
    /// Where it goes, in bytes from there.
    pub csum_offset: u16,
    /// Receive buffers that the frame lies in; 0 from a driver.
    pub num_buffers: u16,
}

impl NetHeader {
    /// The bytes of it.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words =
            [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (place, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The header with these bytes.
    pub fn from_bytes(bytes: [u8; HEADER_LEN]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            num_buffers: word(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_layout_of_the_specification() {
        let header = NetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 54,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
            num_buffers: 0x0102,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 2, 1]);
        assert_eq!(NetHeader::from_bytes(bytes), header);
    }
}
