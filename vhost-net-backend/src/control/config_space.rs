//! The virtio-net configuration space (virtio 1.2, 5.1.4).

use zerocopy::little_endian::U16;
use zerocopy::{Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::mac::MacAddr;

/// `status`: the link is up.
const LINK_UP: u16 = 1;

/// The fields a driver may look at with the features the link offers.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ConfigSpace {
    mac: [u8; 6],
    status: U16,
    max_virtqueue_pairs: U16,
    mtu: U16,
}

/// `len` bytes of the configuration space from `offset`; bytes past its end are zero.
pub fn read(
    mac: MacAddr,
    mtu: u16,
    queue_pairs: usize,
    link_up: bool,
    offset: u32,
    len: u32,
) -> Vec<u8> {
    let config = ConfigSpace {
        mac: mac.octets(),
        status: U16::new(if link_up { LINK_UP } else { 0 }),
        max_virtqueue_pairs: U16::new(u16::try_from(queue_pairs).unwrap_or(u16::MAX)),
        mtu: U16::new(mtu),
    };
    let bytes = config.as_bytes();
    (u64::from(offset)..u64::from(offset) + u64::from(len))
        .map(|at| usize::try_from(at).ok().and_then(|at| bytes.get(at)).copied().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr::new([2, 3, 4, 5, 6, 7]);

    #[test]
    fn whole_space_reads_as_laid_out() {
        let space = read(MAC, 1500, 3, true, 0, 17);
        assert_eq!(space, [2, 3, 4, 5, 6, 7, 1, 0, 3, 0, 0xdc, 5, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn read_at_any_offset_has_the_length_asked_for() {
        assert_eq!(read(MAC, 1500, 3, false, 4, 4), [6, 7, 0, 0]);
        assert_eq!(read(MAC, 1500, 3, true, 6, 1), [1]);
        assert_eq!(read(MAC, 1500, 3, true, 255, 3), [0, 0, 0]);
        assert_eq!(read(MAC, 1500, 3, true, u32::MAX, 2), [0, 0]);
    }
}
