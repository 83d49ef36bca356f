//! The control queue, as a frontend that passes it on (crosvm) has it; T1 to T16 of the catalogue
//! of hostile input for its chains.

use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::common::driver::{Desc, DriverRing, INDIRECT, NEXT, WRITE};
use crate::common::guest::{
    EVENT_IDX, Guest, INDIRECT_DESC, LOG_ALL, MRG_RXBUF, ring_config, wait_for,
};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, NETVM, frame};
use crate::log::{LOG_LEN, log_file, marked, set_log_base};

const MQ: u64 = 1 << 22;
/// CTRL_VQ, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA.
const CONTROL: u64 = 0xf << 17;
/// Where the ring, the commands and the answers are.
const RING: u64 = 0x6_0000;
const COMMAND: u64 = 0x7_0000;
const ANSWER: u64 = 0x7_8000;
/// What an answer is before it is one.
const NONE: u8 = 0xaa;

/// A card whose control queue is served.
struct Card {
    guest: Guest,
    ring: DriverRing,
    index: usize,
    kick: EventFd,
    call: EventFd,
    error: EventFd,
}

impl Card {
    /// Connects with these features besides those of a control queue, which has this index.
    fn connect(link: &TestLink, features: u64, index: usize) -> Self {
        let mut guest = Guest::new(MRG_RXBUF | CONTROL | features, 64);
        guest.connect(&link.guest_socket());
        let ring = DriverRing::new(&guest.memory, RING, 64);
        let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let mut card =
            Self { guest, ring, index, kick: eventfd(), call: eventfd(), error: eventfd() };
        card.start();
        card
    }

    fn start(&mut self) {
        let frontend = &mut self.guest.session.as_mut().unwrap().frontend;
        frontend.set_vring_num(self.index, 64).unwrap();
        frontend.set_vring_addr(self.index, &ring_config(&self.ring)).unwrap();
        frontend.set_vring_base(self.index, 0).unwrap();
        frontend.set_vring_call(self.index, &self.call).unwrap();
        frontend.set_vring_err(self.index, &self.error).unwrap();
        frontend.set_vring_kick(self.index, &self.kick).unwrap();
        frontend.set_vring_enable(self.index, true).unwrap();
    }

    /// Writes a command and its descriptors, from descriptor 0 on: the command and its answer.
    fn write(&self, command: &[u8]) -> [Desc; 2] {
        self.guest.memory.write_slice(command, GuestAddress(COMMAND)).unwrap();
        self.guest.memory.write_obj(NONE, GuestAddress(ANSWER)).unwrap();
        let len = u32::try_from(command.len()).unwrap();
        let descs = [
            Desc { addr: COMMAND, len, flags: NEXT, next: 1 },
            Desc { addr: ANSWER, len: 1, flags: WRITE, next: 0 },
        ];
        self.ring.set_desc(0, descs[0]);
        self.ring.set_desc(1, descs[1]);
        descs
    }

    /// Offers the chain at `head`.
    fn offer(&mut self, head: u16) {
        self.ring.put_avail(head);
        self.ring.publish();
        self.kick.write(1).unwrap();
    }

    /// The answer to the chain offered last.
    fn answer(&mut self, head: u16) -> u8 {
        let mut used = None;
        assert!(wait_for(|| {
            used = used.or_else(|| self.ring.pop_used());
            used.is_some()
        }));
        assert_eq!(used, Some((head.into(), 1)));
        assert!(wait_for(|| self.call.read().is_ok()));
        self.guest.memory.read_obj(GuestAddress(ANSWER)).unwrap()
    }

    fn ask(&mut self, command: &[u8]) -> u8 {
        self.write(command);
        self.offer(0);
        self.answer(0)
    }
}

fn link(queue_pairs: usize) -> TestLink {
    TestLink::with(Options { queue_pairs, ..Options::default() })
}

