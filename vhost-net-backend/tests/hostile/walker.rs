//! The walker of packed rings against a slow, obvious model, on random descriptors. (Split rings
//! have their model in the tests of links, where virtio-queue is another one.)

use proptest::prelude::*;
use vhost_net_backend::datapath::memory::Memory;
use vhost_net_backend::datapath::ring::chain::Chains;
use vhost_net_backend::datapath::ring::packed::PackedRing as Walker;
use vhost_net_backend::datapath::ring::{Direction, Ring, RingUse};

use crate::common::driver::{Desc, Driver, INDIRECT, NEXT, WRITE};
use crate::common::guest::{Guest, MEMORY_LEN};
use crate::common::packed::{AVAIL, PackedRing, Place, USED};

const TABLE: u64 = 0x8_0000;
const TABLE_LEN: u16 = 20;
const END: u64 = MEMORY_LEN as u64;

/// A descriptor without the flags of its lap; its id is in `next`.
fn descriptor() -> impl Strategy<Value = Desc> {
    let addr = prop_oneof![
        20 => 0x10_0000..0x20_0000_u64,
        1 => Just(END - 8),
        1 => END..END + 100,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![10 => 0..2000_u32, 2 => 0..20_u32, 1 => any::<u32>()];
    let flags = prop_oneof![12 => Just(0), 12 => Just(NEXT), 1 => Just(WRITE), 1 => 0..8_u16];
    let plain = (addr, len, flags, any::<u16>()).prop_map(|(addr, len, flags, next)| Desc {
        addr,
        len,
        flags,
        next,
    });
    let table = prop_oneof![20 => Just(TABLE), 1 => Just(END - 16)];
    let len = prop_oneof![20 => (1..=u32::from(TABLE_LEN)).prop_map(|n| n * 16), 1 => any::<u32>()];
    let flags = prop_oneof![20 => Just(INDIRECT), 1 => Just(INDIRECT | NEXT)];
    let indirect = (table, len, flags, any::<u16>()).prop_map(|(addr, len, flags, next)| Desc {
        addr,
        len,
        flags,
        next,
    });
    prop_oneof![6 => plain, 1 => indirect]
}

/// Whether the flags say what they should of a descriptor that is available, or something else.
fn lap() -> impl Strategy<Value = Option<u16>> {
    let other = prop::sample::select(vec![0, AVAIL, USED, AVAIL | USED]);
    prop_oneof![12 => Just(None), 1 => other.prop_map(Some)]
}

/// What comes of the ring.
#[derive(Debug, PartialEq)]
enum Outcome {
    Nothing,
    Fault,
    /// Id, descriptors of the ring, and what they name.
    Chain(u16, u16, Vec<(u64, u32)>),
}

/// The rules of virtio 1.2, 2.8, one after the other. The ring's descriptors are given with all of
/// their flags, in the order in which the device comes to them.
fn model(ring: &[(Desc, bool)], table: &[Desc]) -> Outcome {
    let is_mapped = |addr: u64, len: u32| {
        len == 0 || addr.checked_add(len.into()).is_some_and(|end| end <= END)
    };
    let is_available = |(desc, wrap): &(Desc, bool)| {
        (desc.flags & AVAIL != 0) == *wrap && (desc.flags & USED != 0) != *wrap
    };
    if !is_available(&ring[0]) {
        return Outcome::Nothing;
    }
    let mut chain = Vec::new();
    for (number, slot) in ring.iter().enumerate() {
        let desc = slot.0;
        if !is_available(slot) {
            return Outcome::Fault;
        }
        let slots = number as u16 + 1;
        if desc.flags & INDIRECT != 0 {
            let entries = (desc.len / 16) as usize;
            let is_whole = desc.len % 16 == 0 && entries > 0 && entries <= ring.len();
            if number > 0 || desc.flags & NEXT != 0 || !is_whole || !is_mapped(desc.addr, desc.len)
            {
                return Outcome::Fault;
            }
            // All other memory is zero: descriptors that are empty.
            let zero = vec![Desc::default(); entries];
            let table = if desc.addr == TABLE { table } else { &zero };
            for entry in &table[..entries] {
                if entry.flags & (INDIRECT | WRITE) != 0 || !is_mapped(entry.addr, entry.len) {
                    return Outcome::Fault;
                }
                chain.push((entry.addr, entry.len));
            }
            chain.retain(|(_, len)| *len > 0);
            return Outcome::Chain(desc.next, slots, chain);
        }
        if desc.flags & WRITE != 0 || !is_mapped(desc.addr, desc.len) {
            return Outcome::Fault;
        }
        chain.push((desc.addr, desc.len));
        if desc.flags & NEXT == 0 {
            chain.retain(|(_, len)| *len > 0);
            return Outcome::Chain(desc.next, slots, chain);
        }
    }
    Outcome::Fault
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn packed_walker_agrees_with_the_model(
        ring in prop::sample::select(vec![1_usize, 2, 4, 8, 16])
            .prop_flat_map(|size| prop::collection::vec((descriptor(), lap()), size)),
        table in prop::collection::vec(descriptor(), usize::from(TABLE_LEN)),
        start: u16,
        wrap: bool,
    ) {
        let size = ring.len() as u16;
        let start = Place { slot: start % size, wrap };
        let mut guest = Guest::<PackedRing>::create(0, size);
        // In the order in which the device comes to them.
        let ring: Vec<_> = (0..).zip(&ring).map(|(number, (desc, lap))| {
            let place = start.after(number, size);
            let desc = Desc { flags: desc.flags | lap.unwrap_or(place.avail_flags()), ..*desc };
            guest.tx.set_desc(place.slot, desc);
            guest.tx.set_flags(place.slot, desc.flags);
            (desc, place.wrap)
        }).collect();
        for (index, entry) in (0..).zip(&table) {
            guest.tx.set_table(TABLE, index, *entry);
        }
        let expected = model(&ring, &table);

        let memory = Memory::new(&guest.memory, None);
        let usage = RingUse { direction: Direction::Read, indirect: true, event_idx: false };
        let mut walker = Walker::start(&memory, guest.tx.layout, usage, start.bits()).unwrap();
        let mut chains = Chains::default();
        let taken = walker.take(&memory, &mut chains, 1);
        let outcome = match (taken, chains.get(0).copied()) {
            (Err(_), None) => Outcome::Fault,
            (Ok(()), None) => Outcome::Nothing,
            (Ok(()), Some(chain)) => {
                let segments = chains.segments(&chain).iter();
                let named = segments.map(|at| (memory.address(at).unwrap(), at.len() as u32));
                Outcome::Chain(chain.id(), chain.slots(), named.collect())
            }
            (Err(fault), Some(_)) => panic!("{fault} and a chain"),
        };
        prop_assert_eq!(&outcome, &expected);
        // What is used appears where the driver looks for it, with the id it gave.
        if let Outcome::Chain(id, slots, _) = outcome {
            let chain = *chains.get(0).unwrap();
            walker.push_used(&memory, &chain, 7).unwrap();
            prop_assert_eq!(guest.tx.flags(start.slot), ring[0].0.flags, "not before it is shown");
            walker.publish(&memory).unwrap();
            guest.tx.used = start;
            guest.tx.next = start;
            guest.tx.expect(id, slots);
            prop_assert_eq!(guest.tx.pop_used(), Some((id.into(), 7)));
            prop_assert_eq!(walker.base(), start.after(slots, size).bits());
        }
    }
}
