//! A strict walker for split rings (virtio 1.2, 2.7).
//!
//! The driver is hostile. Every shared field is read once, every index is checked against the ring
//! size, a chain is taken whole or not at all, and the first broken rule stops the ring for good:
//! see [`RingFault`]. Used entries are written as they come and published together, so that all
//! buffers of a mergeable frame appear at once.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::MAX_RING_SIZE;

/// `flags` of a descriptor.
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
/// Bytes of a descriptor.
const DESC_LEN: u64 = 16;
/// `flags` of the available ring: the driver wants no interrupts.
const AVAIL_NO_INTERRUPT: u16 = 1;
/// `flags` of the used ring: the device wants no kicks.
const USED_NO_NOTIFY: u16 = 1;
/// Offset of `idx` and of the entries in both rings.
const IDX: u64 = 2;
const ENTRIES: u64 = 4;

/// A rule of the ring that the driver broke. The reaction is always the same: the chain is not
/// delivered, not even its beginning; the ring stops; its error eventfd is signalled. A new
/// session, or a stop and a new start of the ring by the frontend, heals it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingFault {
    /// Zero, not a power of two, or above [`MAX_RING_SIZE`].
    #[error("Ring size {0} is not a power of two from 1 to 32768")]
    Size(u16),
    /// An area is misaligned.
    #[error("Ring area at guest address {0:#x} is misaligned")]
    Misaligned(u64),
    /// Something lies outside the guest's memory.
    #[error("Guest address {0:#x} is not in the guest's memory")]
    Unmapped(u64),
    /// `avail.idx` is further from the used index than the ring is long.
    #[error("Available index {avail} is more than {size} entries ahead of {used}")]
    AvailJump {
        /// `avail.idx` as read.
        avail: u16,
        /// The next entry the device would take.
        used: u16,
        /// The ring size.
        size: u16,
    },
    /// A head or `next` is not below the table size.
    #[error("Descriptor index {0} is outside its table")]
    Index(u16),
    /// The same head was offered twice before it was returned.
    #[error("Descriptor chain {0} was offered twice")]
    HeadReused(u16),
    /// A chain longer than the ring: a loop, or an indirect table that is too long.
    #[error("Descriptor chain {0} is a loop or longer than the ring")]
    Loop(u16),
    /// A readable descriptor after a writable one, or the wrong kind for this ring.
    #[error("Descriptor chain {0} has a descriptor of the wrong direction")]
    Direction(u16),
    /// An indirect table where none may be, or of a wrong length.
    #[error("Descriptor chain {0} has a bad indirect table")]
    Indirect(u16),
}

/// Where a ring lies in guest physical memory, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLayout {
    /// Entries; a power of two.
    pub size: u16,
    /// Guest address of the descriptor table; 16-byte aligned.
    pub descriptors: u64,
    /// Guest address of the available ring; 2-byte aligned.
    pub available: u64,
    /// Guest address of the used ring; 4-byte aligned.
    pub used: u64,
}

/// A piece of guest memory that a descriptor names; already checked to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address.
    pub address: GuestAddress,
    /// Bytes; not zero.
    pub len: u32,
}

/// One descriptor chain, checked as a whole. Reused from chain to chain: it allocates only while
/// it grows to its limit, the ring size.
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    segments: Vec<Segment>,
    bytes: u64,
}

impl Chain {
    /// An empty chain with room for a chain of any ring of `size` entries.
    pub fn with_capacity(size: u16) -> Self {
        Self { head: 0, segments: Vec::with_capacity(usize::from(size)), bytes: 0 }
    }

    /// Index of the first descriptor, which identifies the chain to the driver.
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// The segments, in order, without empty ones.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of all segments together.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn reset(&mut self, head: u16) {
        self.head = head;
        self.bytes = 0;
        self.segments.clear();
    }
}

/// What the device does with a ring's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The driver's transmit ring: every descriptor is device-readable.
    Read,
    /// The driver's receive ring: every descriptor is device-writable.
    Write,
}

