//! The driver's side of a packed ring (virtio 1.2, 2.8), step by step, and free to lie.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vhost_net_backend::datapath::ring::RingLayout;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::driver::{Desc, Driver, linked};
use super::guest::RING_PACKED;

/// `flags` of a descriptor: made available, and used, in the lap with this value.
pub const AVAIL: u16 = 1 << 7;
pub const USED: u16 = 1 << 15;
/// `flags` of an event suppression area.
pub const EVENTS_ENABLE: u16 = 0;
pub const EVENTS_DISABLE: u16 = 1;
pub const EVENTS_DESC: u16 = 2;

/// A place in the ring and the lap it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: u16,
    pub wrap: bool,
}

impl Place {
    const START: Self = Self { slot: 0, wrap: true };

    /// As bases and event offsets have it.
    pub fn bits(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// The flags of a descriptor that is made available here.
    pub fn avail_flags(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }

    /// `slots` further on.
    pub fn after(self, slots: u16, size: u16) -> Self {
        let mut place = self;
        for _ in 0..slots {
            place.slot += 1;
            if place.slot == size {
                place = Self { slot: 0, wrap: !place.wrap };
            }
        }
        place
    }
}

/// A packed ring.
#[derive(Clone, Debug)]
pub struct PackedRing {
    pub memory: Arc<GuestMemoryMmap>,
    pub layout: RingLayout,
    /// Where the next descriptor is made available.
    pub next: Place,
    /// Where the last chain begins.
    last: Place,
    /// Where the next used one is looked for.
    pub used: Place,
    pub in_flight: u16,
    offered: u16,
    /// Descriptors of the chains that did not come back, by id.
    slots: HashMap<u16, u16>,
    /// First descriptors written and not yet made available, and the flags that do that.
    written: Vec<(u16, u16)>,
}

impl PackedRing {
    fn address(&self, slot: u16) -> u64 {
        self.layout.descriptors + 16 * u64::from(slot)
    }

    /// Writes address, length and buffer id (in `next`) of a descriptor, but not its flags.
    pub fn set_desc(&self, slot: u16, desc: Desc) {
        let id_behind_length = [&desc.bytes()[..12], &desc.next.to_le_bytes()].concat();
        self.memory.write_slice(&id_behind_length, GuestAddress(self.address(slot))).unwrap();
    }

    pub fn set_flags(&self, slot: u16, flags: u16) {
        let address = GuestAddress(self.address(slot) + 14);
        self.memory.store(flags, address, Ordering::SeqCst).unwrap();
    }

    pub fn flags(&self, slot: u16) -> u16 {
        self.memory.load(GuestAddress(self.address(slot) + 14), Ordering::SeqCst).unwrap()
    }

    /// A chain that was written by other means comes back next.
    pub fn expect(&mut self, id: u16, slots: u16) {
        self.slots.insert(id, slots);
        self.in_flight += slots;
    }

    /// What the driver wants: the offset with its wrap counter, and flags.
    pub fn set_driver_event(&self, offset: u16, flags: u16) {
        let area = GuestAddress(self.layout.available);
        self.memory.store(offset, area, Ordering::SeqCst).unwrap();
        self.memory
            .store(flags, GuestAddress(self.layout.available + 2), Ordering::SeqCst)
            .unwrap();
    }

    /// What the device wants.
    pub fn device_event(&self) -> (u16, u16) {
        let word = |at| self.memory.load(GuestAddress(self.layout.used + at), Ordering::SeqCst);
        (word(0).unwrap(), word(2).unwrap())
    }
}

impl Driver for PackedRing {
    const FEATURES: u64 = RING_PACKED;
    // Both wrap counters are 1.
    const START: u32 = 0x8000_8000;

    fn create(memory: &Arc<GuestMemoryMmap>, base: u64, size: u16) -> Self {
        let available = base + 16 * u64::from(size);
        let layout = RingLayout { size, descriptors: base, available, used: available + 4 };
        Self {
            memory: Arc::clone(memory),
            layout,
            next: Place::START,
            last: Place::START,
            used: Place::START,
            in_flight: 0,
            offered: 0,
            slots: HashMap::new(),
            written: Vec::new(),
        }
    }

