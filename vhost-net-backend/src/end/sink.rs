//! Frames into a driver's receive ring.

use super::port::Parts;
use crate::datapath::carry::{Outgoing, Sink};
use crate::datapath::drop_reason::DropReason;
use crate::datapath::header::{HEADER_LEN, LEGACY_HEADER_LEN};
use crate::datapath::lane::{AHEAD, Lane};
use crate::datapath::memory::{Memory, Segment};
use crate::datapath::packet::Tail;
use crate::datapath::ring::chain::Chain;
use crate::datapath::ring::{Direction, Ring, RingFault};

/// Most receive buffers one frame may take. A driver that offers smaller ones than this allows for
/// gets no long frames; without a limit it could make the link walk its whole ring per frame.
pub const MAX_BUFFERS: usize = 64;
/// Chains taken at once.
const BATCH: usize = 64;

/// A driver's receive ring.
#[derive(Debug)]
pub struct RingSink<'a, R>(pub(super) Parts<'a, R>);

impl<R: Ring> Sink for RingSink<'_, R> {
    fn features(&self) -> u64 {
        self.0.usage.features
    }

    #[inline]
    fn has_room(&mut self) -> bool {
        if self.0.chains.is_empty() {
            self.0.take(BATCH);
            self.0.chains.fetch_first(self.0.usage.memory, AHEAD, Direction::Write);
        }
        // With a fault, frames are dropped rather than kept waiting.
        !self.0.chains.is_empty() || self.0.fault.is_some()
    }

    #[inline]
    fn deliver(&mut self, frame: Outgoing<'_>) -> Result<(), DropReason> {
        let total = self.0.usage.header_len.wrapping_add(frame.len) as u64;
        let buffers = self.gather(total)?;
        let delivered = self.fill(frame, buffers, total);
        self.0.check(delivered).ok_or(DropReason::PeerDown)
    }

    #[inline]
    fn lane(&self) -> Option<Lane<'_>> {
        self.0.lane()
    }

    #[inline]
    fn filled(&mut self, frames: &[Chain]) {
        if let Some(last) = frames.last() {
            self.0.chains.expect(last.first().len());
        }
        // The headers on both sides are equally long.
        self.0.use_up(frames.len(), frames.iter().map(|chain| chain.first().len_u32()));
    }

    fn publish(&mut self) {
        self.0.publish();
    }
}

impl<R: Ring> RingSink<'_, R> {
    /// How many of the oldest buffers a frame of `total` bytes with its header takes.
    #[inline]
    fn gather(&mut self, total: u64) -> Result<usize, DropReason> {
        let mut room = 0;
        for count in 0..self.0.usage.max_buffers {
            let chain = match self.0.chains.get(count) {
                Some(chain) => chain,
                None => {
                    self.0.take(BATCH);
                    match self.0.chains.get(count) {
                        Some(chain) => chain,
                        None if self.0.fault.is_some() => return Err(DropReason::PeerDown),
                        None => return Err(DropReason::NoRxBuffer),
                    }
                }
            };
            room += self.0.chains.bytes(chain);
            if room >= total {
                return Ok(count + 1);
            }
        }
        Err(DropReason::RxBufferShort)
    }

    /// Writes header and frame over the oldest buffers, and marks those as used.
    #[inline]
    fn fill(
        &mut self,
        mut frame: Outgoing<'_>,
        buffers: usize,
        total: u64,
    ) -> Result<(), RingFault> {
        // At most MAX_BUFFERS, so the number fits.
        frame.header = frame.header.with_buffers(u16::try_from(buffers).unwrap_or(u16::MAX));
        let Parts { ring, chains, usage, .. } = &mut self.0;
        let usage = *usage;
        chains.expect(frame.lead.len());
        chains.fetch(usage.memory, AHEAD, Direction::Write);
        if usage.header_len == HEADER_LEN
            && let (1, None, Some(chain)) = (buffers, frame.tail.source, chains.get(0))
            && let Some(segment) = chain.only_segment()
        {
            let written = usage.memory.write_frame(segment, frame.header, frame.bytes());
            written.ok_or(RingFault::Unmapped(0))?;
            ring.push_used(usage.memory, chain, u32::try_from(total).unwrap_or(u32::MAX))?;
            chains.advance(1);
            return Ok(());
        }
        // The next frame is probably as long, and goes to the next buffer.
        if let Some(following) = chains.get(buffers)
            && let Some(segment) = chains.segments(following).last()
        {
            let len = usize::try_from(total).unwrap_or(usize::MAX);
            usage.memory.prefetch_tail(segment, len, true);
        }
        let tail = frame.tail;
        let lead = frame.with_header();
        // The short header of a legacy driver is the long one without its last field.
        if usage.header_len == LEGACY_HEADER_LEN {
            lead.copy_within(..LEGACY_HEADER_LEN, HEADER_LEN - LEGACY_HEADER_LEN);
        }
        let lead = lead.get(HEADER_LEN.wrapping_sub(usage.header_len)..).unwrap_or_default();
        self.scatter(Writer { lead, tail, memory: usage.memory }, buffers, total)
    }

    fn scatter(
        &mut self,
        mut writer: Writer<'_>,
        buffers: usize,
        total: u64,
    ) -> Result<(), RingFault> {
        let Parts { ring, chains, usage, .. } = &mut self.0;
        let oldest = chains.as_slice().get(..buffers).unwrap_or_default();
        // Drivers cut buffers out of larger pieces of memory: what lies together is filled at once.
        let mut piece = Segment::default();
        for segment in oldest.iter().flat_map(|chain| chains.segments(chain)) {
            match piece.joined(segment) {
                Some(joined) => piece = joined,
                None => {
                    writer.fill(&piece).ok_or(RingFault::Unmapped(0))?;
                    piece = *segment;
                }
            }
        }
        writer.fill(&piece).ok_or(RingFault::Unmapped(0))?;
        let mut left = total;
        for chain in oldest {
            let written = left.min(chains.bytes(chain));
            left -= written;
            // No more than a frame with its header.
            ring.push_used(usage.memory, chain, u32::try_from(written).unwrap_or(u32::MAX))?;
        }
        chains.advance(buffers);
        Ok(())
    }
}

/// The bytes that are left of a frame being delivered.
struct Writer<'a> {
    /// Of the header and the private bytes.
    lead: &'a [u8],
    tail: Tail<'a>,
    /// Where they go.
    memory: &'a Memory,
}

impl Writer<'_> {
    /// Writes as much as fits to `segment`.
    #[inline]
    fn fill(&mut self, segment: &Segment) -> Option<()> {
        let len = self.lead.len().min(segment.len());
        if len > 0 {
            let (now, later) = self.lead.split_at_checked(len)?;
            self.memory.write(segment, 0, now)?;
            self.lead = later;
        }
        if len < segment.len() && self.tail.source.is_some() {
            self.copy(segment, len)
        } else {
            Some(())
        }
    }

    /// The same for what lies in the sender's memory.
    fn copy(&mut self, segment: &Segment, mut at: usize) -> Option<()> {
        let Some((memory, mut segments)) = self.tail.source else {
            return Some(());
        };
        let mut skip = self.tail.skip;
        while at < segment.len()
            && let Some((from, rest)) = segments.split_first()
        {
            let len = (from.len() - skip).min(segment.len() - at);
            memory.copy((from, skip), self.memory, (segment, at), len)?;
            at += len;
            skip += len;
            if skip == from.len() {
                (segments, skip) = (rest, 0);
            }
        }
        self.tail = Tail { source: Some((memory, segments)), skip };
        Some(())
    }
}
