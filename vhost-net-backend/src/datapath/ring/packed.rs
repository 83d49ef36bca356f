//! Packed rings (virtio 1.2, 2.8).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

use super::chain::{Chain, Chains};
use super::{
    DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor, Direction, MAX_CHAIN, Ring, RingFault,
    RingLayout, RingUse, area, check_layout, crossed,
};
use crate::datapath::memory::Memory;
use crate::datapath::sys::Shared;

/// `flags` of a descriptor: made available, and used, in the lap with this value.
const DESC_AVAIL: u16 = 1 << 7;
const DESC_USED: u16 = 1 << 15;
/// The bit of an event offset, and of a ring base, that holds the wrap counter.
const WRAP: u16 = 1 << 15;
/// `flags` of an event suppression area (virtio 1.2, 2.8.14).
const EVENTS_ENABLE: u16 = 0;
const EVENTS_DISABLE: u16 = 1;
const EVENTS_DESC: u16 = 2;

/// The three areas, mapped.
#[derive(Debug)]
struct Areas {
    descriptors: Shared<[AtomicU64; 2]>,
    /// What the driver wants: offset and wrap counter, then flags.
    driver: Shared<AtomicU16>,
    /// The same of the device.
    device: Shared<AtomicU16>,
}

/// A place in the ring, and the lap it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    slot: u16,
    wrap: bool,
}

impl Position {
    /// As a ring base or an event offset has it.
    const fn bits(self) -> u16 {
        self.slot | if self.wrap { WRAP } else { 0 }
    }

    /// `slots` further on, at most once around, in a ring of `size`.
    const fn advance(self, slots: u16, size: u16) -> Self {
        // The slot is below the size, so there is something left.
        let left = size - self.slot;
        if slots >= left {
            Self { slot: slots - left, wrap: !self.wrap }
        } else {
            Self { slot: self.slot + slots, wrap: self.wrap }
        }
    }
}

/// The second word of the used descriptor that gives a chain back.
#[inline]
fn used_word(flags: u16, chain: &Chain, written: u32) -> u64 {
    u64::from(written) | u64::from(chain.id()) << 32 | u64::from(flags) << 48
}

/// A running packed ring.
#[derive(Debug)]
pub struct PackedRing {
    layout: RingLayout,
    usage: RingUse,
    areas: Areas,
    /// The next descriptor to take.
    next: Position,
    /// The next descriptor to mark as used. Chains are used in order, so what was taken and not
    /// used lies between this and `next`.
    used: Position,
    /// Descriptors between the two.
    outstanding: u16,
    /// Where the driver was last considered for a call.
    considered: Position,
    /// The descriptors used since the last publication, and what they shall hold. They are written
    /// all at once: a driver that waits for the first of them looks at the line that it shares with
    /// the next, and would take it away between one write and the next.
    held: Vec<(u16, u64)>,
    /// What the driver was told last about kicks: flags, and the offset.
    told: Option<(u16, u16)>,
    /// What is wrong with the chain at `next`; found while chains before it were taken.
    fault: Option<RingFault>,
}

impl PackedRing {
    /// Starts on a ring at `base`: bits 0 to 14 are the first descriptor that was not used, bit 15
    /// is its wrap counter. Unlike a split ring, it holds no index of its own.
    pub fn start(
        memory: &Memory,
        layout: RingLayout,
        usage: RingUse,
        base: u16,
    ) -> Result<Self, RingFault> {
        check_layout(&layout, 4)?;
        let start = Position { slot: base & !WRAP, wrap: base & WRAP != 0 };
        if start.slot >= layout.size {
            return Err(RingFault::Index(start.slot));
        }
        Ok(Self {
            layout,
            usage,
            areas: Areas::map(memory, &layout)?,
            next: start,
            used: start,
            outstanding: 0,
            considered: start,
            held: Vec::with_capacity(layout.size.into()),
            told: None,
            fault: None,
        })
    }

    /// Finds the ring's areas in `memory`, when that has changed.
    pub fn attach(&mut self, memory: &Memory) -> Result<(), RingFault> {
        self.areas = Areas::map(memory, &self.layout)?;
        Ok(())
    }

    /// Changes what the driver may use, after a new feature negotiation.
    pub const fn set_usage(&mut self, usage: RingUse) {
        self.usage = usage;
        self.told = None;
    }

