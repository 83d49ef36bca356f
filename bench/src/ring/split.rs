//! Split virtqueues (virtio 1.3, 2.7).

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::{
    Buffer, Chain, DESCRIPTOR_LEN, DeviceFault, INDIRECT, NEXT, RingFeatures, RingLayout,
    TABLE_SIZE, Used, WRITE, passes, write_table,
};
use crate::memory::GuestMemory;

/// Set by the driver in the available ring: no calls, please.
const NO_INTERRUPT: u16 = 1;
/// Set by the device in the used ring: no kicks, please.
const NO_NOTIFY: u16 = 1;
/// How far ahead a call is asked for when none is wanted: as far as an index can be.
const FAR: u16 = 0x8000;

/// The driver's side of a split ring.
#[derive(Debug)]
pub struct SplitRing {
    memory: Arc<GuestMemory>,
    layout: RingLayout,
    features: RingFeatures,
    write: u16,
    /// All bits if the device writes into buffers.
    writable: u32,
    mask: u16,
    /// Free descriptors are a list through here, first used first, so that a device that works in order gets them in
    /// the order of the table (2.7.9).
    next: Box<[u16]>,
    free_head: u16,
    free_tail: u16,
    free: u16,
    /// Chains by their head.
    chains: Box<[Chain]>,
    /// Last descriptor of each chain, by its head.
    tails: Box<[u16]>,
    /// Heads by their place in the available ring.
    heads: Box<[u16]>,
    /// Index after what was added, and after what was published.
    added: u16,
    published: u16,
    /// Index of the used ring up to which was taken, and up to which the device is known to be.
    taken: u16,
    seen: u16,
    /// The used entry for many chains that is being taken (IN_ORDER).
    batch: Option<Used>,
    calls: bool,
}

impl SplitRing {
    /// See [`super::Ring::new`].
    pub fn new(
        memory: Arc<GuestMemory>,
        layout: RingLayout,
        features: RingFeatures,
        writable: bool,
    ) -> Self {
        let size = layout.size;
        assert!(size.is_power_of_two() && size <= 32768, "split ring of {size}");
        let private = vec![0; usize::from(size)].into_boxed_slice();
        let mut ring = Self {
            write: if writable { WRITE } else { 0 },
            writable: if writable { u32::MAX } else { 0 },
            mask: size - 1,
            next: (1..=size).map(|next| next % size).collect(),
            free_head: 0,
            free_tail: size - 1,
            free: size,
            chains: vec![Chain::default(); usize::from(size)].into(),
            tails: private.clone(),
            heads: private,
            added: 0,
            published: 0,
            taken: 0,
            seen: 0,
            batch: None,
            calls: false,
            memory,
            layout,
            features,
        };
        ring.disable_calls();
        ring
    }

    pub(super) const fn layout(&self) -> &RingLayout {
        &self.layout
    }

    #[inline]
    pub(super) fn add(&mut self, buffers: &[Buffer], token: u16) -> bool {
        let &[buffer] = buffers else { return self.add_several(buffers, token) };
        if self.free == 0 {
            return false;
        }
        let head = self.free_head;
        self.describe(head, buffer, self.write, 0);
        self.offer(head, head, Chain { token, slots: 1, capacity: buffer.len & self.writable });
        true
    }

    fn add_several(&mut self, buffers: &[Buffer], token: u16) -> bool {
        let indirect = self.features.indirect && buffers.len() <= TABLE_SIZE;
        let Ok(slots @ 1..) = (if indirect { Ok(1) } else { u16::try_from(buffers.len()) }) else {
            return false;
        };
        if slots > self.free || buffers.is_empty() {
            return false;
        }
        let head = self.free_head;
        let mut tail = head;
        if indirect {
            let table = self.layout.table(head);
            let table = write_table(&self.memory, table, buffers, self.write, true);
            self.describe(head, table, INDIRECT, 0);
        } else {
            for (index, buffer) in buffers.iter().enumerate() {
                let next = self.next[usize::from(tail)];
                if index + 1 == buffers.len() {
                    self.describe(tail, *buffer, self.write, 0);
                } else {
                    self.describe(tail, *buffer, self.write | NEXT, next);
                    tail = next;
                }
            }
        }
        let capacity = buffers.iter().map(|buffer| buffer.len & self.writable).sum();
        self.offer(head, tail, Chain { token, slots, capacity });
        true
    }

    /// Takes the descriptors of a chain from the free ones, and puts its head into the available ring.
    #[inline]
    fn offer(&mut self, head: u16, tail: u16, chain: Chain) {
        self.free_head = self.next[usize::from(tail)];
        self.free -= chain.slots;
        self.chains[usize::from(head)] = chain;
        self.tails[usize::from(head)] = tail;
        let place = self.added & self.mask;
        self.heads[usize::from(place)] = head;
        self.memory.mapping.store_u16(self.layout.driver + 4 + 2 * u64::from(place), head, Relaxed);
        self.added = self.added.wrapping_add(1);
    }

