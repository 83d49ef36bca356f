//! Random traffic of two well-behaved drivers, turn by turn, against a model of what must arrive:
//! frames in order, at most once, unchanged, and lost only when there are too few buffers.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::drop_reason::DropReason;

use crate::common::direct::Direct;
use crate::common::driver::{Desc, Driver, DriverRing, INDIRECT, linked};
use crate::common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF};
use crate::common::packed::PackedRing;
use crate::common::{GUEST, NETVM, frame};

/// Each chain may have an indirect table of its own.
const TABLES: u64 = 0x8_0000;

#[derive(Clone, Debug)]
enum Action {
    /// A frame of this length, its header and itself cut at these places, in a table or not.
    Send { up: bool, len: usize, cuts: Vec<u32>, indirect: bool },
    /// Receive buffers.
    Post { up: bool, count: u16 },
    /// The link carries what is there.
    Turn { up: bool },
    /// A driver takes what it has received, and what came back.
    Reap { up: bool },
}

fn action() -> impl Strategy<Value = Action> {
    let send = (any::<bool>(), 60..1515_usize, prop::collection::vec(1..1500_u32, 0..4));
    prop_oneof![
        6 => (send, any::<bool>())
            .prop_map(|((up, len, cuts), indirect)| Action::Send { up, len, cuts, indirect }),
        3 => (any::<bool>(), 0..20_u16).prop_map(|(up, count)| Action::Post { up, count }),
        3 => any::<bool>().prop_map(|up| Action::Turn { up }),
        2 => any::<bool>().prop_map(|up| Action::Reap { up }),
    ]
}

/// One direction, and what is known of it.
#[derive(Default)]
struct Way {
    /// In the transmit ring, and not carried.
    waiting: VecDeque<Vec<u8>>,
    /// Carried, and not seen.
    arrived: VecDeque<Vec<u8>>,
    /// Descriptors of each chain that did not come back.
    chains: VecDeque<u16>,
    /// Where the next chain goes.
    next: u16,
    /// Receive buffers that are not used.
    buffers: usize,
    /// For want of buffers, and as they are too short.
    lost: [u64; 2],
    sent: u32,
}

impl Way {
    /// Puts a frame into the ring, if there is room.
    fn send<R: Driver>(
        &mut self,
        guest: &mut Guest<R>,
        mut frame: Vec<u8>,
        cuts: &[u32],
        indirect: bool,
    ) {
        self.sent += 1;
        frame[40..44].copy_from_slice(&self.sent.to_le_bytes());
        let size = guest.tx.layout().size;
        let head = self.next % size;
        let len = 12 + frame.len() as u32;
        let mut ends: Vec<u32> = cuts.iter().copied().filter(|cut| *cut < len).collect();
        ends.push(len);
        ends.sort_unstable();
        ends.dedup();
        let slots = if indirect { 1 } else { ends.len() as u16 };
        // What came back is free; it comes back in order.
        if self.chains.iter().sum::<u16>() + slots > size {
            return;
        }
        let whole = guest.write_tx(head, &frame);
        let starts = [0].into_iter().chain(ends.iter().copied());
        let chain: Vec<_> = starts
            .zip(&ends)
            .map(|(start, end)| Desc {
                addr: whole.addr + u64::from(start),
                len: end - start,
                ..whole
            })
            .collect();
        if indirect {
            let table = TABLES + 0x100 * u64::from(head);
            for (index, desc) in (0..).zip(linked(&chain)) {
                guest.tx.set_table(table, index, Desc { next: index + 1, ..desc });
            }
            let len = 16 * chain.len() as u32;
            guest.tx.offer(head, &[Desc { addr: table, len, flags: INDIRECT, next: 0 }]);
        } else {
            guest.tx.offer(head, &chain);
        }
        guest.tx.publish();
        self.next = self.next.wrapping_add(slots);
        self.chains.push_back(slots);
        self.waiting.push_back(frame);
    }

    /// What a turn does: the link does not wait for buffers here.
    fn turn(&mut self, mergeable: bool, buffer_len: usize) {
        for frame in self.waiting.drain(..) {
            let needed = (12 + frame.len()).div_ceil(buffer_len);
            if needed > 1 && !mergeable && self.buffers > 0 {
                self.lost[1] += 1;
            } else if needed > self.buffers {
                self.lost[0] += 1;
            } else {
                self.buffers -= needed;
                self.arrived.push_back(frame);
            }
        }
    }

