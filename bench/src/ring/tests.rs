//! Both formats against a slow, obvious device.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::SeqCst;

use proptest::prelude::*;

use super::*;

/// The device's side of a ring: takes chains, and uses them in any order or in batches.
struct Device {
    memory: Arc<GuestMemory>,
    layout: RingLayout,
    /// Next available and next used: an index that never wraps (split), or a slot and wrap counter (packed).
    available: (u16, bool),
    used: (u16, bool),
}

/// A chain as the device sees it: its id, its slots, its buffers, and whether each is writable.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    id: u16,
    slots: u16,
    buffers: Vec<(Buffer, bool)>,
}

impl Device {
    fn new(memory: &Arc<GuestMemory>, layout: RingLayout) -> Self {
        Self { memory: memory.clone(), layout, available: (0, true), used: (0, true) }
    }

    fn descriptor(&self, table: u64, index: u16) -> (Buffer, [u16; 2]) {
        let at = table + 16 * u64::from(index);
        let mapping = &self.memory.mapping;
        let buffer = Buffer {
            address: u64::from(mapping.load_u32(at, SeqCst))
                | u64::from(mapping.load_u32(at + 4, SeqCst)) << 32,
            len: mapping.load_u32(at + 8, SeqCst),
        };
        (buffer, [mapping.load_u16(at + 12, SeqCst), mapping.load_u16(at + 14, SeqCst)])
    }

    fn next(&mut self) -> Option<Seen> {
        match self.layout.kind {
            RingKind::Split => self.next_split(),
            RingKind::Packed => self.next_packed(),
        }
    }

    fn next_split(&mut self) -> Option<Seen> {
        let mapping = &self.memory.mapping;
        let index = self.available.0;
        if mapping.load_u16(self.layout.driver + 2, SeqCst) == index {
            return None;
        }
        self.available.0 = index.wrapping_add(1);
        let place = u64::from(index % self.layout.size);
        let id = mapping.load_u16(self.layout.driver + 4 + 2 * place, SeqCst);
        let (mut table, mut at, mut slots) = (self.layout.descriptors, id, 0);
        let mut buffers = Vec::new();
        loop {
            let (buffer, [flags, next]) = self.descriptor(table, at);
            slots += u16::from(table == self.layout.descriptors);
            if flags & INDIRECT != 0 {
                (table, at) = (buffer.address, 0);
                continue;
            }
            buffers.push((buffer, flags & WRITE != 0));
            if flags & NEXT == 0 {
                return Some(Seen { id, slots, buffers });
            }
            at = next;
        }
    }

    fn next_packed(&mut self) -> Option<Seen> {
        let mut buffers = Vec::new();
        let mut slots = 0;
        loop {
            let (index, wrap) = self.available;
            let (buffer, [id, flags]) = self.descriptor(self.layout.descriptors, index);
            let available = (flags & 0x80 != 0) == wrap && (flags & 0x8000 != 0) != wrap;
            if !available {
                assert!(buffers.is_empty(), "a chain was shown in part");
                return None;
            }
            step(&mut self.available, 1, self.layout.size);
            slots += 1;
            if flags & INDIRECT != 0 {
                for entry in 0..buffer.len / 16 {
                    let entry = u16::try_from(entry).unwrap();
                    let (buffer, [_, flags]) = self.descriptor(buffer.address, entry);
                    buffers.push((buffer, flags & WRITE != 0));
                }
            } else {
                buffers.push((buffer, flags & WRITE != 0));
            }
            if flags & NEXT == 0 {
                return Some(Seen { id, slots, buffers });
            }
        }
    }

