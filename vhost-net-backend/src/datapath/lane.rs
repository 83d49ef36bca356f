//! The short way from ring to ring: for runs of frames that nearly all are, a batch in one loop.
//!
//! A frame takes it if it lies in one piece, and goes to one; if its header asks for nothing; if it
//! is TCP or UDP between the guest's card and netvm's; and if data frames are not limited. The
//! first that is different ends the run, untouched, and goes the long way, which says the same of
//! all the others, only not as fast.

use super::carry::{Carrier, Sink, Source};
use super::counters::Tally;
use super::header::{HEADER_LEN, HeaderWords};
use super::memory::{Memory, Window};
use super::ring::chain::Chain;

/// Words of a frame that are copied into private memory, of 8 bytes: more than the rules look at
/// here. Shorter frames go the long way, where they are padded if they have to be.
const HEAD: usize = 8;
/// Bytes of that, with the header.
const PRIVATE: usize = HEADER_LEN + 8 * HEAD;
/// Bytes of a chain whose end is not fetched with its beginning.
const LONG: usize = 192;
/// How many frames ahead of its turn a frame is fetched, and the buffer that it will probably go
/// to: far enough for it to arrive, and not so far that the processor gives up fetching.
pub const AHEAD: usize = 16;

/// The chains that were taken from a ring and not yet used, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// The memory they lie in.
    pub memory: &'a Memory,
    /// The chains.
    pub chains: &'a [Chain],
}

/// Both memories, each with a region in hand.
struct Windows<'a> {
    from: Window<'a>,
    to: Window<'a>,
}

impl Carrier<'_> {
    /// Carries up to `limit` frames the short way. Returns how many.
    // A function of its own: it needs all the registers there are.
    #[inline(never)]
    pub(super) fn run<S: Source, T: Sink>(
        &self,
        source: &mut S,
        sink: &mut T,
        limit: usize,
        tally: &mut Tally,
    ) -> usize {
        let (Some(from), Some(to)) = (source.lane(), sink.lane()) else {
            return 0;
        };
        let (Some(from_window), Some(to_window)) = (from.memory.window(), to.memory.window())
        else {
            return 0;
        };
        if !self.rates.is_unlimited() {
            return 0;
        }
        let mut windows = Windows { from: from_window, to: to_window };
        let most = from.chains.len().min(to.chains.len()).min(limit);
        let chains = from.chains.get(..most).unwrap_or_default();
        let buffers = to.chains.get(..most).unwrap_or_default();
        let (mut frames, mut bytes) = (0_usize, 0_usize);
        while let (Some(chain), Some(buffer)) = (chains.get(frames), buffers.get(frames)) {
            windows.fetch(chains, buffers, frames);
            let Some(len) = self.pass(&mut windows, chain, buffer) else {
                break;
            };
            frames = frames.wrapping_add(1);
            bytes = bytes.wrapping_add(len);
        }
        if frames > 0 {
            sink.filled(chains.get(..frames).unwrap_or_default());
            source.emptied(frames);
            tally.frames_in += frames;
            tally.frames_out += frames;
            tally.bytes_in += bytes;
            tally.bytes_out += bytes;
        }
        frames
    }

    /// Carries one frame, if it may go the short way. Returns its length.
    #[inline(always)]
    fn pass(&self, windows: &mut Windows<'_>, chain: &Chain, buffer: &Chain) -> Option<usize> {
        let (segment, room) = (chain.only_segment()?, buffer.only_segment()?);
        let total = segment.len();
        if total < PRIVATE || total > room.len() {
            return None;
        }
        let (piece, target) = (windows.from.bytes(segment)?, windows.to.bytes(room)?);
        let (header, head) = piece.read_head::<HEAD>()?;
        let len = total.wrapping_sub(HEADER_LEN);
        if !header.is_plain() || !self.filter.passes(self.from, &head, len, self.now) {
            return None;
        }
        target.write_head(HeaderWords::default().with_buffers(1), &head)?;
        if total > PRIVATE {
            piece.copy_tail(PRIVATE, target, total)?;
        }
        Some(len)
    }
}

impl Windows<'_> {
    /// Brings closer what will be touched soon, while the frame at `index` is carried.
    #[inline(always)]
    fn fetch(&self, chains: &[Chain], buffers: &[Chain], index: usize) {
        let at = |index: usize| {
            let (chain, buffer): (&Chain, &Chain) = (chains.get(index)?, buffers.get(index)?);
            Some((chain.first(), buffer.first()))
        };
        if let Some((segment, room)) = at(index.wrapping_add(AHEAD)) {
            self.from.prefetch(segment, segment.len(), false);
            self.to.prefetch(room, segment.len(), true);
        }
        // The rest of a long frame is too much to be fetched so far ahead.
        if let Some((segment, room)) = at(index.wrapping_add(1))
            && segment.len() > LONG
        {
            self.from.prefetch_tail(segment, segment.len(), false);
            self.to.prefetch_tail(room, segment.len(), true);
        }
    }
}