    fn layout(&self) -> RingLayout {
        self.layout
    }

    fn reset(&mut self) {
        let len = usize::from(self.layout.size) * 16 + 8;
        self.memory.write_slice(&vec![0; len], GuestAddress(self.layout.descriptors)).unwrap();
        *self = Self::create(&self.memory, self.layout.descriptors, self.layout.size);
    }

    fn base(&self) -> u32 {
        // Where the device is, as GET_VRING_BASE would say: what did not come back is available.
        u32::from(self.used.bits()) | u32::from(self.used.bits()) << 16
    }

    fn offer(&mut self, id: u16, chain: &[Desc]) {
        assert!(self.in_flight + chain.len() as u16 <= self.layout.size, "the driver has room");
        assert!(!self.slots.contains_key(&id), "ids of chains in flight differ");
        self.offer_raw(id, &linked(chain));
    }

    fn offer_raw(&mut self, id: u16, chain: &[Desc]) {
        let len = chain.len() as u16;
        for (index, desc) in (0..).zip(chain) {
            let place = self.next.after(index, self.layout.size);
            let flags = desc.flags | place.avail_flags();
            // Only the last one's id counts.
            let id = if index + 1 < len { 0xeeee } else { id };
            self.set_desc(place.slot, Desc { next: id, ..*desc });
            if index == 0 {
                self.written.push((place.slot, flags));
            } else {
                self.set_flags(place.slot, flags);
            }
        }
        self.slots.insert(id, len);
        self.last = self.next;
        self.next = self.next.after(len, self.layout.size);
        self.in_flight += len;
        self.offered = self.offered.wrapping_add(1);
    }

    fn set_table(&self, table: u64, index: u16, desc: Desc) {
        let rest = u64::from(desc.len) | u64::from(desc.flags) << 48;
        let address = GuestAddress(table + 16 * u64::from(index));
        self.memory.write_obj([desc.addr.to_le(), rest.to_le()], address).unwrap();
    }

    fn publish(&mut self) {
        for (slot, flags) in std::mem::take(&mut self.written) {
            self.set_flags(slot, flags);
        }
    }

    fn offered(&self) -> u16 {
        self.offered
    }

    fn in_flight(&self) -> u16 {
        self.in_flight
    }

    fn pop_used(&mut self) -> Option<(u32, u32)> {
        let flags = self.flags(self.used.slot);
        if (flags & AVAIL != 0) != self.used.wrap || (flags & USED != 0) != self.used.wrap {
            return None;
        }
        let address = self.address(self.used.slot);
        let len: u32 = self.memory.read_obj(GuestAddress(address + 8)).unwrap();
        let id: u16 = self.memory.read_obj(GuestAddress(address + 12)).unwrap();
        let slots = self.slots.remove(&id).expect("the device gives back what it was given");
        self.used = self.used.after(slots, self.layout.size);
        self.in_flight -= slots;
        Some((id.into(), len))
    }

    fn set_calls(&self, wanted: bool) {
        self.set_driver_event(0, if wanted { EVENTS_ENABLE } else { EVENTS_DISABLE });
    }

    fn call_after(&self, chains: u16) {
        let place = Place::START.after(chains - 1, self.layout.size);
        self.set_driver_event(place.bits(), EVENTS_DESC);
    }

    fn kick_is_wanted(&self, event_idx: bool) -> bool {
        let (offset, flags) = self.device_event();
        if event_idx {
            flags == EVENTS_DESC && offset == self.next.bits()
        } else {
            flags == EVENTS_ENABLE
        }
    }

    fn kick_is_due(&self, event_idx: bool) -> bool {
        match self.device_event() {
            (offset, EVENTS_DESC) if event_idx => offset == self.last.bits(),
            (_, flags) => flags == EVENTS_ENABLE,
        }
    }
}
