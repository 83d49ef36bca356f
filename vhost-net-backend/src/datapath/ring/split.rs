//! Split rings (virtio 1.2, 2.7).

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};

use super::chain::{Chain, Chains};
use super::{
    DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor, MAX_CHAIN, Ring, RingFault, RingLayout,
    RingUse, area, check_layout, crossed,
};
use crate::datapath::memory::Memory;
use crate::datapath::sys::Shared;

/// `flags` of the available ring: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;
/// `flags` of the used ring: the device wants no kicks.
const USED_NO_NOTIFY: u16 = 1;
/// Index of `idx` and of the entries in both rings, counted in 16-bit words.
const IDX: usize = 1;
const ENTRIES: usize = 2;
/// An event index that was passed so many chains ago is set anew, long before it comes round.
const STALE: u16 = 0x4000;

/// The three areas, mapped.
#[derive(Debug)]
struct Areas {
    descriptors: Shared<[AtomicU64; 2]>,
    available: Shared<AtomicU16>,
    used: Shared<AtomicU16>,
    /// The entries of the used ring.
    used_entries: Shared<[AtomicU32; 2]>,
}

/// A running split ring.
#[derive(Debug)]
pub struct SplitRing {
    layout: RingLayout,
    mask: u16,
    usage: RingUse,
    areas: Areas,
    /// Next entry of the available ring to take.
    next_avail: u16,
    /// `avail.idx` as last read; `next_avail` never passes it.
    avail_idx: u16,
    /// Next entry of the used ring to write. Chains are used in order, so a chain taken and not
    /// yet used is one between `next_used` and `next_avail`.
    next_used: u16,
    /// `used.idx` as last published.
    published: u16,
    /// `used.idx` when the driver was last considered for a call.
    considered: u16,
    /// What the driver was told last about kicks: `avail_event`, or the flag with 1 for "none";
    /// `None` before it was told anything.
    told: Option<u16>,
    /// Per head, the epoch in which it was last taken. The epoch advances at each publication:
    /// only then may the driver offer a head again.
    taken: Vec<u32>,
    epoch: u32,
    /// What is wrong with the chain at `next_avail`; found while chains before it were taken.
    fault: Option<RingFault>,
}

