//! The driver's side of a split ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vhost_net_backend::datapath::ring::RingLayout;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// One descriptor, as it lies in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Desc {
    pub addr: u64,
    pub len: u32,
    pub flags: u16,
    pub next: u16,
}

impl Desc {
    pub fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A ring in a guest's memory, driven by hand.
#[derive(Clone, Debug)]
pub struct DriverRing {
    pub memory: Arc<GuestMemoryMmap>,
    pub layout: RingLayout,
    /// `avail.idx` as published.
    pub avail_idx: u16,
    /// Used entries seen so far.
    pub last_used: u16,
}

impl DriverRing {
    /// A ring at `base`, laid out as in virtio 1.2, 2.7; needs 64 KiB for up to 1024 entries.
    pub fn new(memory: &Arc<GuestMemoryMmap>, base: u64, size: u16) -> Self {
        let available = base + 16 * u64::from(size);
        let used = (available + 6 + 2 * u64::from(size)).next_multiple_of(4);
        let layout = RingLayout { size, descriptors: base, available, used };
        Self { memory: Arc::clone(memory), layout, avail_idx: 0, last_used: 0 }
    }

    /// Zeroes the ring, as a driver does when it initialises a device.
    pub fn reset(&mut self) {
        let end = self.layout.used + 6 + 8 * u64::from(self.layout.size);
        let len = usize::try_from(end - self.layout.descriptors).unwrap();
        let zeros = vec![0; len];
        self.memory.write_slice(&zeros, GuestAddress(self.layout.descriptors)).unwrap();
        self.avail_idx = 0;
        self.last_used = 0;
    }

    pub fn set_desc(&self, index: u16, desc: Desc) {
        self.set_desc_at(self.layout.descriptors, index, desc);
    }

    pub fn set_desc_at(&self, table: u64, index: u16, desc: Desc) {
        let address = GuestAddress(table + 16 * u64::from(index));
        self.memory.write_slice(&desc.bytes(), address).unwrap();
    }

    /// Writes the next entry of the available ring, without publishing it.
    pub fn put_avail(&mut self, head: u16) {
        let slot = u64::from(self.avail_idx % self.layout.size);
        let address = GuestAddress(self.layout.available + 4 + 2 * slot);
        self.memory.write_obj(head.to_le(), address).unwrap();
        self.avail_idx = self.avail_idx.wrapping_add(1);
    }

    /// Publishes every entry written so far.
    pub fn publish(&self) {
        self.store_avail_idx(self.avail_idx);
    }

    pub fn store_avail_idx(&self, idx: u16) {
        let address = GuestAddress(self.layout.available + 2);
        self.memory.store(idx.to_le(), address, Ordering::SeqCst).unwrap();
    }

    pub fn set_avail_flags(&self, flags: u16) {
        self.memory.store(flags, GuestAddress(self.layout.available), Ordering::SeqCst).unwrap();
    }

    pub fn set_used_event(&self, idx: u16) {
        let address = self.layout.available + 4 + 2 * u64::from(self.layout.size);
        self.memory.store(idx.to_le(), GuestAddress(address), Ordering::SeqCst).unwrap();
    }

    pub fn avail_event(&self) -> u16 {
        let address = self.layout.used + 4 + 8 * u64::from(self.layout.size);
        self.memory.load(GuestAddress(address), Ordering::SeqCst).unwrap()
    }

    pub fn used_flags(&self) -> u16 {
        self.memory.load(GuestAddress(self.layout.used), Ordering::SeqCst).unwrap()
    }

    pub fn used_idx(&self) -> u16 {
        self.memory.load(GuestAddress(self.layout.used + 2), Ordering::SeqCst).unwrap()
    }

    pub fn set_used_idx(&self, idx: u16) {
        self.memory.store(idx, GuestAddress(self.layout.used + 2), Ordering::SeqCst).unwrap();
    }

    /// The next used entry, if the device has published one: id and length.
    pub fn pop_used(&mut self) -> Option<(u32, u32)> {
        if self.used_idx() == self.last_used {
            return None;
        }
        let slot = u64::from(self.last_used % self.layout.size);
        let address = self.layout.used + 4 + 8 * slot;
        let id: u32 = self.memory.read_obj(GuestAddress(address)).unwrap();
        let len: u32 = self.memory.read_obj(GuestAddress(address + 4)).unwrap();
        self.last_used = self.last_used.wrapping_add(1);
        Some((id, len))
    }
}
