//! Strict device sides of virtqueues: [`split`] (virtio 1.2, 2.7) and [`packed`] (2.8).
//!
//! The driver is hostile. Every shared field is read once, every index is checked against the ring
//! size, a chain is taken whole or not at all, and the first broken rule stops the ring for good:
//! see [`RingFault`]. Chains are taken in batches and used in the order taken; what was used is
//! published a batch at a time, so that all buffers of a mergeable frame appear at once.

pub mod chain;
pub mod packed;
pub mod split;

use chain::{Chain, Chains};

use super::MAX_RING_SIZE;
use super::memory::Memory;
use super::sys::{Atomic, Shared};

/// `flags` of a descriptor, split or packed.
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
/// Bytes of a descriptor.
const DESC_LEN: u32 = 16;
/// Most descriptors of a chain, and most pieces of memory that one may consist of, however long
/// the ring is. Drivers of network cards use about 20; QEMU and Linux stop at 1024 as well. Without
/// a limit, one chain could hold the packet path up for as long as it takes to walk 32768.
pub const MAX_CHAIN: u16 = 1024;

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
    /// Something lies outside the guest's memory, or a ring area goes over from one region of it to
    /// the next.
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
    /// More descriptors are available at once than a packed ring has.
    #[error("More than {0} descriptors are available at once")]
    Overfull(u16),
    /// A head or `next` is not below the table size.
    #[error("Descriptor index {0} is outside its table")]
    Index(u16),
    /// The same head was offered twice before it was returned.
    #[error("Descriptor chain {0} was offered twice")]
    HeadReused(u16),
    /// A chain longer than the ring, or than [`MAX_CHAIN`]: a loop, or nothing a driver does.
    #[error("Descriptor chain {0} is a loop or too long")]
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
    /// Guest address of the descriptor table (split) or ring (packed); 16-byte aligned.
    pub descriptors: u64,
    /// Guest address of the available ring (split; 2-byte aligned) or of the driver's event
    /// suppression area (packed; 4-byte aligned).
    pub available: u64,
    /// Guest address of the used ring (split) or of the device's event suppression area (packed);
    /// 4-byte aligned.
    pub used: u64,
}

/// What the device does with a ring's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The driver's transmit ring: every descriptor is device-readable.
    Read = 0,
    /// The driver's receive ring: every descriptor is device-writable.
    Write = 1,
    /// A control queue: a chain is a command in device-readable descriptors, and behind them
    /// device-writable ones for the answer.
    ReadThenWrite = 2,
}

impl Direction {
    /// The flag that all descriptors have, or 0, if it is the same for all.
    const fn flag(self) -> Option<u16> {
        match self {
            Self::Read => Some(0),
            Self::Write => Some(DESC_WRITE),
            Self::ReadThenWrite => None,
        }
    }
}

/// What a ring is used for, and which features its driver negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingUse {
    /// What the device does with its buffers.
    pub direction: Direction,
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
    /// VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
}

/// The device's side of a virtqueue.
pub trait Ring {
    /// Takes up to `limit` chains that the driver has made available, and appends them to `chains`.
    /// A fault is returned only when no chain before it could be taken.
    fn take(&mut self, memory: &Memory, chains: &mut Chains, limit: usize)
    -> Result<(), RingFault>;

    /// Forgets which chains were taken and not used, as if they never were taken.
    fn rewind(&mut self);

    /// Marks the chain as used, with `written` bytes written to it. Chains must be used in the
    /// order taken. The driver sees it at the next [`Ring::publish`].
    fn push_used(&mut self, memory: &Memory, chain: &Chain, written: u32) -> Result<(), RingFault>;

    /// The same for several chains of one descriptor, with the bytes written to each.
    #[inline]
    fn push_all_used(
        &mut self,
        memory: &Memory,
        chains: &[Chain],
        written: impl Iterator<Item = u32>,
    ) -> Result<(), RingFault> {
        for (chain, written) in chains.iter().zip(written) {
            self.push_used(memory, chain, written)?;
        }
        Ok(())
    }

    /// Shows the driver everything used so far. Returns whether the driver wants a call for it.
    fn publish(&mut self, memory: &Memory) -> Result<bool, RingFault>;

    /// Asks the driver to kick when it makes the next chain available. Returns whether chains
    /// became available meanwhile: then no kick may come for them.
    fn enable_kicks(&mut self, memory: &Memory) -> Result<bool, RingFault>;

    /// Tells the driver that kicks are not wanted. Only a hint: a kick may still come.
    fn disable_kicks(&mut self, memory: &Memory) -> Result<(), RingFault>;
}

