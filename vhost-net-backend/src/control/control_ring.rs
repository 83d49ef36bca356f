//! The split ring of a control queue: a strict and slow walker for a few commands a second.
//!
//! The same rules as for rings with frames: every shared field is read once, a chain is taken whole
//! or not at all, and the first broken rule stops the ring. A chain is the command in readable
//! descriptors, and behind it at least one writable byte for the answer.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::control_command::MAX_COMMAND;
use crate::datapath::ring::RingLayout;

const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
const DESC_LEN: u64 = 16;

/// A rule that the driver broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlFault {
    /// Something lies outside the guest's memory.
    #[error("Guest address {0:#x} is not in the guest's memory")]
    Unmapped(u64),
    /// `avail.idx` is further ahead than the ring is long.
    #[error("Available index {0} is too far ahead")]
    AvailJump(u16),
    /// A head or `next` is not below the table size.
    #[error("Descriptor index {0} is outside its table")]
    Index(u16),
    /// A chain longer than the ring.
    #[error("Descriptor chain {0} is a loop or longer than the ring")]
    Loop(u16),
    /// A readable descriptor after a writable one.
    #[error("Descriptor chain {0} has a readable descriptor after a writable one")]
    Direction(u16),
    /// An indirect table where none may be, or of a wrong length.
    #[error("Descriptor chain {0} has a bad indirect table")]
    Indirect(u16),
    /// A chain in which an answer has no room.
    #[error("Descriptor chain {0} has no room for an answer")]
    NoAnswer(u16),
}

/// A command taken from the ring.
#[derive(Debug, PartialEq, Eq)]
pub struct ControlChain {
    head: u16,
    /// Its bytes; `None` when it is longer than [`MAX_COMMAND`].
    pub command: Option<Vec<u8>>,
    /// Guest address of the answer.
    pub answer: u64,
}

/// A control queue's ring.
#[derive(Debug)]
pub struct ControlRing {
    layout: RingLayout,
    indirect: bool,
    event_idx: bool,
    next: u16,
}

impl ControlRing {
    /// Starts at the guest's used index, as every command taken is answered at once.
    pub fn start(
        memory: &GuestMemoryMmap,
        layout: RingLayout,
        indirect: bool,
        event_idx: bool,
    ) -> Result<Self, ControlFault> {
        let size = usize::from(layout.size);
        // With their event indices; from here on no address in them overflows.
        let areas = [
            (layout.descriptors, 16 * size),
            (layout.available, 6 + 2 * size),
            (layout.used, 6 + 8 * size),
        ];
        for (address, len) in areas {
            // The sum is checked here because `check_range` adds without a check.
            let wraps = address.checked_add(len as u64).is_none();
            if wraps || !memory.check_range(GuestAddress(address), len) {
                return Err(ControlFault::Unmapped(address));
            }
        }
        let next = load(memory, layout.used + 2)?;
        Ok(Self { layout, indirect, event_idx, next })
    }

    /// The next entry of the available ring that will be taken.
    pub const fn next_avail(&self) -> u16 {
        self.next
    }

    /// Guest address and length of the used ring.
    pub fn used_area(&self) -> (u64, u64) {
        (self.layout.used, 6 + 8 * u64::from(self.layout.size))
    }

    /// Takes the next command, if there is one; else asks for a kick when there is.
    pub fn take(&self, memory: &GuestMemoryMmap) -> Result<Option<ControlChain>, ControlFault> {
        if self.available(memory)? == 0 {
            if !self.event_idx {
                return Ok(None);
            }
            // The avail_event, then a second look (virtio 1.2, 2.7.10.1).
            let event = self.layout.used + 4 + 8 * u64::from(self.layout.size);
            store(memory, event, self.next)?;
            std::sync::atomic::fence(Ordering::SeqCst);
            if self.available(memory)? == 0 {
                return Ok(None);
            }
        }
        let slot = u64::from(self.next % self.layout.size);
        let head = load(memory, self.layout.available + 4 + 2 * slot)?;
        self.walk(memory, head).map(Some)
    }

    fn available(&self, memory: &GuestMemoryMmap) -> Result<u16, ControlFault> {
        let index = load(memory, self.layout.available + 2)?;
        match index.wrapping_sub(self.next) {
            count if count > self.layout.size => Err(ControlFault::AvailJump(index)),
            count => Ok(count),
        }
    }

