//! The Internet checksum (RFC 1071).

use super::Checksum;
use super::wire;

/// Bytes that one step of [`Sum::add`] takes.
const BLOCK: usize = 64;
const LANES: usize = BLOCK / 8;

/// A one's-complement sum of 16-bit words.
///
/// Words are added as they lie in memory: the order of bytes does not matter to such a sum until
/// its end (RFC 1071, 2(B)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that start at an even position of what is summed. An odd last byte counts as if
    /// a zero followed. At most 2^32 bytes.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let mut sum = halve(self.0);
        if !blocks.is_empty() {
            sum += add_blocks(blocks);
        }
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            sum += halve(u64::from_ne_bytes(*word));
        }
        let (words, rest) = rest.as_chunks::<2>();
        for word in words {
            sum += u64::from(u16::from_ne_bytes(*word));
        }
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        self.0 = sum;
    }

    /// Adds a number, as it would be in a header.
    #[inline]
    pub fn add_u16(&mut self, value: u16) {
        self.0 = halve(self.0) + u64::from(value.to_be());
    }

    /// The checksum of what was added.
    #[inline]
    pub fn checksum(self) -> u16 {
        u16::from_be(!fold(self.0))
    }
}

/// The sum of whole blocks. A block adds less than 2^33 to a lane, so the lanes of 2^26 blocks
/// together are below 2^62.
fn add_blocks(blocks: &[[u8; BLOCK]]) -> u64 {
    // Independent lanes are what lets the compiler use vector registers.
    let mut lanes = [0_u64; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += halve(u64::from_ne_bytes(*word));
        }
    }
    lanes.iter().sum()
}

/// The same sum in 33 bits.
#[inline]
const fn halve(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// The same sum in 16 bits.
#[inline]
fn fold(sum: u64) -> u16 {
    // Below 2^33, below 2^32, at most 0x1fffe, at most 0xffff: nothing is cut off.
    let sum = halve(halve(sum));
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [low, high, ..] = sum.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// What a UDP header holds for this checksum: 0 would mean that there is none (RFC 768).
pub const fn udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Completes a checksum in a whole frame: sums from its start to the end of the frame, over the
/// sum of the pseudo header that the field holds, and writes the result there. Does nothing if the
/// field is not within the frame, which a checked one is.
pub fn complete_checksum(frame: &mut [u8], checksum: Checksum) {
    let Some(summed) = frame.get_mut(usize::from(checksum.start)..) else {
        return;
    };
    let mut sum = Sum::default();
    sum.add(summed);
    let value = match checksum.offset {
        // No other checksum that is offloaded has this place.
        wire::UDP_CHECKSUM => udp(sum.checksum()),
        _ => sum.checksum(),
    };
    let field = summed.get_mut(usize::from(checksum.offset)..).and_then(<[u8]>::first_chunk_mut);
    if let Some(field) = field {
        *field = value.to_be_bytes();
    }
}
