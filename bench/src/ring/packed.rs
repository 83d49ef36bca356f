//! Packed virtqueues (virtio 1.3, 2.8).

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use super::{
    Buffer, Chain, DESCRIPTOR_LEN, DeviceFault, INDIRECT, NEXT, RingFeatures, RingLayout,
    TABLE_SIZE, Used, WRITE, passes, write_table,
};
use crate::memory::GuestMemory;

/// Equals the driver's wrap counter when a descriptor is available.
const AVAIL: u16 = 1 << 7;
/// Differs from it then, and equals the device's when it is used.
const USED: u16 = 1 << 15;

/// Event suppression (2.8.14): notify always, never, or when a descriptor is reached.
const EVENT_ENABLE: u16 = 0;
const EVENT_DISABLE: u16 = 1;
const EVENT_DESCRIPTOR: u16 = 2;

/// A place in the ring, with its wrap counter.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    const START: Self = Self { index: 0, wrap: true };

    #[inline]
    const fn advance(&mut self, slots: u16, size: u16) {
        self.index += slots;
        if self.index >= size {
            self.index -= size;
            self.wrap = !self.wrap;
        }
    }

    /// As event suppression has it: the index, and the wrap counter in bit 15.
    const fn event(self) -> u16 {
        self.index | (self.wrap as u16) << 15
    }
}

/// The driver's side of a packed ring.
#[derive(Debug)]
pub struct PackedRing {
    memory: Arc<GuestMemory>,
    layout: RingLayout,
    features: RingFeatures,
    write: u16,
    /// All bits if the device writes into buffers.
    writable: u32,
    /// Where the next descriptor goes, and where the next used one will be.
    add: Place,
    used: Place,
    free: u16,
    /// Chains by buffer id.
    chains: Box<[Chain]>,
    /// Free buffer ids are a list through here; ids in the device's hands are one too, in order.
    next: Box<[u16]>,
    free_id: u16,
    first_id: u16,
    last_id: u16,
    outstanding: u16,
    /// The first descriptor since the last publication: its address and flags, which are written last of all.
    first: Option<(u64, u16)>,
    /// Descriptors since the last publication.
    fresh: u16,
    /// The used descriptor for many chains that is being taken (IN_ORDER).
    batch: Option<Used>,
}

