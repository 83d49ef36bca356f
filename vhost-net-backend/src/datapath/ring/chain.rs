//! Descriptor chains that were taken from a ring and checked.

use super::{Direction, MAX_CHAIN};
use crate::datapath::memory::{Memory, Segment};

/// One descriptor chain, checked as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// Its first segment, or an empty one if it has none.
    first: Segment,
    id: u16,
    slots: u16,
    /// 0: it has that segment only. Else where, counted from 1, the others are described.
    more: u32,
}

/// A chain that does not have just one segment.
#[derive(Clone, Copy, Debug)]
struct Many {
    /// Where its segments are among those of all such chains.
    start: usize,
    count: usize,
    bytes: u64,
}

impl Chain {
    /// Its only segment, if it has just one and takes one descriptor of the ring.
    #[inline]
    pub const fn only_segment(&self) -> Option<&Segment> {
        if self.more == 0 { Some(&self.first) } else { None }
    }

    /// Its first segment, or an empty one if it has none.
    #[inline]
    pub const fn first(&self) -> &Segment {
        &self.first
    }

    /// What identifies the chain to the driver: the index of its first descriptor (split) or its
    /// buffer id (packed).
    #[inline]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Descriptors it takes of the ring itself.
    #[inline]
    pub const fn slots(&self) -> u16 {
        self.slots
    }
}

/// Chains taken and not yet used, oldest first. It allocates only while it grows to what a batch of
/// chains takes.
#[derive(Debug, Default)]
pub struct Chains {
    chains: Vec<Chain>,
    /// Those that do not have just one segment, in the same order, and the segments of these.
    many: Vec<Many>,
    segments: Vec<Segment>,
    /// Chains at the front that were used.
    used: usize,
    /// Where the segments of the chain being taken start, and their bytes.
    open: (usize, u64),
    /// How much is likely to be written to a chain.
    expected: usize,
    /// Whether the descriptor being taken is for an answer to a command.
    answers: bool,
    /// Descriptors ever walked, of chains with more than one; and how many that were when chains
    /// began to be taken.
    walked: (u64, u64),
}

/// Chains are taken until so many segments are held, or so many descriptors were walked; then the
/// one being taken is the last.
const ENOUGH_SEGMENTS: usize = 1024;
const ENOUGH_WALKED: u64 = 1024;

impl Chains {
    /// Room for the chains of a ring of `size` entries.
    pub fn with_capacity(size: u16) -> Self {
        let size = usize::from(size);
        Self {
            chains: Vec::with_capacity(size.min(256)),
            many: Vec::with_capacity(size.min(256)),
            segments: Vec::with_capacity(ENOUGH_SEGMENTS + size.min(MAX_CHAIN.into())),
            ..Self::default()
        }
    }