    #[inline]
    fn describe(&self, index: u16, buffer: Buffer, flags: u16, next: u16) {
        let at = self.layout.descriptors + u64::from(index) * DESCRIPTOR_LEN;
        let word = u64::from(buffer.len) | u64::from(flags) << 32 | u64::from(next) << 48;
        self.memory.mapping.store_u64(at, buffer.address, Relaxed);
        self.memory.mapping.store_u64(at + 8, word, Relaxed);
    }

    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        let (old, new) = (self.published, self.added);
        if old == new {
            return false;
        }
        let mapping = &self.memory.mapping;
        mapping.store_u16(self.layout.driver + 2, new, Release);
        self.published = new;
        if self.features.event_idx && !self.calls {
            mapping.store_u16(self.used_event(), self.taken.wrapping_add(FAR), Relaxed);
        }
        // The device's wish must be read after the index was written (2.7.21).
        fence(SeqCst);
        if self.features.event_idx {
            let event = self.layout.device + 4 + 8 * u64::from(self.layout.size);
            passes(mapping.load_u16(event, Relaxed), new, old)
        } else {
            mapping.load_u16(self.layout.device, Relaxed) & NO_NOTIFY == 0
        }
    }

    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<Used>, DeviceFault> {
        if self.taken == self.seen {
            self.seen = self.memory.mapping.load_u16(self.layout.device + 2, Acquire);
            if self.taken == self.seen {
                return Ok(None);
            }
            let used = self.seen.wrapping_sub(self.taken);
            let available = self.published.wrapping_sub(self.taken);
            if used > available {
                return Err(DeviceFault::TooMany { used, available });
            }
        }
        let (head, len) =
            if self.features.in_order { self.next_in_order()? } else { self.used_entry()? };
        let chain = &mut self.chains[usize::from(head)];
        let slots = std::mem::take(&mut chain.slots);
        if slots == 0 {
            return Err(DeviceFault::UnknownChain(head.into()));
        }
        let used = Used { token: chain.token, len: len.unwrap_or(chain.capacity) };
        if self.free == 0 {
            self.free_head = head;
        } else {
            self.next[usize::from(self.free_tail)] = head;
        }
        self.free_tail = self.tails[usize::from(head)];
        self.free += slots;
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(used))
    }

    /// The entry of the used ring that is next: a chain's head and the bytes written.
    #[inline]
    fn used_entry(&self) -> Result<(u16, Option<u32>), DeviceFault> {
        let at = self.layout.device + 4 + 8 * u64::from(self.taken & self.mask);
        let id = self.memory.mapping.load_u32(at, Relaxed);
        let len = self.memory.mapping.load_u32(at + 4, Relaxed);
        match u16::try_from(id) {
            Ok(head) if head <= self.mask => Ok((head, Some(len))),
            _ => Err(DeviceFault::UnknownChain(id)),
        }
    }

    /// The chain that is next when all are used in order: one used entry, at the place of the first chain of a batch,
    /// names the last one; the others are used whole (2.7.9).
    fn next_in_order(&mut self) -> Result<(u16, Option<u32>), DeviceFault> {
        let batch = match self.batch {
            Some(batch) => batch,
            None => {
                let (last, len) = self.used_entry()?;
                let used = self.seen.wrapping_sub(self.taken);
                let in_batch = |offset| self.head_after(offset) == last;
                if !(0..used).any(in_batch) {
                    return Err(DeviceFault::UnknownChain(last.into()));
                }
                Used { token: last, len: len.unwrap_or(0) }
            }
        };
        let head = self.head_after(0);
        let is_last = head == batch.token;
        self.batch = if is_last { None } else { Some(batch) };
        Ok((head, is_last.then_some(batch.len)))
    }

    /// The head of the chain that was made available `offset` after the one that is next.
    fn head_after(&self, offset: u16) -> u16 {
        self.heads[usize::from(self.taken.wrapping_add(offset) & self.mask)]
    }

    pub(super) fn enable_calls(&mut self) -> bool {
        self.calls = true;
        let mapping = &self.memory.mapping;
        if self.features.event_idx {
            mapping.store_u16(self.used_event(), self.taken, Relaxed);
        } else {
            mapping.store_u16(self.layout.driver, 0, Relaxed);
        }
        // What the device did before it could see this must not be missed.
        fence(SeqCst);
        mapping.load_u16(self.layout.device + 2, Acquire) != self.taken
    }

    pub(super) fn disable_calls(&mut self) {
        self.calls = false;
        let mapping = &self.memory.mapping;
        if self.features.event_idx {
            mapping.store_u16(self.used_event(), self.taken.wrapping_add(FAR), Relaxed);
        } else {
            mapping.store_u16(self.layout.driver, NO_INTERRUPT, Relaxed);
        }
    }

    const fn used_event(&self) -> u64 {
        self.layout.driver + 4 + 2 * self.layout.size as u64
    }
}
