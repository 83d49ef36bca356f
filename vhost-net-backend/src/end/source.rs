//! Frames out of a driver's transmit ring.

use super::port::Parts;
use crate::datapath::carry::{Next, Source};
use crate::datapath::lane::{AHEAD, Lane};
use crate::datapath::memory::{Memory, Segment};
use crate::datapath::packet::{LEAD, Packet};
use crate::datapath::ring::{Direction, Ring};

/// A driver's transmit ring.
#[derive(Debug)]
pub struct RingSource<'a, R>(pub(super) Parts<'a, R>);

impl<R: Ring> Source for RingSource<'_, R> {
    fn features(&self) -> u64 {
        self.0.usage.features
    }

    fn take(&mut self, limit: usize) {
        if self.0.chains.is_empty() {
            self.0.take(limit);
            self.0.chains.fetch_first(self.0.usage.memory, AHEAD, Direction::Read);
        }
    }

    #[inline]
    fn has_frames(&self) -> bool {
        !self.0.chains.is_empty()
    }

    #[inline]
    fn next(&mut self, packet: &mut Packet) -> Next {
        let Parts { chains, usage, .. } = &self.0;
        let Some(chain) = chains.get(0) else {
            return Next::Empty;
        };
        chains.fetch(usage.memory, AHEAD, Direction::Read);
        // While this frame is being carried, the next one comes closer.
        let bytes = chains.bytes(chain);
        if bytes > LEAD as u64
            && let Some(following) = chains.get(1)
            && let Some(segment) = chains.segments(following).last()
        {
            usage.memory.prefetch_tail(segment, segment.len(), false);
        }
        match packet.load(usage.memory, chains.segments(chain), bytes, usage.header_len) {
            Ok(()) => Next::Frame,
            Err(reason) => Next::Drop(reason),
        }
    }

    #[inline]
    fn place(&self) -> Option<(&Memory, &[Segment])> {
        let chain = self.0.chains.get(0)?;
        Some((self.0.usage.memory, self.0.chains.segments(chain)))
    }

    #[inline]
    fn done(&mut self) {
        let Parts { ring, chains, usage, .. } = &mut self.0;
        if let Some(chain) = chains.get(0) {
            let used = ring.push_used(usage.memory, chain, 0);
            chains.advance(1);
            self.0.check(used);
        }
    }

    #[inline]
    fn lane(&self) -> Option<Lane<'_>> {
        self.0.lane()
    }

    #[inline]
    fn emptied(&mut self, frames: usize) {
        self.0.use_up(frames, std::iter::repeat(0));
    }

    fn publish(&mut self) {
        self.0.publish();
    }
}
