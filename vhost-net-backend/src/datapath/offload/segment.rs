//! Segmentation in software: of TCP (TSO) and of UDP datagrams (USO).

use zerocopy::FromBytes;
use zerocopy::big_endian::U16;

use super::checksum::{self, Sum};
use super::wire::{self, Ipv4, Ipv6, Tcp, Udp};
use super::{Offload, SegmentKind};

/// Calls `deliver` with each segment of a whole frame, in order. A segment is a plain frame with
/// all its checksums complete; it is built in `scratch`, which must have room for
/// [`Offload::wire_len`] bytes.
///
/// `offload` must be what [`check`](super::check) made for this frame. With another one, or with
/// too little room, wrong segments or none are delivered, and nothing worse happens.
pub fn segment(
    frame: &[u8],
    offload: &Offload,
    scratch: &mut [u8],
    mut deliver: impl FnMut(&[u8]),
) {
    if let Some(mut cut) = Cut::new(frame, offload, scratch) {
        while let Some(segment) = cut.next_segment() {
            deliver(segment);
        }
    }
}

/// A frame that is being cut.
#[derive(Debug)]
struct Cut<'a> {
    kind: SegmentKind,
    /// Bytes of payload per segment.
    size: usize,
    /// Where the network header, the transport header and the payload start.
    network: usize,
    transport: usize,
    header_len: usize,
    /// What the next segment starts with.
    payload: &'a [u8],
    /// The headers, and the payload of the segment before.
    scratch: &'a mut [u8],
    /// Segments made.
    made: u16,
    /// Of the first segment: IPv4 identification, TCP sequence number and flags.
    identification: u16,
    sequence: u32,
    flags: u8,
}

impl<'a> Cut<'a> {
    fn new(frame: &'a [u8], offload: &Offload, scratch: &'a mut [u8]) -> Option<Self> {
        let (segments, checksum) = (offload.segments?, offload.checksum?);
        let (headers, payload) = frame.split_at_checked(usize::from(segments.header_len))?;
        scratch.get_mut(..headers.len())?.copy_from_slice(headers);
        let network = usize::from(segments.network);
        let transport = usize::from(checksum.start);
        let (mut identification, mut sequence, mut flags) = (0, 0, 0);
        if let SegmentKind::Tcp4 | SegmentKind::Udp4 = segments.kind {
            identification = header::<Ipv4>(headers, network)?.identification.get();
        }
        if let SegmentKind::Tcp4 | SegmentKind::Tcp6 = segments.kind {
            let tcp: Tcp = header(headers, transport)?;
            (sequence, flags) = (tcp.sequence.get(), tcp.flags);
        }
        Some(Self {
            kind: segments.kind,
            size: usize::from(segments.size),
            network,
            transport,
            header_len: headers.len(),
            payload,
            scratch,
            made: 0,
            identification,
            sequence,
            flags,
        })
    }

    fn next_segment(&mut self) -> Option<&[u8]> {
        let (payload, left) =
            self.payload.split_at_checked(self.size).unwrap_or((self.payload, &[]));
        if payload.is_empty() {
            return None;
        }
        let segment = self.scratch.get_mut(..self.header_len + payload.len())?;
        segment.get_mut(self.header_len..)?.copy_from_slice(payload);
        let (below, transport) = segment.split_at_mut_checked(self.transport)?;
        let network = below.get_mut(self.network..)?;
        let mut pseudo = match self.kind {
            SegmentKind::Tcp4 | SegmentKind::Udp4 => {
                let identification = self.identification.wrapping_add(self.made);
                finish_ipv4(network, transport.len(), identification)?
            }
            SegmentKind::Tcp6 | SegmentKind::Udp6 => finish_ipv6(network, transport.len())?,
        };
        pseudo.add_u16(u16::from(self.kind.protocol()));
        match self.kind {
            SegmentKind::Tcp4 | SegmentKind::Tcp6 => {
                let mut flags = self.flags;
                if self.made > 0 {
                    flags &= !wire::CWR;
                }
                if !left.is_empty() {
                    flags &= !(wire::FIN | wire::PSH);
                }
                finish_tcp(transport, pseudo, self.sequence, flags)?;
            }
            SegmentKind::Udp4 | SegmentKind::Udp6 => finish_udp(transport, pseudo)?,
        }
        self.payload = left;
        self.made = self.made.wrapping_add(1);
        // At most 2^16 bytes: less than a u32 holds.
        self.sequence = self.sequence.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
        Some(segment)
    }
}

fn header<T: FromBytes>(headers: &[u8], offset: usize) -> Option<T> {
    T::read_from_prefix(headers.get(offset..)?).ok().map(|(header, _)| header)
}

/// Completes the network header, of which `network` is all with its options, in front of
/// `transport_len` bytes. Returns the sum of the pseudo header (RFC 9293, 3.1) but for the
/// protocol.
fn finish_ipv4(network: &mut [u8], transport_len: usize, identification: u16) -> Option<Sum> {
    let total_length = u16::try_from(network.len() + transport_len).ok()?;
    let (ip, _) = Ipv4::mut_from_prefix(network).ok()?;
    ip.total_length.set(total_length);
    ip.identification.set(identification);
    ip.checksum = U16::ZERO;
    let mut pseudo = Sum::default();
    pseudo.add(&ip.source);
    pseudo.add(&ip.destination);
    pseudo.add_u16(u16::try_from(transport_len).ok()?);
    let mut sum = Sum::default();
    sum.add(network);
    let (ip, _) = Ipv4::mut_from_prefix(network).ok()?;
    ip.checksum.set(sum.checksum());
    Some(pseudo)
}

/// The same for IPv6 and its extension headers (RFC 8200, 8.1).
fn finish_ipv6(network: &mut [u8], transport_len: usize) -> Option<Sum> {
    let extensions = network.len().checked_sub(size_of::<Ipv6>())?;
    let (ip, _) = Ipv6::mut_from_prefix(network).ok()?;
    ip.payload_length.set(u16::try_from(extensions + transport_len).ok()?);
    let mut pseudo = Sum::default();
    pseudo.add(&ip.source);
    pseudo.add(&ip.destination);
    pseudo.add_u16(u16::try_from(transport_len).ok()?);
    Some(pseudo)
}

fn finish_tcp(transport: &mut [u8], mut sum: Sum, sequence: u32, flags: u8) -> Option<()> {
    let (tcp, _) = Tcp::mut_from_prefix(transport).ok()?;
    tcp.sequence.set(sequence);
    tcp.flags = flags;
    tcp.checksum = U16::ZERO;
    sum.add(transport);
    let (tcp, _) = Tcp::mut_from_prefix(transport).ok()?;
    tcp.checksum.set(sum.checksum());
    Some(())
}

fn finish_udp(transport: &mut [u8], mut sum: Sum) -> Option<()> {
    let length = u16::try_from(transport.len()).ok()?;
    let (udp, _) = Udp::mut_from_prefix(transport).ok()?;
    udp.length.set(length);
    udp.checksum = U16::ZERO;
    sum.add(transport);
    let (udp, _) = Udp::mut_from_prefix(transport).ok()?;
    udp.checksum.set(checksum::udp(sum.checksum()));
    Some(())
}