    /// Writes the answer to a command and returns its chain to the driver.
    pub fn answer(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: &ControlChain,
        answer: u8,
    ) -> Result<(), ControlFault> {
        let unmapped = |address| move |_| ControlFault::Unmapped(address);
        memory.write_obj(answer, GuestAddress(chain.answer)).map_err(unmapped(chain.answer))?;
        let slot = u64::from(self.next % self.layout.size);
        let entry = self.layout.used + 4 + 8 * slot;
        // One byte was written.
        let used = u64::from(chain.head) | 1 << 32;
        memory.write_obj(used.to_le(), GuestAddress(entry)).map_err(unmapped(entry))?;
        self.next = self.next.wrapping_add(1);
        store(memory, self.layout.used + 2, self.next)
    }

    fn walk(&self, memory: &GuestMemoryMmap, head: u16) -> Result<ControlChain, ControlFault> {
        let (mut table, mut table_len) = (self.layout.descriptors, self.layout.size);
        let mut in_indirect = false;
        let mut index = head;
        let mut command = Some(Vec::new());
        let mut answer = None;
        for _ in 0..=self.layout.size {
            if index >= table_len {
                return Err(ControlFault::Index(index));
            }
            let descriptor = Descriptor::read(memory, table, index)?;
            let Descriptor { address, len, flags, next } = descriptor;
            if flags & DESC_INDIRECT != 0 {
                let entries = u64::from(len) / DESC_LEN;
                let fits = u64::from(len) % DESC_LEN == 0
                    && (1..=u64::from(self.layout.size)).contains(&entries);
                if in_indirect || !self.indirect || flags & DESC_NEXT != 0 || !fits {
                    return Err(ControlFault::Indirect(head));
                }
                table_len = u16::try_from(entries).map_err(|_| ControlFault::Indirect(head))?;
                (table, in_indirect, index) = (address, true, 0);
                continue;
            }
            if flags & DESC_WRITE == 0 {
                if answer.is_some() {
                    return Err(ControlFault::Direction(head));
                }
                append(memory, &mut command, address, len)?;
            } else if len > 0 {
                answer.get_or_insert(address);
            }
            if flags & DESC_NEXT == 0 {
                let answer = answer.ok_or(ControlFault::NoAnswer(head))?;
                return Ok(ControlChain { head, command, answer });
            }
            index = next;
        }
        Err(ControlFault::Loop(head))
    }
}

/// Adds a part of a command, unless it gets too long: then it is not read at all.
fn append(
    memory: &GuestMemoryMmap,
    command: &mut Option<Vec<u8>>,
    address: u64,
    len: u32,
) -> Result<(), ControlFault> {
    let Some(bytes) = command else {
        return Ok(());
    };
    let start = bytes.len();
    let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
    if end > MAX_COMMAND {
        *command = None;
        return Ok(());
    }
    bytes.resize(end, 0);
    let part = bytes.get_mut(start..).unwrap_or_default();
    memory.read_slice(part, GuestAddress(address)).map_err(|_| ControlFault::Unmapped(address))
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &GuestMemoryMmap, table: u64, index: u16) -> Result<Self, ControlFault> {
        let unmapped = ControlFault::Unmapped(table);
        let at = table.checked_add(DESC_LEN * u64::from(index)).ok_or(unmapped)?;
        let mut bytes = [0; 16];
        memory.read_slice(&mut bytes, GuestAddress(at)).map_err(|_| unmapped)?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        Ok(Self {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        })
    }
}

fn load(memory: &GuestMemoryMmap, address: u64) -> Result<u16, ControlFault> {
    memory
        .load(GuestAddress(address), Ordering::Acquire)
        .map(u16::from_le)
        .map_err(|_| ControlFault::Unmapped(address))
}

fn store(memory: &GuestMemoryMmap, address: u64, value: u16) -> Result<(), ControlFault> {
    memory
        .store(value.to_le(), GuestAddress(address), Ordering::Release)
        .map_err(|_| ControlFault::Unmapped(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t52_ring_at_the_end_of_memory_does_not_start() {
        let start = 0xffff_ffff_ffff_e000;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(start), 0x1000)]).unwrap();
        let areas = [start, start + 0x100, start + 0x200];
        let ring = |size, [descriptors, available, used]: [u64; 3]| {
            let layout = RingLayout { size, descriptors, available, used };
            ControlRing::start(&memory, layout, true, true)
        };
        assert!(ring(8, areas).is_ok());
        for (position, end) in [(0, 16), (1, 4), (2, 4)] {
            let mut areas = areas;
            areas[position] = start + 0x1000 - end;
            for size in [8, 1024, 32768] {
                assert!(matches!(ring(size, areas), Err(ControlFault::Unmapped(_))), "{size}");
            }
        }
    }
}