    /// Both drivers look at what the link has done.
    fn reap<S: Driver, T: Driver>(&mut self, sender: &mut Guest<S>, receiver: &mut Guest<T>) {
        while sender.tx.pop_used().is_some() {
            self.chains.pop_front().expect("no chain comes back twice");
        }
        assert_eq!(self.chains.len(), self.waiting.len(), "what was carried has come back");
        while let Some(frame) = self.arrived.pop_front() {
            let received = receiver.receive_within(Duration::ZERO);
            assert_eq!(received.map(|(received, _)| received), Some(frame));
        }
        assert!(receiver.receive_within(Duration::ZERO).is_none());
    }
}

/// What the two drivers negotiated, and how large their rings and buffers are.
#[derive(Clone, Copy, Debug)]
struct Drivers {
    features: u64,
    sizes: [u16; 2],
    buffer_len: u32,
}

fn drivers() -> impl Strategy<Value = Drivers> {
    let features = prop::sample::subsequence(vec![MRG_RXBUF, EVENT_IDX, INDIRECT_DESC], 0..=3);
    let size = || prop::sample::select(vec![4_u16, 8, 16, 64]);
    (features, [size(), size()], 100..2048_u32).prop_map(|(features, sizes, buffer_len)| Drivers {
        features: features.into_iter().sum(),
        sizes,
        buffer_len,
    })
}

fn run<G: Driver, N: Driver>(drivers: Drivers, actions: Vec<Action>) {
    let Drivers { features, sizes, buffer_len } = drivers;
    let mut guest = Guest::<G>::create(features, sizes[0]);
    let mut netvm = Guest::<N>::create(features, sizes[1]);
    guest.rx_buffer_len = buffer_len;
    netvm.rx_buffer_len = buffer_len;
    let mut link = Direct::new(&guest, &netvm);
    let (mut up_way, mut down_way) = (Way::default(), Way::default());
    let end = [true, false].map(|up| Action::Turn { up });
    let last = [true, false].map(|up| Action::Reap { up });
    for action in actions.into_iter().chain(end).chain(last) {
        match action {
            Action::Send { up, len, cuts, indirect } => {
                let indirect = indirect && features & INDIRECT_DESC != 0;
                if up {
                    up_way.send(&mut guest, frame(NETVM, GUEST, len, 1), &cuts, indirect);
                } else {
                    down_way.send(&mut netvm, frame(GUEST, NETVM, len, 2), &cuts, indirect);
                }
            }
            Action::Post { up: true, count } => post(&mut netvm, &mut up_way, count),
            Action::Post { up: false, count } => post(&mut guest, &mut down_way, count),
            Action::Turn { up } => {
                let (from, way) =
                    if up { (EndId::Guest, &mut up_way) } else { (EndId::Netvm, &mut down_way) };
                let (waiting, arrived) = (way.waiting.len(), way.arrived.len());
                way.turn(features & MRG_RXBUF != 0, buffer_len as usize);
                let turn = link.turn(from);
                assert_eq!(turn.frames, waiting);
                assert_eq!(turn.delivered, way.arrived.len() - arrived);
            }
            Action::Reap { up: true } => up_way.reap(&mut guest, &mut netvm),
            Action::Reap { up: false } => down_way.reap(&mut netvm, &mut guest),
        }
    }
    for (from, way) in [(EndId::Guest, up_way), (EndId::Netvm, down_way)] {
        let reasons = [DropReason::NoRxBuffer, DropReason::RxBufferShort];
        assert_eq!(reasons.map(|reason| link.counters.drops(from, reason)), way.lost);
    }
}

fn post<R: Driver>(guest: &mut Guest<R>, way: &mut Way, count: u16) {
    let count = count.min(guest.rx.layout().size - guest.rx.in_flight());
    guest.post_rx(count);
    way.buffers += usize::from(count);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn frames_arrive_in_order_at_most_once_and_unchanged(
        drivers in drivers(),
        actions in prop::collection::vec(action(), 0..200),
    ) {
        run::<DriverRing, DriverRing>(drivers, actions.clone());
        run::<PackedRing, PackedRing>(drivers, actions.clone());
        run::<DriverRing, PackedRing>(drivers, actions);
    }
}