    /// Where it lies.
    pub const fn layout(&self) -> RingLayout {
        self.layout
    }

    /// The first descriptor that has not been used, with its wrap counter in bit 15.
    pub const fn base(&self) -> u16 {
        self.used.bits()
    }

    /// The descriptor at `position`, if the driver has made it available.
    #[inline]
    fn available(&self, position: Position) -> Result<Option<Descriptor>, RingFault> {
        let [address, rest] = self.areas.descriptor(position.slot)?;
        let descriptor = Descriptor::new(0, rest.load(Acquire), true);
        let is_available = (descriptor.flags & DESC_AVAIL != 0) == position.wrap
            && (descriptor.flags & DESC_USED != 0) != position.wrap;
        let address = u64::from_le(address.load(Relaxed));
        Ok(is_available.then_some(Descriptor { address, ..descriptor }))
    }

    /// Brings the next `limit` descriptors closer, all at once: another CPU wrote them, and they
    /// will be written to.
    #[inline]
    fn fetch_ahead(&self, limit: usize) {
        let first = usize::from(self.next.slot);
        let last = (first + limit).min(self.layout.size.into());
        for slot in (first..last).step_by(4) {
            self.areas.descriptors.prefetch(slot, true);
        }
    }

    /// Takes chains as long as they are what nearly all are: one descriptor, in the region that the
    /// last one was in. Returns how many; what to do with the next is for [`Self::take_next`].
    #[inline]
    fn take_simple(&mut self, memory: &Memory, chains: &mut Chains, limit: usize) -> usize {
        let Some(area) = memory.recent() else {
            return 0;
        };
        let Some(write) = self.usage.direction.flag() else {
            return 0;
        };
        let wanted = write | if self.next.wrap { DESC_AVAIL } else { DESC_USED };
        let mask = DESC_AVAIL | DESC_USED | DESC_NEXT | DESC_INDIRECT | DESC_WRITE;
        let most = limit.min(usize::from(self.layout.size.saturating_sub(self.outstanding)));
        let slots = self.areas.descriptors.as_slice();
        let slots = slots.get(usize::from(self.next.slot)..).unwrap_or_default();
        let mut count: u16 = 0;
        for [address, rest] in slots.iter().take(most) {
            let descriptor = Descriptor::new(0, rest.load(Acquire), true);
            if descriptor.flags & mask != wanted {
                break;
            }
            let address = u64::from_le(address.load(Relaxed));
            let Some(segment) = area.segment(address, descriptor.len) else {
                break;
            };
            chains.push_only(descriptor.last, segment);
            count = count.wrapping_add(1);
        }
        self.outstanding = self.outstanding.wrapping_add(count);
        self.next = self.next.advance(count, self.layout.size);
        usize::from(count)
    }

    fn take_next(&mut self, memory: &Memory, chains: &mut Chains) -> Result<bool, RingFault> {
        let Some(first) = self.available(self.next)? else {
            return Ok(false);
        };
        let (id, slots) = if first.flags & (DESC_NEXT | DESC_INDIRECT) == 0 {
            first.push(memory, chains, self.usage.direction, first.last)?;
            (first.last, 1)
        } else {
            self.walk(memory, chains, first)?
        };
        // A driver that lies about its laps could have the device take more than there is.
        if slots > self.layout.size - self.outstanding {
            return Err(RingFault::Overfull(self.layout.size));
        }
        self.outstanding += slots;
        self.next = self.next.advance(slots, self.layout.size);
        chains.close(id, slots);
        Ok(true)
    }

    /// Follows a chain of more than one descriptor from its first. Returns its id and length.
    fn walk(
        &self,
        memory: &Memory,
        chains: &mut Chains,
        first: Descriptor,
    ) -> Result<(u16, u16), RingFault> {
        let mut descriptor = first;
        let mut position = self.next;
        for slots in 1..=self.layout.size.min(MAX_CHAIN) {
            let id = descriptor.last;
            if descriptor.flags & DESC_INDIRECT != 0 {
                // Alone in its chain (virtio 1.2, 2.8.8 and 2.8.19).
                if !self.usage.indirect || slots > 1 || descriptor.flags & DESC_NEXT != 0 {
                    return Err(RingFault::Indirect(id));
                }
                self.table(memory, chains, descriptor)?;
                return Ok((id, slots));
            }
            descriptor.push_one_of(memory, chains, self.usage.direction, id)?;
            if descriptor.flags & DESC_NEXT == 0 {
                // The id of a chain is that of its last descriptor.
                return Ok((id, slots));
            }
            position = position.advance(1, self.layout.size);
            // The driver makes the first one available last, so all of them are.
            descriptor = self.available(position)?.ok_or(RingFault::Index(position.slot))?;
        }
        Err(RingFault::Loop(first.last))
    }