impl PackedRing {
    /// See [`super::Ring::new`].
    pub fn new(
        memory: Arc<GuestMemory>,
        layout: RingLayout,
        features: RingFeatures,
        writable: bool,
    ) -> Self {
        let size = layout.size;
        assert!((1..=32768).contains(&size), "packed ring of {size}");
        let mut ring = Self {
            write: if writable { WRITE } else { 0 },
            writable: if writable { u32::MAX } else { 0 },
            add: Place::START,
            used: Place::START,
            free: size,
            chains: vec![Chain::default(); usize::from(size)].into(),
            next: (1..=size).map(|next| next % size).collect(),
            free_id: 0,
            first_id: 0,
            last_id: 0,
            outstanding: 0,
            first: None,
            fresh: 0,
            batch: None,
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
        let capacity = buffers.iter().map(|buffer| buffer.len & self.writable).sum();
        let indirect = self.features.indirect && buffers.len() > 1 && buffers.len() <= TABLE_SIZE;
        let slots = if indirect { Ok(1) } else { u16::try_from(buffers.len()) };
        let Ok(slots @ 1..) = slots else { return false };
        // As many ids as descriptors: with room for the one there is room for the other.
        if slots > self.free {
            return false;
        }
        let id = self.free_id;
        self.free_id = self.next[usize::from(id)];
        if indirect {
            let table = self.layout.table(id);
            let table = write_table(&self.memory, table, buffers, self.write, false);
            self.describe(table, id, INDIRECT);
        } else {
            for (index, buffer) in buffers.iter().enumerate() {
                let more = if index + 1 < buffers.len() { NEXT } else { 0 };
                self.describe(*buffer, id, self.write | more);
            }
        }
        self.free -= slots;
        self.chains[usize::from(id)] = Chain { token, slots, capacity };
        if self.features.in_order {
            if self.outstanding == 0 {
                self.first_id = id;
            } else {
                self.next[usize::from(self.last_id)] = id;
            }
            self.last_id = id;
        }
        self.outstanding += 1;
        true
    }

    /// Writes the next descriptor. The device sees none of a batch before the flags of its first one.
    #[inline]
    fn describe(&mut self, buffer: Buffer, id: u16, flags: u16) {
        let at = self.layout.descriptors + u64::from(self.add.index) * DESCRIPTOR_LEN;
        let flags = flags | if self.add.wrap { AVAIL } else { USED };
        let mapping = &self.memory.mapping;
        mapping.store_u64(at, buffer.address, Relaxed);
        if self.first.is_none() {
            mapping.store_u32(at + 8, buffer.len, Relaxed);
            mapping.store_u16(at + 12, id, Relaxed);
            self.first = Some((at + 14, flags));
        } else {
            let word = u64::from(buffer.len) | u64::from(id) << 32 | u64::from(flags) << 48;
            mapping.store_u64(at + 8, word, Relaxed);
        }
        self.add.advance(1, self.layout.size);
        self.fresh += 1;
    }

    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        let Some((at, flags)) = self.first.take() else { return false };
        let mapping = &self.memory.mapping;
        mapping.store_u16(at, flags, Release);
        let fresh = std::mem::take(&mut self.fresh);
        // The device's wish must be read after the descriptors were written (2.8.21.3.1).
        fence(SeqCst);
        let suppression = mapping.load_u32(self.layout.device, Relaxed);
        #[expect(clippy::cast_possible_truncation, reason = "two fields of 16 bits each")]
        let (event, wish) = (suppression as u16, (suppression >> 16) as u16 & 3);
        match wish {
            EVENT_DISABLE => false,
            EVENT_DESCRIPTOR => {
                let new = self.add.index;
                let mut index = event & 0x7fff;
                if (event >> 15 != 0) != self.add.wrap {
                    index = index.wrapping_sub(self.layout.size);
                }
                passes(index, new, new.wrapping_sub(fresh))
            }
            _ => true,
        }
    }

    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<Used>, DeviceFault> {
        let (id, len) = match self.batch {
            Some(batch) => (batch.token, batch.len),
            None => {
                let mapping = &self.memory.mapping;
                let at = self.layout.descriptors + u64::from(self.used.index) * DESCRIPTOR_LEN;
                let flags = mapping.load_u16(at + 14, Acquire);
                if (flags & AVAIL != 0) != self.used.wrap || (flags & USED != 0) != self.used.wrap {
                    return Ok(None);
                }
                let id = mapping.load_u16(at + 12, Relaxed);
                match self.chains.get(usize::from(id)) {
                    Some(chain) if chain.slots != 0 => {}
                    _ => return Err(DeviceFault::UnknownChain(id.into())),
                }
                (id, mapping.load_u32(at + 8, Relaxed))
            }
        };
        // In order, one used descriptor names the last chain of a batch; the others are used whole (2.8.9).
        let chain_id = if self.features.in_order { self.first_id } else { id };
        self.batch = (chain_id != id).then_some(Used { token: id, len });
        self.outstanding -= 1;
        self.first_id = self.next[usize::from(chain_id)];
        let chain = &mut self.chains[usize::from(chain_id)];
        let slots = std::mem::take(&mut chain.slots);
        let len = if chain_id == id { len } else { chain.capacity };
        let used = Used { token: chain.token, len };
        self.next[usize::from(chain_id)] = self.free_id;
        self.free_id = chain_id;
        self.free += slots;
        self.used.advance(slots, self.layout.size);
        Ok(Some(used))
    }

    pub(super) fn enable_calls(&mut self) -> bool {
        let event = match self.features.event_idx {
            true => u32::from(self.used.event()) | u32::from(EVENT_DESCRIPTOR) << 16,
            false => u32::from(EVENT_ENABLE) << 16,
        };
        let mapping = &self.memory.mapping;
        mapping.store_u32(self.layout.driver, event, Relaxed);
        // What the device did before it could see this must not be missed.
        fence(SeqCst);
        let at = self.layout.descriptors + u64::from(self.used.index) * DESCRIPTOR_LEN;
        let flags = mapping.load_u16(at + 14, Acquire);
        (flags & AVAIL != 0) == self.used.wrap && (flags & USED != 0) == self.used.wrap
    }

    pub(super) fn disable_calls(&mut self) {
        let event = u32::from(EVENT_DISABLE) << 16;
        self.memory.mapping.store_u32(self.layout.driver, event, Relaxed);
    }
}