impl SplitRing {
    /// Starts on a ring at the guest's used index: every chain is completed in order, so what is
    /// not used has not been carried. The frontend's idea of the index is not needed, and wrong
    /// after a reconnect of cloud-hypervisor.
    pub fn start(memory: &Memory, layout: RingLayout, usage: RingUse) -> Result<Self, RingFault> {
        check_layout(&layout, 2)?;
        let areas = Areas::map(memory, &layout)?;
        let resume = areas.used(IDX)?.load(Relaxed);
        let resume = u16::from_le(resume);
        let mut ring = Self {
            layout,
            mask: layout.size - 1,
            usage,
            areas,
            next_avail: resume,
            avail_idx: resume,
            next_used: resume,
            published: resume,
            considered: resume,
            told: None,
            taken: vec![0; usize::from(layout.size)],
            epoch: 1,
            fault: None,
        };
        ring.look()?;
        Ok(ring)
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

    /// The first entry of the available ring that has not been used.
    pub const fn base(&self) -> u16 {
        self.next_used
    }

    /// Reads `avail.idx` anew. Returns whether chains can be taken.
    fn look(&mut self) -> Result<bool, RingFault> {
        let avail = u16::from_le(self.areas.available(IDX)?.load(Acquire));
        // Against the published index: chains taken and not yet returned still fill the ring.
        if avail.wrapping_sub(self.published) > self.layout.size
            || avail.wrapping_sub(self.next_avail) > self.layout.size
        {
            return Err(RingFault::AvailJump {
                avail,
                used: self.published,
                size: self.layout.size,
            });
        }
        self.avail_idx = avail;
        Ok(avail != self.next_avail)
    }

    /// Where in the available ring the next chains are that can be taken, at most `limit` and not
    /// beyond the ring's end.
    #[inline]
    fn ready(&self, limit: usize) -> Range<usize> {
        let first = usize::from(self.next_avail & self.mask);
        let ready = usize::from(self.avail_idx.wrapping_sub(self.next_avail)).min(limit);
        first..first.wrapping_add(ready).min(self.layout.size.into())
    }

    /// Takes chains as long as they are what nearly all are: one descriptor, in the region that the
    /// last one was in. Returns how many; what to do with the next is for [`Self::take_next`].
    #[inline]
    fn take_simple(&mut self, memory: &Memory, chains: &mut Chains, limit: usize) -> usize {
        let (Some(area), Some(write)) = (memory.recent(), self.usage.direction.flag()) else {
            return 0;
        };
        let heads = self.areas.heads(self.ready(limit));
        let (descriptors, epoch) = (self.areas.descriptors.as_slice(), self.epoch);
        // As long as the other, which one look at the index tells the compiler.
        let all_taken = self.taken.get_mut(..descriptors.len()).unwrap_or_default();
        let mut count: u16 = 0;
        for head in heads {
            let head = u16::from_le(head.load(Relaxed));
            let (Some([address, rest]), Some(taken)) =
                (descriptors.get(usize::from(head)), all_taken.get_mut(usize::from(head)))
            else {
                break;
            };
            let descriptor = Descriptor::new(address.load(Relaxed), rest.load(Relaxed), false);
            let Some(segment) = area.segment(descriptor.address, descriptor.len) else {
                break;
            };
            if descriptor.flags & (DESC_NEXT | DESC_INDIRECT | DESC_WRITE) != write
                || *taken == epoch
            {
                break;
            }
            *taken = epoch;
            chains.push_only(head, segment);
            count = count.wrapping_add(1);
        }
        self.next_avail = self.next_avail.wrapping_add(count);
        count.into()
    }

    /// Brings what the next `limit` chains need of the ring closer, all at once: their descriptors,
    /// which another CPU wrote, and the entries by which they will be returned.
    #[inline]
    fn fetch_ahead(&self, limit: usize) {
        // Those beyond the ring's end have to do without.
        let ready = self.ready(limit);
        for head in self.areas.heads(ready.clone()) {
            self.areas.descriptors.prefetch(u16::from_le(head.load(Relaxed)).into(), false);
        }
        for slot in ready.step_by(8) {
            self.areas.used_entries.prefetch(slot, true);
        }
    }

    #[inline]
    fn take_next(&mut self, memory: &Memory, chains: &mut Chains) -> Result<(), RingFault> {
        let slot = usize::from(self.next_avail & self.mask);
        let head = u16::from_le(self.areas.available(slot + ENTRIES)?.load(Relaxed));
        let descriptor = self.areas.descriptor(head)?;
        let taken = self.taken.get_mut(usize::from(head)).ok_or(RingFault::Index(head))?;
        if *taken == self.epoch {
            return Err(RingFault::HeadReused(head));
        }
        *taken = self.epoch;
        if descriptor.flags & (DESC_NEXT | DESC_INDIRECT) == 0 {
            descriptor.push(memory, chains, self.usage.direction, head)?;
        } else {
            self.walk(memory, chains, head, descriptor)?;
        }
        chains.close(head, 1);
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(())
    }

    /// Follows a chain of more than one descriptor from its first.
    fn walk(
        &self,
        memory: &Memory,
        chains: &mut Chains,
        head: u16,
        mut descriptor: Descriptor,
    ) -> Result<(), RingFault> {
        let mut table = None;
        let mut table_len = self.layout.size;
        // One step more than descriptors, for the one that names an indirect table.
        for _ in 0..=self.layout.size.min(MAX_CHAIN) {
            let index = if descriptor.flags & DESC_INDIRECT != 0 {
                // One table, at the end of a chain, and not inside another table; the direction
                // flag of the descriptor itself means nothing (virtio 1.2, 2.7.5.3).
                if table.is_some() || !self.usage.indirect || descriptor.flags & DESC_NEXT != 0 {
                    return Err(RingFault::Indirect(head));
                }
                table_len = descriptor.table_entries(memory, self.layout.size, head)?;
                table = Some(descriptor.address);
                0
            } else {
                descriptor.push_one_of(memory, chains, self.usage.direction, head)?;
                if descriptor.flags & DESC_NEXT == 0 {
                    return Ok(());
                }
                descriptor.last
            };
            if index >= table_len {
                return Err(RingFault::Index(index));
            }
            descriptor = match table {
                Some(table) => Descriptor::of_table(memory, table, index, false)?,
                None => self.areas.descriptor(index)?,
            };
        }
        Err(RingFault::Loop(head))
    }

    fn wants_call(&mut self) -> Result<bool, RingFault> {
        // The used index must be visible before the driver's wish is read (virtio 1.2, 2.7.10).
        fence(SeqCst);
        let old = std::mem::replace(&mut self.considered, self.published);
        if !self.usage.event_idx {
            let flags = u16::from_le(self.areas.available(0)?.load(Relaxed));
            return Ok(flags & AVAIL_NO_INTERRUPT == 0);
        }
        let used_event = ENTRIES + usize::from(self.layout.size);
        let event = u16::from_le(self.areas.available(used_event)?.load(Relaxed));
        Ok(crossed(event, self.published, old))
    }

    /// Writes `avail_event`, or the flags of the used ring.
    fn tell(&mut self, memory: &Memory, value: u16) -> Result<(), RingFault> {
        let word =
            if self.usage.event_idx { ENTRIES + 4 * usize::from(self.layout.size) } else { 0 };
        self.told = Some(value);
        self.set_used_word(memory, word, value, Relaxed)
    }

    /// The guest address of an entry of the used ring; the ring is mapped, so there is one.
    const fn entry_address(&self, slot: u16) -> u64 {
        self.layout.used.wrapping_add(4 + 8 * slot as u64)
    }

    fn set_used_word(
        &self,
        memory: &Memory,
        word: usize,
        value: u16,
        order: std::sync::atomic::Ordering,
    ) -> Result<(), RingFault> {
        self.areas.used(word)?.store(value.to_le(), order);
        memory.mark(self.layout.used + 2 * word as u64, 2);
        Ok(())
    }
}

impl Ring for SplitRing {
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
        if self.next_avail == self.avail_idx && !self.look()? {
            return Ok(());
        }
        chains.compact();
        self.fetch_ahead(limit);
        let mut taken = 0;
        while taken < limit && self.next_avail != self.avail_idx && !chains.is_full() {
            let simple = self.take_simple(memory, chains, limit - taken);
            taken += simple;
            if simple > 0 {
                continue;
            }
            if let Err(fault) = self.take_next(memory, chains) {
                chains.abandon();
                if taken == 0 {
                    return Err(fault);
                }
                self.fault = Some(fault);
                break;
            }
            taken += 1;
        }
        Ok(())
    }