    /// Takes what the descriptors of an indirect table name: all of them, in order. Of their flags
    /// only the direction means anything.
    fn table(
        &self,
        memory: &Memory,
        chains: &mut Chains,
        descriptor: Descriptor,
    ) -> Result<(), RingFault> {
        let id = descriptor.last;
        for index in 0..descriptor.table_entries(memory, self.layout.size, id)? {
            let entry = Descriptor::of_table(memory, descriptor.address, index, true)?;
            if entry.flags & DESC_INDIRECT != 0 {
                return Err(RingFault::Indirect(id));
            }
            entry.push_one_of(memory, chains, self.usage.direction, id)?;
        }
        Ok(())
    }

    /// Writes what a used descriptor holds. A page is marked in the dirty log after it was written,
    /// never before.
    #[inline]
    fn store_used(
        &self,
        memory: &Memory,
        slot: u16,
        rest: u64,
        order: Ordering,
    ) -> Result<(), RingFault> {
        let [_, word] = self.areas.descriptor(slot)?;
        word.store(rest.to_le(), order);
        memory.mark(self.address(slot), 16);
        Ok(())
    }

    /// The guest address of a descriptor; the ring is mapped, so there is one.
    const fn address(&self, slot: u16) -> u64 {
        self.layout.descriptors.wrapping_add(16 * slot as u64)
    }

    /// The flags of a descriptor that is used now.
    const fn used_flags(&self) -> u16 {
        let written = match self.usage.direction {
            Direction::Read => 0,
            Direction::Write | Direction::ReadThenWrite => DESC_WRITE,
        };
        written | if self.used.wrap { DESC_AVAIL | DESC_USED } else { 0 }
    }

    fn wants_call(&mut self) -> Result<bool, RingFault> {
        let size = self.layout.size;
        let old = std::mem::replace(&mut self.considered, self.used);
        // What was used must be visible before the driver's wish is read.
        fence(SeqCst);
        let flags = u16::from_le(self.areas.driver(1)?.load(Acquire));
        if flags != EVENTS_DESC || !self.usage.event_idx {
            return Ok(flags != EVENTS_DISABLE);
        }
        let event = u16::from_le(self.areas.driver(0)?.load(Relaxed));
        // On one scale: what is in an earlier lap than the used position lies below it.
        let lap = |slot: u16, wrap: bool| {
            if wrap == self.used.wrap { slot } else { slot.wrapping_sub(size) }
        };
        let event = lap(event & !WRAP, event & WRAP != 0);
        let old =
            if old == self.used { old.slot.wrapping_sub(size) } else { lap(old.slot, old.wrap) };
        Ok(crossed(event, self.used.slot, old))
    }

    fn tell(&mut self, memory: &Memory, flags: u16, offset: u16) -> Result<(), RingFault> {
        if self.told == Some((flags, offset)) {
            return Ok(());
        }
        self.told = Some((flags, offset));
        self.areas.device(0)?.store(offset.to_le(), Relaxed);
        self.areas.device(1)?.store(flags.to_le(), Release);
        memory.mark(self.layout.used, 4);
        Ok(())
    }
}

