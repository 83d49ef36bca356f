//! The short way from ring to ring: for runs of frames that nearly all are, a batch in one loop.
//!
//! A frame takes it if it lies in one piece, and goes to one; if its header asks for nothing; if it
//! is TCP or UDP between the guest's card and netvm's; and if data frames are not limited. The
//! first that is different ends the run, untouched, and goes the long way, which says the same of
//! all the others, only not as fast.

use super::carry::{Carrier, Sink, Source};
use super::counters::Tally;
use super::header::{HEADER_LEN, HeaderWords};
use super::memory::Memory;
use super::ring::chain::Chain;

/// Words of a frame that are copied into private memory, of 8 bytes: more than the rules look at
/// here. Shorter frames go the long way, where they are padded if they have to be.
const HEAD: usize = 8;
/// Bytes of that, with the header.
const PRIVATE: usize = HEADER_LEN + 8 * HEAD;
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
        let most = from.chains.len().min(to.chains.len()).min(limit);
        let chains = from.chains.get(..most).unwrap_or_default();
        let buffers = to.chains.get(..most).unwrap_or_default();
        let (Some(mut source_memory), Some(mut sink_memory)) =
            (from.memory.window(), to.memory.window())
        else {
            return 0;
        };
        if !self.rates.is_unlimited() {
            return 0;
        }
        let (mut frames, mut bytes) = (0_usize, 0_usize);
        while let (Some(chain), Some(buffer)) = (chains.get(frames), buffers.get(frames)) {
            let later = frames.wrapping_add(AHEAD);
            if let (Some(chain), Some(buffer)) = (chains.get(later), buffers.get(later)) {
                source_memory.prefetch(chain.first(), chain.first().len(), false);
                sink_memory.prefetch(buffer.first(), chain.first().len(), true);
            }
            let (Some(segment), Some(room)) = (chain.only_segment(), buffer.only_segment()) else {
                break;
            };
            let total = segment.len();
            if total < PRIVATE || total > room.len() {
                break;
            }
            let Some(piece) = source_memory.bytes(segment) else {
                break;
            };
            let Some(target) = sink_memory.bytes(room) else {
                break;
            };
            let Some((header, head)) = piece.read_head::<HEAD>() else {
                break;
            };
            let len = total.wrapping_sub(HEADER_LEN);
            if !header.is_plain() || !self.filter.passes(self.from, &head, len, self.now) {
                break;
            }
            let header = HeaderWords::default().with_buffers(1);
            if target.write_head(header, &head).is_none() {
                break;
            }
            if total > PRIVATE {
                // The rest of a long frame is too much to be fetched earlier.
                let next = frames.wrapping_add(1);
                if let (Some(chain), Some(buffer)) = (chains.get(next), buffers.get(next)) {
                    source_memory.prefetch_tail(chain.first(), chain.first().len(), false);
                    sink_memory.prefetch_tail(buffer.first(), chain.first().len(), true);
                }
                if piece.copy_tail(PRIVATE, target, total).is_none() {
                    break;
                }
            }
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
}
