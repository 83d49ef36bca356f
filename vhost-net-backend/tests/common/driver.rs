//! The driver's side of rings: what both kinds have in common, and split rings.

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

/// A ring in a guest's memory, driven by hand; split or packed.
pub trait Driver: Clone {
    /// The feature bit that makes rings be of this kind.
    const FEATURES: u64;
    /// The base of a ring that is new.
    const START: u32;

    /// An empty ring at `base`; needs 64 KiB for up to 1024 entries.
    fn create(memory: &Arc<GuestMemoryMmap>, base: u64, size: u16) -> Self;
    fn layout(&self) -> RingLayout;
    /// Zeroes the ring, as a driver does when it initialises a device.
    fn reset(&mut self);
    /// What a frontend sets as base when it connects anew.
    fn base(&self) -> u32;
    /// Writes a chain of good shape, whose NEXT flags are set here, without making it available.
    /// It is known by `id` when it comes back; a split ring has its first descriptor there.
    fn offer(&mut self, id: u16, chain: &[Desc]);
    /// As [`Driver::offer`], but with the flags as they are given.
    fn offer_raw(&mut self, id: u16, chain: &[Desc]);
    /// Writes an entry of an indirect table; its `next` means nothing to a packed ring.
    fn set_table(&self, table: u64, index: u16, desc: Desc);
    /// Makes everything available that was offered.
    fn publish(&mut self);
    /// How many chains were ever offered, modulo 2^16.
    fn offered(&self) -> u16;
    /// Entries of the ring that did not come back.
    fn in_flight(&self) -> u16;
    /// The next chain that came back: id, and bytes written.
    fn pop_used(&mut self) -> Option<(u32, u32)>;
    /// The driver wants a call for whatever is used, or for nothing.
    fn set_calls(&self, wanted: bool);
    /// The driver wants a call once so many chains of one descriptor each were used, counted from
    /// the start of the ring (VIRTIO_F_EVENT_IDX).
    fn call_after(&self, chains: u16);
    /// Whether the device asks for a kick with the next chain.
    fn kick_is_wanted(&self, event_idx: bool) -> bool;
    /// Whether the device is to be kicked for the last chain published, which was published alone.
    fn kick_is_due(&self, event_idx: bool) -> bool;
}

/// The chain with NEXT in the flags of all but the last.
pub fn linked(chain: &[Desc]) -> Vec<Desc> {
    let mut chain = chain.to_vec();
    if let Some((_, others)) = chain.split_last_mut() {
        for desc in others {
            desc.flags |= NEXT;
        }
    }
    chain
}

/// A split ring.
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

impl Driver for DriverRing {
    const FEATURES: u64 = 0;
    const START: u32 = 0;

    fn create(memory: &Arc<GuestMemoryMmap>, base: u64, size: u16) -> Self {
        Self::new(memory, base, size)
    }

    fn layout(&self) -> RingLayout {
        self.layout
    }

    fn reset(&mut self) {
        self.reset();
    }

    fn base(&self) -> u32 {
        // cloud-hypervisor's idea of it on a reconnect: everything available is done.
        self.avail_idx.into()
    }

    fn offer(&mut self, id: u16, chain: &[Desc]) {
        self.offer_raw(id, &linked(chain));
    }

    fn offer_raw(&mut self, id: u16, chain: &[Desc]) {
        let at = |index: usize| (id + index as u16) % self.layout.size;
        for (index, desc) in chain.iter().enumerate() {
            self.set_desc(at(index), Desc { next: at(index + 1), ..*desc });
        }
        self.put_avail(id);
    }

    fn set_table(&self, table: u64, index: u16, desc: Desc) {
        self.set_desc_at(table, index, desc);
    }

    fn publish(&mut self) {
        Self::publish(self);
    }

    fn offered(&self) -> u16 {
        self.avail_idx
    }

    fn in_flight(&self) -> u16 {
        self.avail_idx.wrapping_sub(self.last_used)
    }

    fn pop_used(&mut self) -> Option<(u32, u32)> {
        self.pop_used()
    }

    fn set_calls(&self, wanted: bool) {
        self.set_avail_flags(u16::from(!wanted));
    }

    fn call_after(&self, chains: u16) {
        self.set_used_event(chains.wrapping_sub(1));
    }

    fn kick_is_wanted(&self, event_idx: bool) -> bool {
        if event_idx { self.avail_event() == self.avail_idx } else { self.used_flags() == 0 }
    }

    fn kick_is_due(&self, event_idx: bool) -> bool {
        if event_idx {
            self.avail_event() == self.avail_idx.wrapping_sub(1)
        } else {
            self.used_flags() == 0
        }
    }
}