impl Ring for PackedRing {
    #[inline]
    fn take(
        &mut self,
        memory: &Memory,
        chains: &mut Chains,
        limit: usize,
    ) -> Result<(), RingFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        chains.compact();
        if self.available(self.next)?.is_none() {
            return Ok(());
        }
        self.fetch_ahead(limit);
        let mut taken = 0;
        while taken < limit && !chains.is_full() {
            let simple = self.take_simple(memory, chains, limit - taken);
            taken += simple;
            if simple > 0 {
                continue;
            }
            match self.take_next(memory, chains) {
                Ok(true) => taken += 1,
                Ok(false) => break,
                Err(fault) => {
                    chains.abandon();
                    if taken == 0 {
                        return Err(fault);
                    }
                    self.fault = Some(fault);
                    break;
                }
            }
        }
        Ok(())
    }

    fn rewind(&mut self) {
        self.next = self.used;
        self.outstanding = 0;
        self.fault = None;
    }

    #[inline]
    fn push_used(
        &mut self,
        _memory: &Memory,
        chain: &Chain,
        written: u32,
    ) -> Result<(), RingFault> {
        self.held.push((self.used.slot, used_word(self.used_flags(), chain, written)));
        self.used = self.used.advance(chain.slots(), self.layout.size);
        self.outstanding = self.outstanding.saturating_sub(chain.slots());
        Ok(())
    }

    #[inline]
    fn push_all_used(
        &mut self,
        memory: &Memory,
        chains: &[Chain],
        mut written: impl Iterator<Item = u32>,
    ) -> Result<(), RingFault> {
        let mut left = chains;
        // Without it, the driver sees none of the others.
        if self.held.is_empty()
            && let Some((first, behind)) = left.split_first()
        {
            self.push_used(memory, first, written.next().unwrap_or(0))?;
            left = behind;
        }
        while !left.is_empty() {
            // Up to the ring's end, and from its beginning.
            let Position { slot, .. } = self.used;
            let flags = self.used_flags();
            let slots = self.areas.descriptors.as_slice().get(usize::from(slot)..);
            let slots = slots.unwrap_or_default();
            let (now, later) = left.split_at_checked(slots.len()).unwrap_or((left, &[]));
            for (([_, word], chain), written) in slots.iter().zip(now).zip(&mut written) {
                word.store(used_word(flags, chain, written).to_le(), Relaxed);
            }
            memory.mark(self.address(slot), 16 * now.len() as u64);
            // No more than the ring has, whose size is 16 bits.
            let count = u16::try_from(now.len()).unwrap_or(0);
            self.used = self.used.advance(count, self.layout.size);
            self.outstanding = self.outstanding.saturating_sub(count);
            left = later;
        }
        Ok(())
    }

    fn publish(&mut self, memory: &Memory) -> Result<bool, RingFault> {
        let Some(((slot, rest), behind)) = self.held.split_first() else {
            return Ok(false);
        };
        // Until the first is written, the driver sees none of those behind it.
        for (slot, rest) in behind {
            self.store_used(memory, *slot, *rest, Relaxed)?;
        }
        self.store_used(memory, *slot, *rest, Release)?;
        self.held.clear();
        self.wants_call()
    }

    fn enable_kicks(&mut self, memory: &Memory) -> Result<bool, RingFault> {
        if self.usage.event_idx {
            self.tell(memory, EVENTS_DESC, self.next.bits())?;
        } else {
            self.tell(memory, EVENTS_ENABLE, 0)?;
        }
        fence(SeqCst);
        Ok(self.available(self.next)?.is_some())
    }

    fn disable_kicks(&mut self, memory: &Memory) -> Result<(), RingFault> {
        self.tell(memory, EVENTS_DISABLE, 0)
    }
}

impl Areas {
    fn map(memory: &Memory, layout: &RingLayout) -> Result<Self, RingFault> {
        let RingLayout { size, descriptors, available, used } = *layout;
        Ok(Self {
            descriptors: area(memory, descriptors, usize::from(size))?,
            driver: area(memory, available, 2)?,
            device: area(memory, used, 2)?,
        })
    }

    /// The address word of a descriptor, and the word with length, id and flags.
    #[inline]
    fn descriptor(&self, slot: u16) -> Result<&[AtomicU64; 2], RingFault> {
        self.descriptors.get(usize::from(slot)).ok_or(RingFault::Index(slot))
    }

    // The event areas are mapped in whole, so these always find what they are asked for.
    fn driver(&self, word: usize) -> Result<&AtomicU16, RingFault> {
        self.driver.get(word).ok_or(RingFault::Index(0))
    }

    fn device(&self, word: usize) -> Result<&AtomicU16, RingFault> {
        self.device.get(word).ok_or(RingFault::Index(0))
    }
}
