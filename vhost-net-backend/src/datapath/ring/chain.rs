//! Descriptor chains that were taken from a ring and checked.

use std::ops::Range;

use crate::datapath::memory::{Memory, Segment};

/// One descriptor chain, checked as a whole.
#[derive(Clone, Debug)]
pub struct Chain {
    id: u16,
    slots: u16,
    bytes: u64,
    segments: Range<usize>,
}

impl Chain {
    /// What identifies the chain to the driver: the index of its first descriptor (split) or its
    /// buffer id (packed).
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Descriptors it takes of the ring itself.
    pub const fn slots(&self) -> u16 {
        self.slots
    }

    /// Bytes of all segments together.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Chains taken and not yet used, oldest first. It allocates only while it grows to what a batch of
/// chains takes.
#[derive(Debug, Default)]
pub struct Chains {
    chains: Vec<Chain>,
    segments: Vec<Segment>,
    /// Chains at the front that were used.
    used: usize,
    /// Segments and bytes of the chain being taken.
    open: (usize, u64),
}

/// Chains are taken until so many segments are held; then the next one is the last.
const ENOUGH_SEGMENTS: usize = 1024;

impl Chains {
    /// Room for the chains of a ring of `size` entries.
    pub fn with_capacity(size: u16) -> Self {
        let size = usize::from(size);
        Self {
            chains: Vec::with_capacity(size.min(256)),
            segments: Vec::with_capacity(ENOUGH_SEGMENTS + size),
            ..Self::default()
        }
    }

    /// The chain `index` places behind the oldest.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Chain> {
        self.chains.get(self.used + index)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chains.len() - self.used
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments of a chain, in order.
    #[inline]
    pub fn segments(&self, chain: &Chain) -> &[Segment] {
        self.segments.get(chain.segments.clone()).unwrap_or_default()
    }

    /// Drops the `count` oldest: they were used.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.used += count;
        if self.used >= self.chains.len() {
            self.clear();
        }
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.chains.clear();
        self.segments.clear();
        self.used = 0;
        self.open = (0, 0);
    }

    /// Makes room at the front, before chains are taken behind those that are left.
    pub(super) fn compact(&mut self) {
        if self.used == 0 {
            return;
        }
        let first = self.get(0).map_or(self.segments.len(), |chain| chain.segments.start);
        self.chains.drain(..self.used);
        self.segments.drain(..first);
        for chain in &mut self.chains {
            chain.segments = chain.segments.start - first..chain.segments.end - first;
        }
        self.used = 0;
        self.open = (self.segments.len(), 0);
    }

    pub(super) const fn is_full(&self) -> bool {
        self.segments.len() >= ENOUGH_SEGMENTS
    }

    /// Appends a segment to the chain being taken.
    #[inline]
    pub(super) fn push(&mut self, memory: &Memory, segment: Segment) {
        memory.prefetch(&segment);
        self.open.1 += segment.len() as u64;
        self.segments.push(segment);
    }

    /// Ends the chain being taken.
    #[inline]
    pub(super) fn close(&mut self, id: u16, slots: u16) {
        let (start, bytes) = self.open;
        let segments = start..self.segments.len();
        self.open = (self.segments.len(), 0);
        self.chains.push(Chain { id, slots, bytes, segments });
    }

    /// Forgets the chain being taken: it breaks a rule.
    pub(super) fn abandon(&mut self) {
        self.segments.truncate(self.open.0);
        self.open.1 = 0;
    }
}