    /// Uses chains; the one used entry names the last of them.
    fn use_batch(&mut self, batch: &[Seen], len: u32) {
        let last = batch.last().unwrap();
        let mapping = &self.memory.mapping;
        match self.layout.kind {
            RingKind::Split => {
                let at = self.layout.device + 4 + 8 * u64::from(self.used.0 % self.layout.size);
                mapping.store_u32(at, last.id.into(), SeqCst);
                mapping.store_u32(at + 4, len, SeqCst);
                self.used.0 = self.used.0.wrapping_add(u16::try_from(batch.len()).unwrap());
                mapping.store_u16(self.layout.device + 2, self.used.0, SeqCst);
            }
            RingKind::Packed => {
                let at = self.layout.descriptors + 16 * u64::from(self.used.0);
                mapping.store_u32(at + 8, len, SeqCst);
                mapping.store_u16(at + 12, last.id, SeqCst);
                mapping.store_u16(at + 14, if self.used.1 { 0x8080 } else { 0 }, SeqCst);
                let slots = batch.iter().map(|chain| chain.slots).sum();
                step(&mut self.used, slots, self.layout.size);
            }
        }
    }
}

fn step(place: &mut (u16, bool), slots: u16, size: u16) {
    place.0 += slots;
    if place.0 >= size {
        *place = (place.0 - size, !place.1);
    }
}

fn ring(
    kind: RingKind,
    size: u16,
    features: RingFeatures,
    writable: bool,
) -> (Ring, Device, Arc<GuestMemory>) {
    let mut allotment = Allotment::default();
    let layout = RingLayout::allot(kind, size, &mut allotment);
    let memory = Arc::new(GuestMemory::new(allotment.total()).unwrap());
    let device = Device::new(&memory, layout);
    (Ring::new(memory.clone(), layout, features, writable), device, memory)
}

const KINDS: [RingKind; 2] = [RingKind::Split, RingKind::Packed];

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u32>),
    Publish,
    /// Use the chain at this place among those the device has, or so many in order.
    Use(usize, u32),
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => proptest::collection::vec(1..5000_u32, 1..4).prop_map(Step::Add),
        2 => Just(Step::Publish),
        3 => (0..8_usize, 0..5000_u32).prop_map(|(place, len)| Step::Use(place, len)),
        3 => Just(Step::Take),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The device sees every chain as it was added, and the driver gets every chain back once, with its length.
    #[test]
    fn chains_go_to_the_device_and_come_back(
        steps in steps(), packed: bool, indirect: bool, in_order: bool, event_idx: bool, writable: bool,
    ) {
        let kind = KINDS[usize::from(packed)];
        let features = RingFeatures { event_idx, indirect, in_order };
        let (mut ring, mut device, _) = ring(kind, 8, features, writable);
        let mut free: Vec<u16> = (0..8).collect();
        let mut added: VecDeque<(u16, Vec<(Buffer, bool)>)> = VecDeque::new();
        let mut published = 0;
        let mut at_device: Vec<(u16, Seen)> = Vec::new();
        let mut used: VecDeque<Used> = VecDeque::new();
        for step in steps {
            match step {
                Step::Add(lens) => {
                    let Some(&token) = free.last() else { continue };
                    let buffers: Vec<_> = lens.iter().zip(1..)
                        .map(|(len, n)| Buffer { address: 0x1000 * n + u64::from(*len), len: *len })
                        .collect();
                    if ring.add(&buffers, token) {
                        free.pop();
                        added.push_back((token, buffers.iter().map(|b| (*b, writable)).collect()));
                    }
                }
                Step::Publish => { ring.publish(); published = added.len(); }
                Step::Use(place, len) => {
                    while let Some(seen) = device.next() {
                        prop_assert!(published > 0, "seen before it was published");
                        published -= 1;
                        let (token, buffers) = added.pop_front().unwrap();
                        prop_assert_eq!(&seen.buffers, &buffers);
                        at_device.push((token, seen));
                    }
                    prop_assert_eq!(published, 0, "what is published is seen");
                    if place >= at_device.len() { continue }
                    let batch: Vec<_> = if in_order {
                        at_device.drain(..=place).collect()
                    } else {
                        vec![at_device.remove(place)]
                    };
                    let chains: Vec<_> = batch.iter().map(|(_, seen)| seen.clone()).collect();
                    device.use_batch(&chains, len);
                    for (position, (token, seen)) in batch.iter().enumerate() {
                        let whole = seen.buffers.iter().filter(|(_, write)| *write).map(|(b, _)| b.len).sum();
                        let len = if position + 1 == batch.len() { len } else { whole };
                        used.push_back(Used { token: *token, len });
                    }
                }
                Step::Take => {
                    let taken = ring.take().unwrap();
                    prop_assert_eq!(taken, used.pop_front());
                    free.extend(taken.map(|used| used.token));
                }
            }
        }
    }
}