/// A running split ring.
#[derive(Debug)]
pub struct SplitRing {
    layout: RingLayout,
    direction: Direction,
    indirect: bool,
    event_idx: bool,
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
    /// Per head, the epoch in which it was last taken. The epoch advances at each publication:
    /// only then may the driver offer a head again.
    taken: Vec<u32>,
    epoch: u32,
}

impl SplitRing {
    /// Starts on a ring at the guest's used index: every chain is completed in order, so what is
    /// not used has not been carried. The frontend's idea of the index is not needed, and wrong
    /// after a reconnect of cloud-hypervisor.
    pub fn start(
        memory: &GuestMemoryMmap,
        layout: RingLayout,
        direction: Direction,
        indirect: bool,
        event_idx: bool,
    ) -> Result<Self, RingFault> {
        let RingLayout { size, descriptors, available, used } = layout;
        if !size.is_power_of_two() || size > MAX_RING_SIZE {
            return Err(RingFault::Size(size));
        }
        for (address, alignment) in [(descriptors, 16), (available, 2), (used, 4)] {
            if address % alignment != 0 {
                return Err(RingFault::Misaligned(address));
            }
        }
        let mut ring = Self {
            layout,
            direction,
            indirect,
            event_idx,
            next_avail: 0,
            avail_idx: 0,
            next_used: 0,
            published: 0,
            considered: 0,
            taken: vec![0; usize::from(size)],
            epoch: 1,
        };
        ring.check_areas(memory)?;
        let resume = ring.load(memory, used + IDX)?;
        ring.next_avail = resume;
        ring.avail_idx = resume;
        ring.next_used = resume;
        ring.published = resume;
        ring.considered = resume;
        ring.look(memory)?;
        Ok(ring)
    }

    /// Checks that the three areas are in `memory`: at the start and when the memory changes.
    pub fn check_areas(&self, memory: &GuestMemoryMmap) -> Result<(), RingFault> {
        let RingLayout { size, descriptors, available, used } = self.layout;
        let size = u64::from(size);
        // Each ring ends with a 16-bit event index (virtio 1.2, 2.7.6 and 2.7.8).
        let areas = [
            (descriptors, DESC_LEN * size),
            (available, ENTRIES + 2 * size + 2),
            (used, ENTRIES + 8 * size + 2),
        ];
        for (address, len) in areas {
            // `check_range` adds without a check.
            if address.checked_add(len).is_none() || !mapped(memory, address, len) {
                return Err(RingFault::Unmapped(address));
            }
        }
        Ok(())
    }

    /// Changes what the driver may use, after a new feature negotiation.
    pub const fn set_features(&mut self, indirect: bool, event_idx: bool) {
        self.indirect = indirect;
        self.event_idx = event_idx;
    }

    /// Entries of the ring.
    pub const fn size(&self) -> u16 {
        self.layout.size
    }

    /// Guest address and length of the used ring, which the device writes.
    pub fn used_area(&self) -> (u64, u64) {
        (self.layout.used, ENTRIES + 8 * u64::from(self.layout.size) + 2)
    }

    /// The next entry of the available ring that the device will take.
    pub const fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Reads `avail.idx` anew. Returns how many chains can be taken.
    pub fn look(&mut self, memory: &GuestMemoryMmap) -> Result<u16, RingFault> {
        let avail = self.load_acquire(memory, self.layout.available + IDX)?;
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
        Ok(avail.wrapping_sub(self.next_avail))
    }

    /// Takes the next chain, of those that the last [`SplitRing::look`] saw, into `chain`.
    /// Returns false when there is none.
    pub fn take(&mut self, memory: &GuestMemoryMmap, chain: &mut Chain) -> Result<bool, RingFault> {
        if self.next_avail == self.avail_idx {
            return Ok(false);
        }
        let slot = u64::from(self.next_avail & (self.layout.size - 1));
        let head = self.load(memory, self.layout.available + ENTRIES + 2 * slot)?;
        let epoch = self.epoch;
        let taken = self.taken.get_mut(usize::from(head)).ok_or(RingFault::Index(head))?;
        if std::mem::replace(taken, epoch) == epoch {
            return Err(RingFault::HeadReused(head));
        }
        chain.reset(head);
        self.walk(memory, chain)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(true)
    }