#[test]
fn commands_are_answered_by_rule() {
    for ring_features in [0, EVENT_IDX | INDIRECT_DESC] {
        let link = link(4);
        let mut card = Card::connect(&link, MQ | ring_features, 8);
        // More than the ring has entries, so that it wraps.
        for _ in 0..10 {
            for (command, answer) in [
                (&[4, 0, 2, 0][..], 0),
                (&[4, 0, 4, 0], 0),
                (&[4, 0, 5, 0], 1),
                (&[4, 0, 0, 0], 1),
                (&[0, 0, 1], 0),
                (&[0, 5, 1], 0),
                (&[0, 6, 1], 1),
                (&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
                (&[1, 1, 2, 0, 0, 0, 0, 9], 1),
                (&[2, 0, 0xff, 0x0f], 0),
                (&[2, 0, 0, 0x10], 1),
                (&[3, 0], 1),
                (&[], 1),
            ] {
                assert_eq!(card.ask(command), answer, "{command:?}");
            }
        }
        let report = link.report();
        assert_eq!(report.guest.ring_faults, 0);
    }
}

#[test]
fn t51_control_queue_without_multiqueue_is_the_third() {
    let link = link(4);
    let mut card = Card::connect(&link, 0, 2);
    assert_eq!(card.ask(&[0, 0, 1]), 0);
    assert_eq!(card.ask(&[4, 0, 1, 0]), 1, "there are no pairs to set");
    // The ring at the place it would have with several pairs is none.
    let mut other = card;
    other.index = 8;
    other.ring = DriverRing::new(&other.guest.memory, 0x6_8000, 64);
    other.start();
    other.write(&[0, 0, 1]);
    other.offer(0);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(other.ring.pop_used(), None);
}

#[test]
fn command_in_pieces_and_in_a_table_is_understood() {
    let link = link(2);
    let mut card = Card::connect(&link, MQ | INDIRECT_DESC, 4);
    let [command, answer] = card.write(&[4, 0, 2, 0]);
    for piece in 0..4 {
        let desc =
            Desc { addr: command.addr + u64::from(piece), len: 1, flags: NEXT, next: piece + 1 };
        card.ring.set_desc(piece, desc);
    }
    card.ring.set_desc(4, answer);
    card.offer(0);
    assert_eq!(card.answer(0), 0);
    let table = 0x7_c000;
    let [command, answer] = card.write(&[4, 0, 3, 0]);
    card.ring.set_desc_at(table, 0, command);
    card.ring.set_desc_at(table, 1, answer);
    card.ring.set_desc(7, Desc { addr: table, len: 32, flags: INDIRECT, next: 0 });
    card.offer(7);
    assert_eq!(card.answer(7), 1);
}

#[test]
fn t16_command_of_any_length_costs_no_memory_and_is_refused() {
    let link = link(2);
    let mut card = Card::connect(&link, MQ, 4);
    for len in [8193, 0x10_0000, u32::MAX] {
        let [command, _] = card.write(&[0, 0, 1]);
        card.ring.set_desc(0, Desc { len, ..command });
        card.offer(0);
        assert_eq!(card.answer(0), 1, "{len}");
    }
    assert_eq!(card.ask(&[0, 0, 1]), 0, "and the ring goes on");
}

#[test]
fn t1_to_t16_hostile_control_chains_stop_the_control_ring_and_nothing_else() {
    type Prepare = fn(&Card);
    let bad: [(&str, u64, Prepare); 14] = [
        ("t1 loop", 0, |card| {
            card.ring.set_desc(0, Desc { addr: COMMAND, len: 1, flags: NEXT, next: 0 });
        }),
        ("t2 loop of two", 0, |card| {
            card.ring.set_desc(1, Desc { addr: COMMAND, len: 1, flags: NEXT, next: 0 });
        }),
        ("t3 next outside the table", 0, |card| {
            card.ring.set_desc(0, Desc { addr: COMMAND, len: 1, flags: NEXT, next: 64 });
        }),
        ("t8 table in a table", INDIRECT_DESC, |card| {
            let inner = Desc { addr: 0x7_d000, len: 16, flags: INDIRECT, next: 0 };
            card.ring.set_desc_at(0x7_c000, 0, inner);
            card.ring.set_desc(0, Desc { addr: 0x7_c000, len: 16, flags: INDIRECT, next: 0 });
        }),
        ("t9 table and next", INDIRECT_DESC, |card| {
            card.ring
                .set_desc(0, Desc { addr: 0x7_c000, len: 16, flags: INDIRECT | NEXT, next: 1 });
        }),
        ("t10 empty table", INDIRECT_DESC, |card| {
            card.ring.set_desc(0, Desc { addr: 0x7_c000, len: 0, flags: INDIRECT, next: 0 });
        }),
        ("t10 table of half a descriptor", INDIRECT_DESC, |card| {
            card.ring.set_desc(0, Desc { addr: 0x7_c000, len: 24, flags: INDIRECT, next: 0 });
        }),
        ("t10 table longer than the ring", INDIRECT_DESC, |card| {
            card.ring.set_desc(0, Desc { addr: 0x7_c000, len: 65 * 16, flags: INDIRECT, next: 0 });
        }),
        ("t11 table outside memory", INDIRECT_DESC, |card| {
            card.ring.set_desc(0, Desc { addr: u64::MAX - 15, len: 32, flags: INDIRECT, next: 0 });
        }),
        ("t13 table that was not negotiated", 0, |card| {
            card.ring.set_desc(0, Desc { addr: 0x7_c000, len: 16, flags: INDIRECT, next: 0 });
        }),
        ("t14 command outside memory", 0, |card| {
            card.ring.set_desc(0, Desc { addr: u64::MAX, len: 2, flags: NEXT, next: 1 });
        }),
        ("t14 answer outside memory", 0, |card| {
            card.ring.set_desc(1, Desc { addr: 1 << 40, len: 1, flags: WRITE, next: 0 });
        }),
        ("t15 no room for an answer", 0, |card| {
            card.ring.set_desc(1, Desc { addr: ANSWER, len: 0, flags: WRITE, next: 0 });
        }),
        ("t19 readable after writable", 0, |card| {
            card.ring.set_desc(0, Desc { addr: ANSWER, len: 1, flags: WRITE | NEXT, next: 1 });
            card.ring.set_desc(1, Desc { addr: COMMAND, len: 1, flags: 0, next: 0 });
        }),
    ];
    let link = link(2);
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    for (faults, (name, features, prepare)) in (1..).zip(bad) {
        let mut card = Card::connect(&link, MQ | features, 4);
        assert_eq!(card.ask(&[0, 0, 1]), 0);
        card.write(&[0, 0, 1]);
        prepare(&card);
        card.offer(0);
        stopped(&mut card, name);
        assert_eq!(link.report().guest.ring_faults, faults, "{name}");
        // Frames go on.
        let sent = frame(NETVM, GUEST, 60, 1);
        card.guest.send(&sent);
        assert_eq!(netvm.receive(), sent);
        netvm.fill_rx();
        // A new start heals it.
        card.guest.session().frontend.get_vring_base(4).unwrap();
        card.ring.reset();
        card.start();
        assert_eq!(card.ask(&[0, 0, 1]), 0, "{name}");
        card.guest.disconnect();
        link.report_when(|report| !report.guest.connected);
    }
}

#[test]
fn t4_t6_indices_that_are_none_stop_the_control_ring() {
    let link = link(2);
    for (head, idx) in [(64, 1), (0xffff, 1), (0, 66), (0, 0xffff), (0, 0x8000)] {
        let mut card = Card::connect(&link, MQ, 4);
        card.write(&[0, 0, 1]);
        card.ring.put_avail(head);
        card.ring.store_avail_idx(idx);
        card.kick.write(1).unwrap();
        stopped(&mut card, &format!("{head} {idx}"));
        card.guest.disconnect();
        link.report_when(|report| !report.guest.connected);
    }
}

/// The control ring stops, and says so.
fn stopped(card: &mut Card, name: &str) {
    assert!(wait_for(|| card.error.read().is_ok()), "{name}");
    let used = card.ring.used_idx();
    card.write(&[0, 0, 1]);
    card.kick.write(1).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(card.ring.used_idx(), used, "{name}");
}

#[test]
fn logged_memory_holds_answers_and_used_entries() {
    let link = link(2);
    let mut card = Card::connect(&link, MQ, 4);
    let log = log_file(LOG_LEN);
    set_log_base(&mut card.guest, &log);
    assert_eq!(card.ask(&[0, 0, 1]), 0);
    assert!(marked(&log).is_empty(), "logging is not on");
    let features = card.guest.features | LOG_ALL;
    card.guest.session().frontend.set_features(features).unwrap();
    assert_eq!(card.ask(&[0, 0, 1]), 0);
    let written = [ANSWER, card.ring.layout.used].map(|address| address as usize / 4096);
    assert!(wait_for(|| written.iter().all(|page| marked(&log).contains(page))));
}

#[test]
fn t27_driver_that_floods_the_control_queue_gets_little_of_the_processor() {
    let link = link(2);
    let mut card = Card::connect(&link, MQ, 4);
    card.write(&[0, 0, 1]);
    let start = std::time::Instant::now();
    let mut answered = 0_u32;
    while start.elapsed() < Duration::from_millis(300) {
        while card.ring.avail_idx.wrapping_sub(card.ring.last_used) < 64 {
            card.ring.put_avail(0);
        }
        card.ring.publish();
        card.kick.write(1).unwrap();
        while card.ring.pop_used().is_some() {
            answered += 1;
        }
    }
    assert!((1..=310 * 64).contains(&answered), "{answered}");
    // Meanwhile it can be stopped, at once.
    let stop = std::time::Instant::now();
    card.guest.session().frontend.get_vring_base(4).unwrap();
    assert!(stop.elapsed() < Duration::from_secs(1));
}

#[test]
fn thread_of_a_control_queue_ends_with_its_session() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "control-netvm")
            .count()
    };
    // No other test serves a control queue at netvm's end.
    let link = link(2);
    let mut netvm = Guest::new(MRG_RXBUF | CONTROL | MQ, 64);
    netvm.connect(&link.netvm_socket());
    let ring = DriverRing::new(&netvm.memory, RING, 64);
    let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
    let mut card =
        Card { guest: netvm, ring, index: 4, kick: eventfd(), call: eventfd(), error: eventfd() };
    card.start();
    assert_eq!(card.ask(&[4, 0, 2, 0]), 0);
    assert_eq!(threads(), 1);
    card.guest.disconnect();
    link.report_when(|report| !report.netvm.connected);
    assert!(wait_for(|| threads() == 0));
}
