//! The driver's side of a virtqueue (virtio 1.3, 2.6 to 2.8).

mod packed;
mod split;

use std::sync::Arc;

use crate::features;
use crate::memory::{Allotment, GuestMemory};

pub use packed::PackedRing;
pub use split::SplitRing;

/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes into this buffer.
const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
const DESCRIPTOR_LEN: u64 = 16;
/// Descriptors in an indirect table.
const TABLE_SIZE: usize = 32;
const TABLE_LEN: u64 = TABLE_SIZE as u64 * DESCRIPTOR_LEN;

/// Which of the two formats a ring has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RingKind {
    /// Descriptor table, available ring, used ring (2.7).
    Split,
    /// One ring of descriptors (2.8).
    Packed,
}

/// Where a ring lies in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct RingLayout {
    /// The format.
    pub kind: RingKind,
    /// Entries: a power of two for split rings, at most 32768.
    pub size: u16,
    /// Descriptor table (split) or descriptor ring (packed).
    pub descriptors: u64,
    /// Available ring (split) or driver event suppression (packed).
    pub driver: u64,
    /// Used ring (split) or device event suppression (packed).
    pub device: u64,
    /// Indirect tables, one an entry.
    tables: u64,
}

impl RingLayout {
    /// Allots memory for a ring of `size` entries.
    pub const fn allot(kind: RingKind, size: u16, memory: &mut Allotment) -> Self {
        let entries = size as u64;
        let (driver_len, device_len) = match kind {
            RingKind::Split => (6 + 2 * entries, 6 + 8 * entries),
            RingKind::Packed => (4, 4),
        };
        Self {
            kind,
            size,
            descriptors: memory.take(DESCRIPTOR_LEN * entries),
            driver: memory.take(driver_len),
            device: memory.take(device_len),
            tables: memory.take(TABLE_LEN * entries),
        }
    }

    const fn table(&self, index: u16) -> u64 {
        self.tables + TABLE_LEN * index as u64
    }
}

/// How driver and device treat a ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingFeatures {
    /// Notifications are asked for by index.
    pub event_idx: bool,
    /// Chains of more than one buffer go into a table of their own.
    pub indirect: bool,
    /// The device uses chains in order, and may write one used entry for many.
    pub in_order: bool,
}

impl RingFeatures {
    /// Those among virtio's feature bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            event_idx: bits & features::EVENT_IDX != 0,
            indirect: bits & features::INDIRECT_DESC != 0,
            in_order: bits & features::IN_ORDER != 0,
        }
    }
}

/// A buffer in guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    /// Guest-physical address.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
}

/// A chain that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// The number that came with [`Ring::add`].
    pub token: u16,
    /// Bytes the device wrote.
    pub len: u32,
}

/// The device broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFault {
    /// A used chain that was not available.
    #[error("The device used chain {0}, which it did not have")]
    UnknownChain(u32),
    /// More chains used than were available.
    #[error("The device used {used} chains and had {available}")]
    TooMany {
        /// Chains it used.
        used: u16,
        /// Chains it had.
        available: u16,
    },
    /// A frame in several buffers that were not used together.
    #[error("A frame says it lies in {0} buffers, which were not used together")]
    Buffers(u16),
    /// More bytes written than a buffer has, or less than a header.
    #[error("The device wrote {0} bytes into a receive buffer")]
    Length(u32),
}

/// A chain that the device has.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    token: u16,
    /// Descriptors it takes in the ring; 0 when the device does not have it.
    slots: u16,
    /// Bytes the device can write.
    capacity: u32,
}

/// A ring of either format.
#[derive(Debug)]
pub enum Ring {
    /// A split one.
    Split(SplitRing),
    /// A packed one.
    Packed(PackedRing),
}

macro_rules! both {
    ($self:ident, $ring:ident => $body:expr) => {
        match $self {
            Self::Split($ring) => $body,
            Self::Packed($ring) => $body,
        }
    };
}

impl Ring {
    /// A ring with nothing in it, and calls off. The device writes into its buffers if `writable`, and reads them
    /// otherwise.
    pub fn new(
        memory: Arc<GuestMemory>,
        layout: RingLayout,
        features: RingFeatures,
        writable: bool,
    ) -> Self {
        match layout.kind {
            RingKind::Split => Self::Split(SplitRing::new(memory, layout, features, writable)),
            RingKind::Packed => Self::Packed(PackedRing::new(memory, layout, features, writable)),
        }
    }

    /// Where it lies.
    pub const fn layout(&self) -> &RingLayout {
        both!(self, ring => ring.layout())
    }

    /// Adds a chain; `token` comes back with it and must be below the ring's size. False when there is no room (or
    /// the chain is empty). The device does not see it before [`Ring::publish`].
    #[inline]
    pub fn add(&mut self, buffers: &[Buffer], token: u16) -> bool {
        both!(self, ring => ring.add(buffers, token))
    }

    /// Makes what was added available. Whether the device wants a kick for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        both!(self, ring => ring.publish())
    }

    /// The next chain that the device is done with.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Used>, DeviceFault> {
        both!(self, ring => ring.take())
    }

    /// Asks the device for a call when it uses the next chain. True if it has used one meanwhile: then take it, and
    /// ask again.
    pub fn enable_calls(&mut self) -> bool {
        both!(self, ring => ring.enable_calls())
    }

    /// Asks for no calls.
    pub fn disable_calls(&mut self) {
        both!(self, ring => ring.disable_calls());
    }
}

/// Whether a step from `old` to `new` passes `event` (2.7.10.1).
const fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// Writes an indirect table, and returns it as a buffer.
#[expect(clippy::cast_possible_truncation, reason = "a table has few entries")]
fn write_table(
    memory: &GuestMemory,
    table: u64,
    buffers: &[Buffer],
    write: u16,
    linked: bool,
) -> Buffer {
    use std::sync::atomic::Ordering::Relaxed;
    for (index, buffer) in buffers.iter().enumerate() {
        let at = table + index as u64 * DESCRIPTOR_LEN;
        let more = index + 1 < buffers.len();
        // A packed ring's table is read to its end (2.8.8), a split ring's along its links.
        let (flags, next) =
            if linked && more { (write | NEXT, index as u64 + 1) } else { (write, 0) };
        let word = match linked {
            true => u64::from(buffer.len) | u64::from(flags) << 32 | next << 48,
            false => u64::from(buffer.len) | u64::from(flags) << 48,
        };
        memory.mapping.store_u64(at, buffer.address, Relaxed);
        memory.mapping.store_u64(at + 8, word, Relaxed);
    }
    Buffer { address: table, len: (buffers.len() * DESCRIPTOR_LEN as usize) as u32 }
}

#[cfg(test)]
mod tests;