    /// The chain `index` places behind the oldest.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Chain> {
        self.chains.get(self.used.wrapping_add(index))
    }

    /// All, oldest first.
    #[inline]
    pub fn as_slice(&self) -> &[Chain] {
        self.chains.get(self.used..).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chains.len().saturating_sub(self.used)
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used >= self.chains.len()
    }

    /// The segments of a chain, in order.
    #[inline]
    pub fn segments<'a>(&'a self, chain: &'a Chain) -> &'a [Segment] {
        match self.many(chain) {
            None => std::slice::from_ref(&chain.first),
            Some(many) => self
                .segments
                .get(many.start..many.start.wrapping_add(many.count))
                .unwrap_or_default(),
        }
    }

    /// Bytes of all segments of a chain together; of a command, only of those before the answer's.
    #[inline]
    pub fn bytes(&self, chain: &Chain) -> u64 {
        self.many(chain).map_or(chain.first.len() as u64, |many| many.bytes)
    }

    #[inline]
    fn many(&self, chain: &Chain) -> Option<&Many> {
        self.many.get((chain.more as usize).checked_sub(1)?)
    }

    /// Brings closer what will be touched first of the `count` oldest chains.
    pub fn fetch_first(&self, memory: &Memory, count: usize, direction: Direction) {
        let to_write = direction == Direction::Write;
        let Some(window) = memory.window() else {
            return;
        };
        for (index, chain) in self.as_slice().iter().take(count).enumerate() {
            match chain.only_segment() {
                Some(segment) if to_write => window.prefetch(segment, self.expected, true),
                Some(segment) => window.prefetch(segment, segment.len(), false),
                None => self.fetch(memory, index, direction),
            }
        }
    }

    /// Brings closer what will be touched first of the chain `index` places behind the oldest.
    #[inline]
    pub fn fetch(&self, memory: &Memory, index: usize, direction: Direction) {
        let Some(chain) = self.get(index) else {
            return;
        };
        let (segments, to_write) = (self.segments(chain), direction == Direction::Write);
        // Some drivers put the header apart.
        for segment in segments.iter().take(2) {
            let len = if to_write { self.expected } else { segment.len() };
            memory.prefetch(segment, len, to_write);
        }
    }

    /// Says how much is likely to be written to each chain taken from now on.
    #[inline]
    pub const fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
    }

    /// Drops the `count` oldest: they were used.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.used = self.used.wrapping_add(count);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.chains.clear();
        self.many.clear();
        self.segments.clear();
        self.used = 0;
        self.open = (0, 0);
    }

    /// Descriptors walked since these chains were made, of chains with more than one: what the
    /// driver made the device do, whether or not it came to anything.
    pub const fn walked(&self) -> u64 {
        self.walked.0
    }

    /// Makes room at the front, before chains are taken behind those that are left.
    pub(super) fn compact(&mut self) {
        self.walked.1 = self.walked.0;
        if self.used == 0 {
            return;
        }
        if self.is_empty() {
            return self.clear();
        }
        self.chains.drain(..self.used);
        // Those that are left have the last of the others.
        let left = self.chains.iter().filter(|chain| chain.more != 0).count();
        let gone = self.many.len().saturating_sub(left);
        let shift = self.many.get(gone).map_or(self.segments.len(), |many| many.start);
        self.many.drain(..gone);
        self.segments.drain(..shift);
        for many in &mut self.many {
            many.start = many.start.wrapping_sub(shift);
        }
        for chain in self.chains.iter_mut().filter(|chain| chain.more != 0) {
            // They count from 1, so what is left of them does too.
            chain.more = chain.more.wrapping_sub(u32::try_from(gone).unwrap_or(u32::MAX));
        }
        self.used = 0;
        self.open = (self.segments.len(), 0);
    }

    pub(super) const fn is_full(&self) -> bool {
        self.chains.len() >= ENOUGH_SEGMENTS
            || self.segments.len() >= ENOUGH_SEGMENTS
            || self.walked.0.wrapping_sub(self.walked.1) >= ENOUGH_WALKED
    }

    /// Whether a descriptor may come next that is not of the kind frames have on this ring: only in
    /// a command, where none that is readable follows one that is writable.
    #[cold]
    pub(super) fn turn(&mut self, direction: Direction, writable: bool) -> Option<()> {
        let goes_back = self.answers && !writable && self.open_segments() > 0;
        self.answers = writable && direction == Direction::ReadThenWrite;
        (direction == Direction::ReadThenWrite && !goes_back).then_some(())
    }

    /// Counts a descriptor of a chain with more than one. It may be empty and leave no other trace.
    #[inline]
    pub(super) const fn walk(&mut self) {
        self.walked.0 = self.walked.0.wrapping_add(1);
    }

    /// Segments of the chain being taken.
    #[inline]
    pub(super) const fn open_segments(&self) -> usize {
        self.segments.len().wrapping_sub(self.open.0)
    }

    /// Appends a segment to the chain being taken.
    #[inline]
    pub(super) fn push(&mut self, segment: Segment) {
        if self.answers {
            return self.segments.push(segment);
        }
        // A chain is at most MAX_CHAIN descriptors of at most 2^32 - 1 bytes.
        self.open.1 = self.open.1.wrapping_add(segment.len() as u64);
        self.segments.push(segment);
    }

    /// Ends the chain being taken.
    #[inline]
    pub(super) fn close(&mut self, id: u16, slots: u16) {
        let (start, bytes) = self.open;
        let segments = self.segments.get(start..).unwrap_or_default();
        let count = segments.len();
        let first = segments.first().copied().unwrap_or_default();
        let more = if (count, slots, bytes) == (1, 1, first.len() as u64) {
            self.segments.truncate(start);
            0
        } else {
            self.many.push(Many { start, count, bytes });
            // Far fewer than 2^32 are held at once: see ENOUGH_SEGMENTS.
            u32::try_from(self.many.len()).unwrap_or(u32::MAX)
        };
        self.open = (self.segments.len(), 0);
        self.chains.push(Chain { first, id, slots, more });
    }

    /// Appends a chain of one segment, as nearly all are.
    #[inline]
    pub(super) fn push_only(&mut self, id: u16, only: Segment) {
        self.chains.push(Chain { first: only, id, slots: 1, more: 0 });
    }

    /// Forgets the chain being taken: it breaks a rule.
    pub(super) fn abandon(&mut self) {
        self.segments.truncate(self.open.0);
        self.open.1 = 0;
    }
}