    fn rewind(&mut self) {
        self.next_avail = self.next_used;
        self.fault = None;
        self.taken.fill(0);
    }

    #[inline]
    fn push_used(&mut self, memory: &Memory, chain: &Chain, written: u32) -> Result<(), RingFault> {
        let slot = self.next_used & self.mask;
        let [id, len] = self.areas.used_entries.get(slot.into()).ok_or(RingFault::Index(slot))?;
        id.store(u32::from(chain.id()).to_le(), Relaxed);
        len.store(written.to_le(), Relaxed);
        memory.mark(self.entry_address(slot), 8);
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    #[inline]
    fn push_all_used(
        &mut self,
        memory: &Memory,
        chains: &[Chain],
        written: impl Iterator<Item = u32>,
    ) -> Result<(), RingFault> {
        let (mut left, mut written) = (chains, written);
        while !left.is_empty() {
            // Up to the ring's end, and from its beginning.
            let first = self.next_used & self.mask;
            let entries = self.areas.used_entries.as_slice();
            let entries = entries.get(usize::from(first)..).unwrap_or_default();
            let (now, later) = left.split_at_checked(entries.len()).unwrap_or((left, &[]));
            for (([id, len], chain), written) in entries.iter().zip(now).zip(&mut written) {
                id.store(u32::from(chain.id()).to_le(), Relaxed);
                len.store(written.to_le(), Relaxed);
            }
            memory.mark(self.entry_address(first), 8 * now.len() as u64);
            // No more than entries are left, whose number is 16 bits.
            self.next_used = self.next_used.wrapping_add(u16::try_from(now.len()).unwrap_or(0));
            left = later;
        }
        Ok(())
    }

    fn publish(&mut self, memory: &Memory) -> Result<bool, RingFault> {
        if self.next_used == self.published {
            return Ok(false);
        }
        self.set_used_word(memory, IDX, self.next_used, Release)?;
        self.published = self.next_used;
        self.epoch = match self.epoch.checked_add(1) {
            Some(epoch) => epoch,
            None => {
                self.taken.fill(0);
                1
            }
        };
        self.wants_call()
    }

    fn enable_kicks(&mut self, memory: &Memory) -> Result<bool, RingFault> {
        self.tell(memory, if self.usage.event_idx { self.next_avail } else { 0 })?;
        fence(SeqCst);
        self.look()
    }

    fn disable_kicks(&mut self, memory: &Memory) -> Result<(), RingFault> {
        let (silent, value) = if self.usage.event_idx {
            // The driver kicks when it passes the event index. One that it has passed needs no
            // other: it comes to it again only after 2^16 chains.
            let passed = |event| (1..STALE).contains(&self.next_avail.wrapping_sub(event));
            (self.told.is_some_and(passed), self.next_avail.wrapping_sub(1))
        } else {
            (self.told == Some(USED_NO_NOTIFY), USED_NO_NOTIFY)
        };
        if silent { Ok(()) } else { self.tell(memory, value) }
    }
}

impl Areas {
    fn map(memory: &Memory, layout: &RingLayout) -> Result<Self, RingFault> {
        let size = usize::from(layout.size);
        let RingLayout { descriptors, available, used, .. } = *layout;
        // Each ring ends with a 16-bit event index (virtio 1.2, 2.7.6 and 2.7.8).
        Ok(Self {
            descriptors: area(memory, descriptors, size)?,
            available: area(memory, available, ENTRIES + size + 1)?,
            used: area(memory, used, ENTRIES + 4 * size + 1)?,
            used_entries: area(memory, used.wrapping_add(4), size)?,
        })
    }

    /// Entries of the available ring.
    #[inline]
    fn heads(&self, slots: Range<usize>) -> &[AtomicU16] {
        let words = slots.start.wrapping_add(ENTRIES)..slots.end.wrapping_add(ENTRIES);
        self.available.as_slice().get(words).unwrap_or_default()
    }

    #[inline]
    fn descriptor(&self, index: u16) -> Result<Descriptor, RingFault> {
        let [address, rest] =
            self.descriptors.get(usize::from(index)).ok_or(RingFault::Index(index))?;
        Ok(Descriptor::new(address.load(Relaxed), rest.load(Relaxed), false))
    }

    // The areas are mapped in whole, so these always find what they are asked for.
    #[inline]
    fn available(&self, word: usize) -> Result<&AtomicU16, RingFault> {
        self.available.get(word).ok_or(RingFault::Index(0))
    }

    #[inline]
    fn used(&self, word: usize) -> Result<&AtomicU16, RingFault> {
        self.used.get(word).ok_or(RingFault::Index(0))
    }
}
