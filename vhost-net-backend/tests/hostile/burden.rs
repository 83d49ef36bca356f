//! T12, T16: how much a driver can have the link do in one turn, and hold in its memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::memory::Memory;
use vhost_net_backend::datapath::ring::chain::Chains;
use vhost_net_backend::datapath::ring::split::SplitRing;
use vhost_net_backend::datapath::ring::{Direction, MAX_CHAIN, Ring, RingFault, RingUse};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::common::direct::Direct;
use crate::common::driver::{Desc, Driver, DriverRing, INDIRECT, NEXT, WRITE};
use crate::common::guest::{Guest, INDIRECT_DESC, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame, on_both};

/// The longest ring there can be, and where tests put it.
const LONG: u16 = 32768;
const LONG_RING: u64 = 0x60_0000;
const TABLE: u64 = 0x50_0000;
/// Longest chains that may be walked in a turn: 8192 descriptors' worth.
const IN_A_TURN: usize = 8;

on_both! {
    t12_longest_indirect_chains_end_a_turn_early,
    t12_longest_chains_of_empty_descriptors_end_a_turn_early,
    t12_chains_longer_than_a_device_need_take_are_refused,
    t12_t29_longest_receive_chains_end_a_turn_early,
}

/// A guest with a transmit ring of full length, and a netvm.
fn ends<R: Driver>() -> (Guest<R>, Guest<R>) {
    let features = MRG_RXBUF | INDIRECT_DESC;
    let guest = Guest::with_rings(features, (0, 64), (LONG_RING, LONG));
    let mut netvm = Guest::create(features, 64);
    netvm.fill_rx();
    (guest, netvm)
}

/// Turns until every chain came back; none takes more than its share.
fn takes_turns<R: Driver>(guest: &mut Guest<R>, netvm: &Guest<R>, chains: usize) {
    let mut link = Direct::new(guest, netvm);
    let mut seen = 0;
    while seen < chains {
        let start = Instant::now();
        let turn = link.turn(EndId::Guest);
        // Some 0.1 ms where it is compiled for speed.
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        assert!((1..=IN_A_TURN).contains(&turn.frames), "{turn:?}");
        seen += turn.frames;
    }
    assert_eq!(seen, chains);
}

fn t12_longest_indirect_chains_end_a_turn_early<R: Driver>() {
    let (mut guest, netvm) = ends::<R>();
    for index in 0..MAX_CHAIN {
        let more = if index + 1 < MAX_CHAIN { NEXT } else { 0 };
        guest.tx.set_table(TABLE, index, Desc { flags: more, next: index + 1, ..Desc::default() });
    }
    let len = 16 * u32::from(MAX_CHAIN);
    for id in 0..200 {
        guest.tx.offer(id, &[Desc { addr: TABLE, len, flags: INDIRECT, next: 0 }]);
    }
    guest.tx.publish();
    takes_turns(&mut guest, &netvm, 200);
}

fn t12_longest_chains_of_empty_descriptors_end_a_turn_early<R: Driver>() {
    let (mut guest, netvm) = ends::<R>();
    let chain = vec![Desc::default(); MAX_CHAIN.into()];
    for number in 0..LONG / MAX_CHAIN {
        guest.tx.offer(number * MAX_CHAIN, &chain);
    }
    guest.tx.publish();
    takes_turns(&mut guest, &netvm, (LONG / MAX_CHAIN).into());
}

fn t12_chains_longer_than_a_device_need_take_are_refused<R: Driver>() {
    for (len, is_direct) in [(MAX_CHAIN + 2, true), (MAX_CHAIN + 1, false), (LONG - 1, true)] {
        let (mut guest, netvm) = ends::<R>();
        if is_direct {
            guest.tx.offer(0, &vec![Desc::default(); len.into()]);
        } else {
            let len = 16 * u32::from(len);
            guest.tx.offer(0, &[Desc { addr: TABLE, len, flags: INDIRECT, next: 0 }]);
        }
        guest.tx.publish();
        let mut link = Direct::new(&guest, &netvm);
        assert_eq!(link.turn(EndId::Guest).frames, 0);
        assert!(link.ends[0].source(0).is_none(), "the ring has stopped");
    }
}

/// Each frame takes 64 buffers that are 1024 descriptors each, nearly all of them empty.
fn t12_t29_longest_receive_chains_end_a_turn_early<R: Driver>() {
    let features = MRG_RXBUF | INDIRECT_DESC;
    let mut guest = Guest::<R>::create(features, 256);
    let mut netvm = Guest::<R>::with_rings(features, (LONG_RING, 4096), (0, 64));
    for index in 0..MAX_CHAIN {
        let is_last = index + 1 == MAX_CHAIN;
        let flags = WRITE | if is_last { 0 } else { NEXT };
        let len = if is_last { 24 } else { 0 };
        netvm.rx.set_table(TABLE, index, Desc { addr: 0x20_0000, len, flags, next: index + 1 });
    }
    let len = 16 * u32::from(MAX_CHAIN);
    for id in 0..4096 {
        netvm.rx.offer(id, &[Desc { addr: TABLE, len, flags: INDIRECT | WRITE, next: 0 }]);
    }
    netvm.rx.publish();
    let mut link = Direct::new(&guest, &netvm);
    let mut walked = 0;
    for _ in 0..20 {
        for _ in 0..8 {
            guest.post(&frame(NETVM, GUEST, 1500, 1));
        }
        let start = Instant::now();
        let turn = link.turn(EndId::Guest);
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        let mut buffers = 0;
        while netvm.rx.pop_used().is_some() {
            buffers += 1;
        }
        assert_eq!(buffers, 63 * turn.delivered);
        walked += buffers;
        assert!(walked <= 20 * IN_A_TURN, "{walked} chains");
    }
    assert!(walked > 0, "the driver gets its frames, if slowly");
}

/// What a chain takes of the link's memory does not grow with the number of regions.
#[test]
fn t16_descriptors_over_hundreds_of_regions_take_bounded_memory() {
    const PAGE: usize = 4096;
    let regions: Vec<_> = (0..500).map(|page| (GuestAddress((page * PAGE) as u64), PAGE)).collect();
    // The ring lies in a region of its own, behind a hole.
    let ring = 0x100_0000;
    let ranges = [&regions[..], &[(GuestAddress(ring), 1 << 20)]].concat();
    let mapped = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
    let memory = Memory::new(&mapped, None);
    let usage = RingUse { direction: Direction::Read, indirect: false, event_idx: false };
    let all = Desc { addr: 0, len: (500 * PAGE) as u32, flags: 0, next: 0 };
    for (descriptors, is_good) in [(1, true), (2, true), (4, false), (MAX_CHAIN, false)] {
        let mut driver = DriverRing::new(&mapped, ring, 2048);
        driver.reset();
        driver.offer(0, &vec![all; descriptors.into()]);
        driver.publish();
        let mut walker = SplitRing::start(&memory, driver.layout, usage).unwrap();
        let mut chains = Chains::with_capacity(2048);
        let taken = walker.take(&memory, &mut chains, 64);
        if is_good {
            assert_eq!(taken, Ok(()));
            let chain = *chains.get(0).unwrap();
            assert_eq!(chains.segments(&chain).len(), 500 * usize::from(descriptors));
            assert_eq!(chains.bytes(&chain), u64::from(descriptors) * u64::from(all.len));
        } else {
            assert_eq!(taken, Err(RingFault::Loop(0)));
        }
    }
}
