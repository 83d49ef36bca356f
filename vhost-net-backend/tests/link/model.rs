//! The ring walker against a slow, obvious model, and against virtio-queue where that is right, on
//! random descriptor tables.

use proptest::prelude::*;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::drop_reason::DropReason;
use vhost_net_backend::datapath::memory::Memory;
use vhost_net_backend::datapath::ring::chain::Chains;
use vhost_net_backend::datapath::ring::split::SplitRing;
use vhost_net_backend::datapath::ring::{Direction, Ring, RingUse};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::common::direct::Direct;
use crate::common::driver::{Desc, DriverRing, INDIRECT, NEXT, WRITE};
use crate::common::guest::{Guest, MEMORY_LEN, MRG_RXBUF};
use crate::common::{GUEST, NETVM};

/// Where indirect tables may lie, each with room for [`TABLE_LEN`] descriptors.
const TABLES: [u64; 2] = [0x8_0000, 0x9_0000];
const TABLE_LEN: u16 = 20;
const END: u64 = MEMORY_LEN as u64;

fn descriptor() -> impl Strategy<Value = Desc> {
    let addr = prop_oneof![
        10 => 0x10_0000..0x20_0000_u64,
        2 => Just(END - 8),
        1 => END..END + 100,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![10 => 0..2000_u32, 2 => 0..20_u32, 1 => any::<u32>()];
    let next = prop_oneof![20 => 0..TABLE_LEN, 1 => any::<u16>()];
    let flags = prop_oneof![10 => Just(0), 10 => Just(NEXT), 1 => Just(WRITE), 1 => any::<u16>()];
    let plain = (addr, len, flags, next).prop_map(|(addr, len, flags, next)| Desc {
        addr,
        len,
        flags,
        next,
    });
    let table = prop_oneof![20 => Just(TABLES[0]), 5 => Just(TABLES[1]), 1 => Just(END - 16)];
    let len = prop_oneof![20 => (1..=u32::from(TABLE_LEN)).prop_map(|n| n * 16), 1 => any::<u32>()];
    let flags = prop_oneof![20 => Just(INDIRECT), 1 => Just(INDIRECT | NEXT)];
    let indirect =
        (table, len, flags).prop_map(|(addr, len, flags)| Desc { addr, len, flags, next: 0 });
    prop_oneof![6 => plain, 1 => indirect]
}

fn descriptors(len: usize) -> impl Strategy<Value = Vec<Desc>> {
    prop::collection::vec(descriptor(), len)
}

/// The rules of virtio 1.2, 2.7.5, one after the other.
fn model(ring: &[Desc], tables: &[Vec<Desc>; 2], head: u16) -> Option<Vec<(u64, u32)>> {
    let limit = ring.len();
    let is_mapped = |addr: u64, len: u64| addr.checked_add(len).is_some_and(|end| end <= END);
    let mut chain = Vec::new();
    let mut table = ring;
    let mut inside = false;
    let mut index = usize::from(head);
    let mut steps = 0;
    loop {
        let desc = *table.get(index)?;
        steps += 1;
        if steps > limit + 1 {
            return None;
        }
        if desc.flags & INDIRECT != 0 {
            let entries = (desc.len / 16) as usize;
            let is_whole = desc.len % 16 == 0 && entries > 0 && entries <= limit;
            if inside || desc.flags & NEXT != 0 || !is_whole {
                return None;
            }
            if !is_mapped(desc.addr, desc.len.into()) {
                return None;
            }
            let position = TABLES.iter().position(|table| *table == desc.addr);
            // The last 16 bytes of memory hold a zero descriptor; other addresses are not given.
            table = match position {
                Some(position) => tables[position].get(..entries)?,
                None if desc.addr == END - 16 => &[ZERO],
                None => return Some(vec![(u64::MAX, 0)]),
            };
            inside = true;
            index = 0;
            continue;
        }
        if desc.flags & WRITE != 0 {
            return None;
        }
        if desc.len > 0 {
            if !is_mapped(desc.addr, desc.len.into()) {
                return None;
            }
            chain.push((desc.addr, desc.len));
        }
        if desc.flags & NEXT == 0 {
            return Some(chain);
        }
        index = usize::from(desc.next);
    }
}

const ZERO: Desc = Desc { addr: 0, len: 0, flags: 0, next: 0 };
/// What the model says when it does not know.
const UNKNOWN: (u64, u32) = (u64::MAX, 0);

fn guest_with(ring: &[Desc], tables: &[Vec<Desc>; 2], head: u16) -> (Guest, DriverRing) {
    let guest = Guest::new(0, u16::try_from(ring.len()).unwrap());
    let mut driver = guest.tx.clone();
    for (index, desc) in (0..).zip(ring) {
        driver.set_desc(index, *desc);
    }
    for (base, table) in TABLES.iter().zip(tables) {
        for (index, desc) in (0..).zip(table) {
            driver.set_desc_at(*base, index, *desc);
        }
    }
    driver.put_avail(head);
    driver.publish();
    (guest, driver)
}

fn sizes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1_usize, 2, 4, 8, 16])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn walker_agrees_with_the_model(
        (ring, head) in sizes().prop_flat_map(|size| {
            let head = prop_oneof![20 => 0..u16::try_from(size).unwrap(), 1 => any::<u16>()];
            (descriptors(size), head)
        }),
        first in descriptors(TABLE_LEN.into()),
        second in descriptors(TABLE_LEN.into()),
    ) {
        let tables = [first, second];
        let expected = model(&ring, &tables, head);
        prop_assume!(expected.as_deref() != Some(&[UNKNOWN]));
        let (guest, driver) = guest_with(&ring, &tables, head);
        let memory = Memory::new(&guest.memory, None);
        let usage = RingUse { direction: Direction::Read, indirect: true, event_idx: false };
        let mut walker = SplitRing::start(&memory, driver.layout, usage).unwrap();
        let mut chains = Chains::default();
        let taken = walker.take(&memory, &mut chains, 1);
        match &expected {
            None => prop_assert!(taken.is_err() && chains.is_empty(), "{taken:?}"),
            Some(expected) => {
                prop_assert_eq!(taken, Ok(()));
                let chain = chains.get(0).unwrap();
                let got: Vec<_> = chains
                    .segments(chain)
                    .iter()
                    .map(|segment| (memory.address(segment).unwrap(), segment.len() as u32))
                    .collect();
                prop_assert_eq!(&got, expected);
                prop_assert_eq!(chain.id(), head);
                let bytes: u64 = expected.iter().map(|(_, len)| u64::from(*len)).sum();
                prop_assert_eq!(chains.bytes(chain), bytes);
                // What the model accepts, virtio-queue reads alike.
                let mut queue = Queue::new(driver.layout.size).unwrap();
                queue.set_size(driver.layout.size);
                queue.try_set_desc_table_address(GuestAddress(driver.layout.descriptors)).unwrap();
                queue.try_set_avail_ring_address(GuestAddress(driver.layout.available)).unwrap();
                queue.try_set_used_ring_address(GuestAddress(driver.layout.used)).unwrap();
                queue.set_ready(true);
                let reference: Vec<_> = queue
                    .pop_descriptor_chain(&*guest.memory)
                    .unwrap()
                    .filter(|desc| desc.len() > 0)
                    .map(|desc| (desc.addr().0, desc.len()))
                    .collect();
                prop_assert_eq!(&reference, expected);
            }
        }
    }

    #[test]
    fn frame_in_random_pieces_arrives_whole_in_random_buffers(
        body in prop::collection::vec(any::<u8>(), 46..1500),
        cuts in prop::collection::vec(1..1600_usize, 0..7),
        buffers in prop::collection::vec(1..700_u32, 1..16),
        mergeable: bool,
    ) {
        let features = if mergeable { MRG_RXBUF } else { 0 };
        let (mut target, netvm) = (Guest::new(features, 16), Guest::new(features, 16));
        let payload = [&GUEST.octets()[..], &NETVM.octets(), &[0x08, 0x00], &body].concat();
        // Out of one guest, in up to eight pieces.
        let mut driver = netvm.tx.clone();
        let whole = netvm.write_tx(0, &payload);
        let total = 12 + payload.len();
        let mut ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < total).collect();
        ends.push(total);
        ends.sort_unstable();
        ends.dedup();
        let mut start = 0;
        for (index, end) in ends.iter().enumerate() {
            let is_last = index + 1 == ends.len();
            let addr = whole.addr + start as u64;
            let len = (end - start) as u32;
            let flags = if is_last { 0 } else { NEXT };
            driver.set_desc(index as u16, Desc { addr, len, flags, next: index as u16 + 1 });
            start = *end;
        }
        driver.put_avail(0);
        driver.publish();

        // Into another, with buffers of these sizes, in memory that is not zero.
        let area = 0x40_0000;
        target.memory.write_slice(&[0xa5; 0x4000], GuestAddress(area)).unwrap();
        for (index, len) in (0..).zip(&buffers) {
            let addr = area + u64::from(index) * 1024;
            target.rx.set_desc(index, Desc { addr, len: *len, flags: WRITE, next: 0 });
            target.rx.put_avail(index);
        }
        target.rx.publish();
        let mut link = Direct::new(&target, &netvm);
        let turn = link.turn(EndId::Netvm);
        prop_assert_eq!(turn.frames, 1);
        let room: u32 = if mergeable { buffers.iter().sum() } else { buffers[0] };
        let fits = room as usize >= total;
        prop_assert_eq!(turn.delivered, usize::from(fits));
        let mut bytes = Vec::new();
        let mut used = 0_u16;
        while let Some((id, len)) = target.rx.pop_used() {
            let addr = area + u64::from(id) * 1024;
            let mut part = vec![0; 1024];
            target.memory.read_slice(&mut part, GuestAddress(addr)).unwrap();
            let (written, rest) = part.split_at(len as usize);
            prop_assert!(rest.iter().all(|byte| *byte == 0xa5), "nothing is written past it");
            bytes.extend_from_slice(written);
            used += 1;
        }
        if fits {
            prop_assert_eq!(&bytes[..10], &[0; 10]);
            prop_assert_eq!(u16::from_le_bytes([bytes[10], bytes[11]]), used);
            prop_assert_eq!(&bytes[12..], &payload[..]);
        } else {
            let drops = [DropReason::NoRxBuffer, DropReason::RxBufferShort]
                .map(|reason| link.counters.drops(EndId::Netvm, reason));
            prop_assert_eq!(drops, if mergeable { [1, 0] } else { [0, 1] });
            prop_assert_eq!(used, 0);
            let mut all = vec![0; 0x4000];
            target.memory.read_slice(&mut all, GuestAddress(area)).unwrap();
            prop_assert!(all.iter().all(|byte| *byte == 0xa5), "nothing of it is written");
            // The buffers can still be used for a frame that fits.
            if room >= 72 {
                let small = netvm.write_tx(8, &payload[..60]);
                driver.set_desc(8, small);
                driver.put_avail(8);
                driver.publish();
                prop_assert_eq!(link.turn(EndId::Netvm).delivered, 1);
            }
        }
    }
}
