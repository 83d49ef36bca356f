//! The commonest frames of all, judged with a few compares: TCP and most UDP over IPv4 between the
//! guest's card and netvm's.

use super::super::EndId;
use super::frame::Frame;
use super::{ETHERNET_HEADER_LEN, Filter, dhcp, ethernet, ipv4};

/// What is looked at: an Ethernet header, an IPv4 header without options, two ports.
const LEN: usize = ETHERNET_HEADER_LEN + 20 + 4;
/// Least total length of a packet with a whole UDP header.
const LEAST: usize = 20 + 8;
/// Version 4, five words of header.
const FIRST: u64 = 0x45;
/// The fragment bits: more fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;

/// The first 15 bytes of such a frame from either end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain([(u64, u64); 2]);

impl Plain {
    /// Frames between these cards; addresses as numbers.
    pub(super) const fn new(guest: u64, netvm: u64) -> Self {
        Self([Self::start(netvm, guest), Self::start(guest, netvm)])
    }

    const fn start(destination: u64, source: u64) -> (u64, u64) {
        let rest = (source & 0xffff_ffff) << 24 | (ethernet::IPV4 as u64) << 8 | FIRST;
        (destination << 16 | source >> 32, rest)
    }
}

/// Whether the frame is such a one and may pass as data. If not, the other rules say what to do
/// with it; they say the same of those that pass here, but not as fast.
#[inline]
pub(super) fn passes(filter: &Filter, from: EndId, frame: &Frame<'_>, now: u64) -> bool {
    let Some(bytes) = frame.bytes.first_chunk::<LEN>() else {
        return false;
    };
    let (Some(first), Some(second)) = (bytes.first_chunk(), bytes[8..].first_chunk()) else {
        return false;
    };
    let start = (u64::from_be_bytes(*first), u64::from_be_bytes(*second) >> 8);
    if start != filter.plain.0[from.index()] || frame.wire_len > filter.max_frame {
        return false;
    }
    let destination_port = u16::from_be_bytes([bytes[36], bytes[37]]);
    let is_data = match bytes[23] {
        ipv4::TCP => true,
        ipv4::UDP => destination_port != dhcp::CLIENT_PORT && destination_port != dhcp::SERVER_PORT,
        _ => false,
    };
    match from {
        EndId::Netvm => is_data,
        EndId::Guest => {
            let total_len = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
            let source = u32::from_be_bytes([bytes[26], bytes[27], bytes[28], bytes[29]]);
            is_data
                && (LEAST..=frame.len.saturating_sub(ETHERNET_HEADER_LEN)).contains(&total_len)
                && u16::from_be_bytes([bytes[20], bytes[21]]) & FRAGMENT == 0
                && filter.sources.holds_v4(source, now)
        }
    }
}