/// A descriptor, read once.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    /// `next` of a split ring, the buffer id of a packed one.
    last: u16,
}

impl Descriptor {
    /// From the two halves of the 16 bytes, as they lie in memory.
    const fn new(address: u64, rest: u64, packed: bool) -> Self {
        // Memory order of the bytes is little-endian, whatever this machine's.
        let [l0, l1, l2, l3, m0, m1, h0, h1] = rest.to_ne_bytes();
        let (middle, high) = (u16::from_le_bytes([m0, m1]), u16::from_le_bytes([h0, h1]));
        let (flags, last) = if packed { (high, middle) } else { (middle, high) };
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        Self { address: u64::from_le(address), len, flags, last }
    }

    /// Appends what the descriptor names to the chain being taken.
    #[inline]
    fn push(
        &self,
        memory: &Memory,
        chains: &mut Chains,
        direction: Direction,
        chain: u16,
    ) -> Result<(), RingFault> {
        let writable = self.flags & DESC_WRITE != 0;
        // One comparison for frames, which never go in; commands always do.
        if direction as u8 != u8::from(writable) {
            chains.turn(direction, writable).ok_or(RingFault::Direction(chain))?;
        }
        // An empty descriptor names no byte, so its address is never looked at.
        memory
            .locate(self.address, self.len, |segment| chains.push(segment))
            .ok_or(RingFault::Unmapped(self.address))
    }

    /// As [`Descriptor::push`], for a chain that may have more descriptors than this.
    fn push_one_of(
        &self,
        memory: &Memory,
        chains: &mut Chains,
        direction: Direction,
        chain: u16,
    ) -> Result<(), RingFault> {
        self.push(memory, chains, direction, chain)?;
        chains.walk();
        // A descriptor may go over hundreds of regions.
        if chains.open_segments() > usize::from(MAX_CHAIN) {
            return Err(RingFault::Loop(chain));
        }
        Ok(())
    }

    /// Entries of the indirect table that the descriptor names, on a ring of `size` entries. A
    /// chain must not be longer than the ring, so nor may a table.
    fn table_entries(&self, memory: &Memory, size: u16, chain: u16) -> Result<u16, RingFault> {
        let entries = self.len / DESC_LEN;
        let most = u32::from(size.min(MAX_CHAIN));
        if !self.len.is_multiple_of(DESC_LEN) || entries == 0 || entries > most {
            return Err(RingFault::Indirect(chain));
        }
        if !memory.is_mapped(self.address, self.len) {
            return Err(RingFault::Unmapped(self.address));
        }
        u16::try_from(entries).map_err(|_| RingFault::Indirect(chain))
    }

    /// The entry at `index` of an indirect table at `table`, which was checked to be mapped but may
    /// lie anywhere, aligned or not.
    fn of_table(memory: &Memory, table: u64, index: u16, packed: bool) -> Result<Self, RingFault> {
        let unmapped = RingFault::Unmapped(table);
        let address = table.checked_add(u64::from(DESC_LEN) * u64::from(index)).ok_or(unmapped)?;
        let mut bytes = [0; DESC_LEN as usize];
        let mut filled = 0;
        let mut whole = Some(());
        memory
            .locate(address, DESC_LEN, |segment| {
                let part = bytes.get_mut(filled..filled + segment.len());
                whole = whole.and_then(|()| memory.read(&segment, 0, part?));
                filled += segment.len();
            })
            .and(whole)
            .ok_or(unmapped)?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, r0, r1, r2, r3, r4, r5, r6, r7] = bytes;
        let address = u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let rest = u64::from_ne_bytes([r0, r1, r2, r3, r4, r5, r6, r7]);
        Ok(Self::new(address, rest, packed))
    }
}

/// Checks the size and the alignment of a ring's areas.
fn check_layout(layout: &RingLayout, available_alignment: u64) -> Result<(), RingFault> {
    let RingLayout { size, descriptors, available, used } = *layout;
    if !size.is_power_of_two() || size > MAX_RING_SIZE {
        return Err(RingFault::Size(size));
    }
    for (address, alignment) in [(descriptors, 16), (available, available_alignment), (used, 4)] {
        if !address.is_multiple_of(alignment) {
            return Err(RingFault::Misaligned(address));
        }
    }
    Ok(())
}

/// An area of a ring: `count` elements at `address`.
fn area<A: Atomic>(memory: &Memory, address: u64, count: usize) -> Result<Shared<A>, RingFault> {
    memory.shared(address, count).ok_or(RingFault::Unmapped(address))
}

/// Whether the step from `old` to `new` passes `event` (virtio 1.2, 2.7.10: vring_need_event).
const fn crossed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