    /// Gives back the chains with these heads, the last ones taken, as if never taken.
    pub fn untake(&mut self, heads: impl Iterator<Item = u16>) {
        for head in heads {
            if let Some(taken) = self.taken.get_mut(usize::from(head)) {
                *taken = 0;
            }
            self.next_avail = self.next_avail.wrapping_sub(1);
        }
    }

    fn walk(&self, memory: &GuestMemoryMmap, chain: &mut Chain) -> Result<(), RingFault> {
        let head = chain.head;
        let mut table = self.layout.descriptors;
        let mut table_len = self.layout.size;
        let mut in_indirect = false;
        let mut index = head;
        for _ in 0..=self.layout.size {
            if index >= table_len {
                return Err(RingFault::Index(index));
            }
            let descriptor = Descriptor::read(memory, table + DESC_LEN * u64::from(index))?;
            if descriptor.flags & DESC_INDIRECT != 0 {
                // One table, at the end of a chain, and not inside another table; the direction
                // flag of the descriptor itself means nothing (virtio 1.2, 2.7.5.3).
                if in_indirect || !self.indirect || descriptor.flags & DESC_NEXT != 0 {
                    return Err(RingFault::Indirect(head));
                }
                table_len = self.indirect_len(memory, descriptor, head)?;
                table = descriptor.address;
                in_indirect = true;
                index = 0;
                continue;
            }
            self.push(memory, chain, descriptor)?;
            if descriptor.flags & DESC_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(RingFault::Loop(head))
    }

    /// Entries of an indirect table. A chain must not be longer than the ring, so nor may a table.
    fn indirect_len(
        &self,
        memory: &GuestMemoryMmap,
        descriptor: Descriptor,
        head: u16,
    ) -> Result<u16, RingFault> {
        let len = u64::from(descriptor.len);
        let entries = len / DESC_LEN;
        if len % DESC_LEN != 0 || entries == 0 || entries > u64::from(self.layout.size) {
            return Err(RingFault::Indirect(head));
        }
        if !mapped(memory, descriptor.address, len) {
            return Err(RingFault::Unmapped(descriptor.address));
        }
        u16::try_from(entries).map_err(|_| RingFault::Indirect(head))
    }

    fn push(
        &self,
        memory: &GuestMemoryMmap,
        chain: &mut Chain,
        descriptor: Descriptor,
    ) -> Result<(), RingFault> {
        let writable = descriptor.flags & DESC_WRITE != 0;
        if writable != (self.direction == Direction::Write) {
            return Err(RingFault::Direction(chain.head));
        }
        // An empty descriptor names no byte, so its address is never looked at.
        if descriptor.len == 0 {
            return Ok(());
        }
        if !mapped(memory, descriptor.address, u64::from(descriptor.len)) {
            return Err(RingFault::Unmapped(descriptor.address));
        }
        // At most 32768 descriptors of at most 2^32 - 1 bytes: the sum fits.
        chain.bytes += u64::from(descriptor.len);
        chain
            .segments
            .push(Segment { address: GuestAddress(descriptor.address), len: descriptor.len });
        Ok(())
    }

    /// Writes the next used entry. The driver sees it at the next [`SplitRing::publish`].
    pub fn push_used(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        written: u32,
    ) -> Result<(), RingFault> {
        let slot = u64::from(self.next_used & (self.layout.size - 1));
        let address = self.layout.used + ENTRIES + 8 * slot;
        let entry = u64::from(head) | u64::from(written) << 32;
        memory
            .write_obj(entry.to_le(), GuestAddress(address))
            .map_err(|_| RingFault::Unmapped(address))?;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver every used entry written so far. Returns whether the driver wants a call
    /// for them.
    pub fn publish(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingFault> {
        if self.next_used == self.published {
            return Ok(false);
        }
        let address = self.layout.used + IDX;
        memory
            .store(self.next_used.to_le(), GuestAddress(address), Ordering::Release)
            .map_err(|_| RingFault::Unmapped(address))?;
        self.published = self.next_used;
        self.epoch = match self.epoch.checked_add(1) {
            Some(epoch) => epoch,
            None => {
                self.taken.fill(0);
                1
            }
        };
        self.wants_call(memory)
    }

    fn wants_call(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingFault> {
        // The used index must be visible before the driver's wish is read (virtio 1.2, 2.7.10).
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.considered, self.published);
        if !self.event_idx {
            let flags = self.load(memory, self.layout.available)?;
            return Ok(flags & AVAIL_NO_INTERRUPT == 0);
        }
        let used_event = self.layout.available + ENTRIES + 2 * u64::from(self.layout.size);
        let event = self.load(memory, used_event)?;
        Ok(crossed(event, self.published, old))
    }

    /// Asks the driver to kick when it makes the next chain available. Returns whether chains
    /// became available meanwhile: then no kick may come for them.
    pub fn enable_kicks(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingFault> {
        if self.event_idx {
            self.store(memory, self.avail_event(), self.next_avail)?;
        } else {
            self.store(memory, self.layout.used, 0)?;
        }
        fence(Ordering::SeqCst);
        Ok(self.look(memory)? > 0)
    }

    /// Tells the driver that kicks are not wanted. Only a hint: a kick may still come.
    pub fn disable_kicks(&mut self, memory: &GuestMemoryMmap) -> Result<(), RingFault> {
        if self.event_idx {
            // An index already passed: the driver crosses it only after 2^16 more chains.
            self.store(memory, self.avail_event(), self.published.wrapping_sub(1))
        } else {
            self.store(memory, self.layout.used, USED_NO_NOTIFY)
        }
    }

    fn avail_event(&self) -> u64 {
        self.layout.used + ENTRIES + 8 * u64::from(self.layout.size)
    }

    fn load(&self, memory: &GuestMemoryMmap, address: u64) -> Result<u16, RingFault> {
        load(memory, address, Ordering::Relaxed)
    }

    fn load_acquire(&self, memory: &GuestMemoryMmap, address: u64) -> Result<u16, RingFault> {
        load(memory, address, Ordering::Acquire)
    }

    fn store(&self, memory: &GuestMemoryMmap, address: u64, value: u16) -> Result<(), RingFault> {
        memory
            .store(value.to_le(), GuestAddress(address), Ordering::Relaxed)
            .map_err(|_| RingFault::Unmapped(address))
    }
}

fn load(memory: &GuestMemoryMmap, address: u64, order: Ordering) -> Result<u16, RingFault> {
    memory
        .load(GuestAddress(address), order)
        .map(u16::from_le)
        .map_err(|_| RingFault::Unmapped(address))
}

/// Whether all of `len` bytes at `address` are guest memory, over region borders too.
fn mapped(memory: &GuestMemoryMmap, address: u64, len: u64) -> bool {
    let Ok(len) = usize::try_from(len) else {
        return false;
    };
    // The sum is checked here because `check_range` adds without a check.
    address.checked_add(len as u64).is_some() && memory.check_range(GuestAddress(address), len)
}

/// Whether the step from `old` to `new` passes `event` (virtio 1.2, 2.7.10: vring_need_event).
const fn crossed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A descriptor, read once.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &GuestMemoryMmap, address: u64) -> Result<Self, RingFault> {
        let mut raw = [0_u8; 16];
        memory
            .read_slice(&mut raw, GuestAddress(address))
            .map_err(|_| RingFault::Unmapped(address))?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = raw;
        Ok(Self {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        })
    }
}