#[test]
fn ring_takes_as_many_chains_as_it_has_entries() {
    for kind in KINDS {
        let (mut ring, _, _) = ring(kind, 4, RingFeatures::default(), false);
        for token in 0..4 {
            assert!(ring.add(&[Buffer { address: 0, len: 1 }], token));
        }
        assert!(!ring.add(&[Buffer { address: 0, len: 1 }], 0));
        assert!(!ring.add(&[], 0));
    }
}

#[test]
fn kicks_are_for_a_device_that_wants_them() {
    let buffer = [Buffer { address: 0, len: 1 }];
    for (kind, off) in [(RingKind::Split, 1_u32), (RingKind::Packed, 1 << 16)] {
        let (mut ring, _, memory) = ring(kind, 8, RingFeatures::default(), false);
        let device = ring.layout().device;
        assert!(!ring.publish(), "nothing was added");
        assert!(ring.add(&buffer, 0) && ring.publish());
        let keep = memory.mapping.load_u32(device, SeqCst) & 0xffff_0000;
        memory.mapping.store_u32(
            device,
            if kind == RingKind::Split { keep | off } else { off },
            SeqCst,
        );
        assert!(ring.add(&buffer, 1) && !ring.publish());
    }
}

#[test]
fn kicks_by_index_are_for_the_step_that_passes_it() {
    let buffer = [Buffer { address: 0, len: 1 }];
    let features = RingFeatures { event_idx: true, ..RingFeatures::default() };
    for kind in KINDS {
        let (mut ring, _, memory) = ring(kind, 8, features, false);
        let layout = *ring.layout();
        match kind {
            RingKind::Split => memory.mapping.store_u16(layout.device + 4 + 64, 2, SeqCst),
            RingKind::Packed => memory.mapping.store_u32(layout.device, 2 << 16 | 0x8002, SeqCst),
        }
        let mut kicks = |token: u16, count: u16| {
            (0..count).for_each(|n| assert!(ring.add(&buffer, token + n)));
            ring.publish()
        };
        assert_eq!([kicks(0, 2), kicks(2, 1), kicks(3, 3)], [false, true, false], "{kind:?}");
    }
}

#[test]
fn calls_are_asked_for_and_not_missed() {
    for (kind, event_idx) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let features = RingFeatures { event_idx, ..RingFeatures::default() };
        let (mut ring, mut device, _) = ring(kind, 8, features, true);
        assert!(ring.add(&[Buffer { address: 0, len: 9 }], 3));
        ring.publish();
        assert!(!ring.enable_calls());
        let chain = device.next().unwrap();
        device.use_batch(&[chain], 9);
        assert!(ring.enable_calls(), "it was used before calls were on");
        assert_eq!(ring.take(), Ok(Some(Used { token: 3, len: 9 })));
        assert!(!ring.enable_calls());
    }
}

#[test]
fn device_that_uses_what_it_does_not_have_is_found_out() {
    for in_order in [false, true] {
        for kind in KINDS {
            let features = RingFeatures { in_order, ..RingFeatures::default() };
            let (mut ring, mut device, _) = ring(kind, 8, features, true);
            assert!(ring.add(&[Buffer { address: 0, len: 9 }], 0));
            ring.publish();
            let mut chain = device.next().unwrap();
            chain.id = 5;
            device.use_batch(&[chain], 9);
            assert_eq!(ring.take(), Err(DeviceFault::UnknownChain(5)), "{kind:?} {in_order}");
        }
    }
}
