//! The virtio-net header (virtio 1.2, 5.1.6).
//!
//! A header is never forwarded. What comes in is checked; what goes out is written anew, because
//! the kernel of the receiving guest is the victim of a bad one.

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::drop_reason::DropReason;

/// Length of the header with VIRTIO_F_VERSION_1 or VIRTIO_NET_F_MRG_RXBUF.
pub const HEADER_LEN: usize = 12;
/// Length of the header of a legacy driver without mergeable buffers (no `num_buffers`).
pub const LEGACY_HEADER_LEN: usize = 10;

/// `flags`: the checksum was verified. The kernel sets it on frames read from a TAP.
const DATA_VALID: u8 = 2;
/// `gso_type`: not a GSO frame.
const GSO_NONE: u8 = 0;

/// `struct virtio_net_hdr_v1`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
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

/// Checks a header that a guest wrote. No offload is negotiated, so none may be claimed; the other
/// fields mean nothing then and are ignored.
pub fn check_from_guest(header: &[u8]) -> Result<(), DropReason> {
    match header {
        [0, GSO_NONE, ..] => Ok(()),
        [_, _, ..] => Err(DropReason::HeaderOffload),
        _ => Err(DropReason::HeaderShort),
    }
}

/// Checks a header that the host's kernel wrote in front of a frame from a TAP.
pub fn check_from_tap(header: &[u8]) -> Result<(), DropReason> {
    match header {
        [0 | DATA_VALID, GSO_NONE, ..] => Ok(()),
        [_, _, ..] => Err(DropReason::HeaderOffload),
        _ => Err(DropReason::HeaderShort),
    }
}

/// The header for a frame that needs nothing of the receiver and takes `num_buffers` buffers.
pub fn plain(num_buffers: u16) -> VirtioNetHeader {
    VirtioNetHeader { num_buffers: U16::new(num_buffers), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_of_a_guest_that_claims_an_offload_is_refused() {
        let mut header = [0; HEADER_LEN];
        assert_eq!(check_from_guest(&header), Ok(()));
        for (position, value) in [(0, 1), (0, 2), (0, 4), (1, 1), (1, 4), (1, 0x80)] {
            header = [0; HEADER_LEN];
            header[position] = value;
            assert_eq!(check_from_guest(&header), Err(DropReason::HeaderOffload));
        }
        assert_eq!(check_from_guest(&[0]), Err(DropReason::HeaderShort));
    }

    #[test]
    fn num_buffers_of_a_guest_is_ignored() {
        assert_eq!(check_from_guest(&[0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]), Ok(()));
    }

    #[test]
    fn plain_header_is_zero_but_for_num_buffers() {
        assert_eq!(plain(0x0102).as_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]);
    }

    #[test]
    fn header_of_a_tap_may_say_that_the_checksum_was_verified() {
        assert_eq!(check_from_tap(&[2, 0, 0]), Ok(()));
        assert_eq!(check_from_tap(&[1, 0, 0]), Err(DropReason::HeaderOffload));
        assert_eq!(check_from_tap(&[0, 3, 0]), Err(DropReason::HeaderOffload));
    }
}
