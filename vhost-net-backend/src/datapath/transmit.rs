//! From private memory into a driver's receive ring.

use vm_memory::{Bytes, GuestMemoryMmap};
use zerocopy::IntoBytes;

use super::drop_reason::DropReason;
use super::header;
use super::ring::{Chain, RingFault, Segment, SplitRing};

/// Most receive buffers one frame may take. A driver that offers smaller ones than this allows for
/// gets no long frames; without a limit it could make the link walk its whole ring per frame.
pub const MAX_BUFFERS: usize = 64;

/// What became of a frame that was to be delivered.
pub type Delivery = Result<(), DropReason>;

/// Reused memory of [`deliver`].
#[derive(Debug)]
pub struct Scratch {
    chain: Chain,
    /// Segments of all chains of the frame, in order.
    segments: Vec<Segment>,
    /// Head and capacity of each chain.
    buffers: Vec<(u16, u64)>,
}

impl Scratch {
    /// Scratch memory for a ring of `size` entries.
    pub fn new(size: u16) -> Self {
        Self {
            chain: Chain::with_capacity(size),
            segments: Vec::with_capacity(usize::from(size)),
            buffers: Vec::with_capacity(MAX_BUFFERS),
        }
    }

    /// What the last delivery wrote to, whole segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// Writes a header and `frame` into the next receive buffers. On success the buffers are used (not
/// yet published); on a drop the ring is as before.
pub fn deliver(
    ring: &mut SplitRing,
    memory: &GuestMemoryMmap,
    scratch: &mut Scratch,
    header_len: usize,
    mergeable: bool,
    frame: &[u8],
) -> Result<Delivery, RingFault> {
    let total = (header_len + frame.len()) as u64;
    if let Err(reason) = gather(ring, memory, scratch, total, mergeable)? {
        ring.untake(scratch.buffers.iter().map(|(head, _)| *head));
        return Ok(Err(reason));
    }
    // At most MAX_BUFFERS, so the number fits.
    let num_buffers = u16::try_from(scratch.buffers.len()).unwrap_or(u16::MAX);
    let header = header::plain(num_buffers);
    let header = header.as_bytes().get(..header_len).unwrap_or_default();
    scatter(memory, &scratch.segments, header, frame)?;
    let mut left = total;
    for (head, capacity) in &scratch.buffers {
        let written = left.min(*capacity);
        left -= written;
        ring.push_used(memory, *head, u32::try_from(written).unwrap_or(u32::MAX))?;
    }
    Ok(Ok(()))
}

/// Takes chains until they hold `total` bytes.
fn gather(
    ring: &mut SplitRing,
    memory: &GuestMemoryMmap,
    scratch: &mut Scratch,
    total: u64,
    mergeable: bool,
) -> Result<Delivery, RingFault> {
    let Scratch { chain, segments, buffers } = scratch;
    segments.clear();
    buffers.clear();
    let limit = if mergeable { MAX_BUFFERS } else { 1 };
    let mut room = 0;
    while room < total {
        if buffers.len() == limit {
            return Ok(Err(DropReason::RxBufferShort));
        }
        if !ring.take(memory, chain)? {
            // The index is read again only when all chains seen so far are used up.
            if ring.look(memory)? == 0 || !ring.take(memory, chain)? {
                return Ok(Err(DropReason::NoRxBuffer));
            }
        }
        buffers.push((chain.head(), chain.bytes()));
        segments.extend_from_slice(chain.segments());
        room += chain.bytes();
    }
    Ok(Ok(()))
}

/// Writes `header` and then `frame` over `segments`.
fn scatter<'a>(
    memory: &GuestMemoryMmap,
    segments: &[Segment],
    mut header: &'a [u8],
    mut frame: &'a [u8],
) -> Result<(), RingFault> {
    for segment in segments {
        let mut address = segment.address;
        let mut room = segment.len as usize;
        for source in [&mut header, &mut frame] {
            let len = room.min(source.len());
            if len == 0 {
                continue;
            }
            let (part, rest) = source.split_at(len);
            memory.write_slice(part, address).map_err(|_| RingFault::Unmapped(address.0))?;
            // In range: the segment was checked to be mapped, so its end does not overflow.
            address.0 = address.0.wrapping_add(len as u64);
            room -= len;
            *source = rest;
        }
    }
    Ok(())
}
