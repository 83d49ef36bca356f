//! The commonest frames of all, judged with a few compares: TCP and most UDP over IPv4 between the
//! guest's card and netvm's.

use super::super::EndId;
use super::frame::Frame;
use super::{ETHERNET_HEADER_LEN, Filter, dhcp, ethernet, ipv4};

/// Words of a frame that are looked at, of 8 bytes, little-endian: an Ethernet header, an IPv4
/// header without options, two ports.
const WORDS: usize = 5;
/// Least total length of a packet with a whole UDP header.
const LEAST: usize = 20 + 8;
/// Version 4, five words of header.
const FIRST: u8 = 0x45;
/// The fragment bits, more fragments and the offset, as they lie in a word.
const FRAGMENT: u64 = 0x3fff_u16.swap_bytes() as u64;
/// The bytes of the second word that are compared: all but the type of service.
const COMPARED: u64 = u64::MAX >> 8;

/// The first two words of such a frame from either end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain([[u64; 2]; 2]);

impl Plain {
    /// Frames between these cards; addresses as numbers.
    pub(super) const fn new(guest: u64, netvm: u64) -> Self {
        Self([Self::start(netvm, guest), Self::start(guest, netvm)])
    }

    const fn start(destination: u64, source: u64) -> [u64; 2] {
        let [_, _, d0, d1, d2, d3, d4, d5] = destination.to_be_bytes();
        let [_, _, s0, s1, s2, s3, s4, s5] = source.to_be_bytes();
        let [e0, e1] = ethernet::IPV4.to_be_bytes();
        [
            u64::from_le_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
            u64::from_le_bytes([s2, s3, s4, s5, e0, e1, FIRST, 0]),
        ]
    }
}

/// Whether the frame is such a one and may pass as data. If not, the other rules say what to do
/// with it; they say the same of those that pass here, but not as fast.
#[inline]
pub(super) fn passes(filter: &Filter, from: EndId, frame: &Frame<'_>, now: u64) -> bool {
    let Some(bytes) = frame.bytes.first_chunk::<{ 8 * WORDS }>() else {
        return false;
    };
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words_pass(filter, from, &words, (frame.len, frame.wire_len), now)
}

/// The same of a frame of this length, on a wire too, that starts with these words.
#[inline(always)]
pub(super) fn words_pass(
    filter: &Filter,
    from: EndId,
    &[w0, w1, w2, w3, w4]: &[u64; WORDS],
    (len, wire_len): (usize, usize),
    now: u64,
) -> bool {
    let [first, second] = filter.plain.0[from.index()];
    if w0 != first || w1 & COMPARED != second || wire_len > filter.max_frame {
        return false;
    }
    // Bytes 16 to 23: lengths and fragments, and the protocol; 26 to 29: the source; 36 and 37: the
    // destination port.
    let [_, _, _, _, _, _, _, protocol] = w2.to_le_bytes();
    let [_, _, _, _, p0, p1, _, _] = w4.to_le_bytes();
    let destination_port = u16::from_be_bytes([p0, p1]);
    let is_data = match protocol {
        ipv4::TCP => true,
        ipv4::UDP => destination_port != dhcp::CLIENT_PORT && destination_port != dhcp::SERVER_PORT,
        _ => false,
    };
    match from {
        EndId::Netvm => is_data,
        EndId::Guest => {
            let [l0, l1, ..] = w2.to_le_bytes();
            let [_, _, a0, a1, a2, a3, _, _] = w3.to_le_bytes();
            let total_len = usize::from(u16::from_be_bytes([l0, l1]));
            is_data
                && (LEAST..=len.saturating_sub(ETHERNET_HEADER_LEN)).contains(&total_len)
                && w2 >> 32 & FRAGMENT == 0
                && filter.sources.holds_v4(u32::from_be_bytes([a0, a1, a2, a3]), now)
        }
    }
}
