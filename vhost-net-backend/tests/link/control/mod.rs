//! The control queue, as a frontend that passes it on (crosvm) has it, split and packed.

mod hostile;

use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::common::driver::{Desc, Driver, INDIRECT, WRITE};
use crate::common::guest::{
    EVENT_IDX, Guest, INDIRECT_DESC, LOG_ALL, MRG_RXBUF, ring_config, wait_for,
};
use crate::common::link::{Options, TestLink};
use crate::common::on_both;
use crate::log::{LOG_LEN, log_file, marked, set_log_base};

const MQ: u64 = 1 << 22;
/// CTRL_VQ, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA.
const CONTROL: u64 = 0xf << 17;
/// Where the ring, the commands, the answers and indirect tables are.
const RING: u64 = 0x6_0000;
const COMMAND: u64 = 0x7_0000;
const ANSWER: u64 = 0x7_8000;
const TABLE: u64 = 0x7_c000;
/// What an answer is before it is one.
const NONE: u8 = 0xaa;
/// A command that is granted.
const GOOD: &[u8] = &[0, 0, 1];

/// A card whose control queue is served.
struct Card<R> {
    guest: Guest<R>,
    ring: R,
    index: usize,
    kick: EventFd,
    call: EventFd,
    error: EventFd,
}

impl<R: Driver> Card<R> {
    /// Connects with these features besides those of a control queue, which has this index.
    fn connect(link: &TestLink, features: u64, index: usize) -> Self {
        let mut guest = Guest::create(MRG_RXBUF | CONTROL | features, 64);
        guest.connect(&link.guest_socket());
        Self::of(guest, index)
    }

    /// The card of a connected guest.
    fn of(guest: Guest<R>, index: usize) -> Self {
        let ring = R::create(&guest.memory, RING, 64);
        let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let mut card =
            Self { guest, ring, index, kick: eventfd(), call: eventfd(), error: eventfd() };
        card.start(R::START);
        card
    }

    fn start(&mut self, base: u32) {
        let session = self.guest.session.as_mut().unwrap();
        session.frontend.set_vring_num(self.index, 64).unwrap();
        session.frontend.set_vring_addr(self.index, &ring_config(&self.ring)).unwrap();
        session.set_base(self.index, base);
        session.frontend.set_vring_call(self.index, &self.call).unwrap();
        session.frontend.set_vring_err(self.index, &self.error).unwrap();
        session.frontend.set_vring_kick(self.index, &self.kick).unwrap();
        session.frontend.set_vring_enable(self.index, true).unwrap();
    }

    fn stop(&mut self) -> u32 {
        self.guest.session().frontend.get_vring_base(self.index).unwrap()
    }

    /// Writes a command. Returns its descriptors: the command, and room for the answer.
    fn write(&self, command: &[u8]) -> [Desc; 2] {
        self.guest.memory.write_slice(command, GuestAddress(COMMAND)).unwrap();
        self.guest.memory.write_obj(NONE, GuestAddress(ANSWER)).unwrap();
        let len = u32::try_from(command.len()).unwrap();
        [
            Desc { addr: COMMAND, len, flags: 0, next: 0 },
            Desc { addr: ANSWER, len: 1, flags: WRITE, next: 0 },
        ]
    }

    /// Offers a chain, and asks for a call when it was used.
    fn offer(&mut self, id: u16, chain: &[Desc]) {
        self.ring.offer(id, chain);
        self.ring.call_after(self.ring.offered());
        self.ring.set_calls(true);
        self.publish();
    }

    fn publish(&mut self) {
        self.ring.publish();
        self.kick.write(1).unwrap();
    }

    /// Waits until the chain offered last was used. Returns the answer.
    fn answer(&mut self, id: u16) -> u8 {
        let mut used = None;
        assert!(wait_for(|| {
            used = used.or_else(|| self.ring.pop_used());
            used.is_some()
        }));
        assert_eq!(used, Some((id.into(), 1)));
        self.guest.memory.read_obj(GuestAddress(ANSWER)).unwrap()
    }

    fn ask(&mut self, command: &[u8]) -> u8 {
        let chain = self.write(command);
        self.offer(0, &chain);
        let answer = self.answer(0);
        assert!(wait_for(|| self.call.read().is_ok()));
        answer
    }
}

fn link(queue_pairs: usize) -> TestLink {
    TestLink::with(Options { queue_pairs, ..Options::default() })
}

on_both! {
    commands_are_answered_by_rule,
    t51_control_queue_without_multiqueue_is_the_third,
    command_in_pieces_and_in_a_table_is_understood,
    commands_offered_together_are_answered_together,
    driver_that_wants_no_calls_gets_none,
    control_ring_resumes_where_it_was_stopped,
    t57_commands_wait_while_memory_is_away,
    t16_command_of_any_length_costs_no_memory_and_is_refused,
    logged_memory_holds_answers_and_used_entries,
    t27_driver_that_floods_the_control_queue_gets_little_of_the_processor,
}

fn commands_are_answered_by_rule<R: Driver>() {
    for ring_features in [0, EVENT_IDX | INDIRECT_DESC] {
        let link = link(4);
        let mut card = Card::<R>::connect(&link, MQ | ring_features, 8);
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
        assert_eq!(link.report().guest.ring_faults, 0);
    }
}

fn t51_control_queue_without_multiqueue_is_the_third<R: Driver>() {
    let link = link(4);
    let mut card = Card::<R>::connect(&link, 0, 2);
    assert_eq!(card.ask(GOOD), 0);
    assert_eq!(card.ask(&[4, 0, 1, 0]), 1, "there are no pairs to set");
    // The ring at the place it would have with several pairs is none.
    let mut other = card;
    other.index = 8;
    other.ring = R::create(&other.guest.memory, 0x6_8000, 64);
    other.start(R::START);
    let chain = other.write(GOOD);
    other.offer(0, &chain);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(other.ring.pop_used(), None);
}

fn command_in_pieces_and_in_a_table_is_understood<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ | INDIRECT_DESC, 4);
    let [command, answer] = card.write(&[4, 0, 2, 0]);
    let piece = |at| Desc { addr: command.addr + at, len: 1, ..command };
    // With an empty one, as drivers may have, and more room than an answer takes.
    let empty = Desc { addr: u64::MAX, len: 0, ..command };
    let room = Desc { len: 4096, ..answer };
    card.offer(0, &[piece(0), piece(1), empty, piece(2), piece(3), room, room]);
    assert_eq!(card.answer(0), 0);
    let [command, answer] = card.write(&[4, 0, 3, 0]);
    card.ring.set_table(TABLE, 0, Desc { flags: 1, next: 1, ..command });
    card.ring.set_table(TABLE, 1, answer);
    card.offer(7, &[Desc { addr: TABLE, len: 32, flags: INDIRECT, next: 0 }]);
    assert_eq!(card.answer(7), 1);
}

fn commands_offered_together_are_answered_together<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    for round in 0..5 {
        let [command, answer] = card.write(&[4, 0, 2, 0]);
        let answers = (0..20).map(|at| ANSWER + at);
        for (id, addr) in (0..).step_by(2).zip(answers.clone()) {
            card.guest.memory.write_obj(NONE, GuestAddress(addr)).unwrap();
            card.ring.offer(id, &[command, Desc { addr, ..answer }]);
        }
        card.publish();
        for id in (0..40).step_by(2) {
            let mut used = None;
            assert!(wait_for(|| {
                used = card.ring.pop_used();
                used.is_some()
            }));
            assert_eq!(used, Some((id, 1)), "{round}");
        }
        for addr in answers {
            let answer: u8 = card.guest.memory.read_obj(GuestAddress(addr)).unwrap();
            assert_eq!(answer, 0);
        }
    }
}

fn driver_that_wants_no_calls_gets_none<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    // A ring that starts may cause a call.
    assert_eq!(card.ask(GOOD), 0);
    let _ = card.call.read();
    for _ in 0..10 {
        let chain = card.write(GOOD);
        card.ring.offer(0, &chain);
        card.ring.set_calls(false);
        card.publish();
        assert_eq!(card.answer(0), 0);
    }
    std::thread::sleep(Duration::from_millis(5));
    assert!(card.call.read().is_err());
    assert_eq!(card.ask(GOOD), 0, "and one that wants them again does");
}

fn control_ring_resumes_where_it_was_stopped<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ | EVENT_IDX, 4);
    // Further than around the ring.
    for round in 0..100 {
        assert_eq!(card.ask(GOOD), 0, "{round}");
        let base = card.stop();
        assert_eq!(base, card.ring.base(), "{round}");
        // Meanwhile there comes another.
        let chain = card.write(GOOD);
        card.offer(0, &chain);
        card.start(base);
        assert_eq!(card.answer(0), 0, "{round}");
    }
    assert_eq!(link.report().guest.ring_faults, 0);
}

fn t57_commands_wait_while_memory_is_away<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    for _ in 0..5 {
        let region = card.guest.region();
        card.guest.session().frontend.remove_mem_region(&region).unwrap();
        let chain = card.write(GOOD);
        card.offer(0, &chain);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(card.ring.pop_used(), None);
        card.guest.session().frontend.add_mem_region(&region).unwrap();
        assert_eq!(card.answer(0), 0);
    }
    assert_eq!(link.report().guest.ring_faults, 0);
}

fn t16_command_of_any_length_costs_no_memory_and_is_refused<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    for len in [8193, 0x10_0000, (8 << 20) - COMMAND as u32] {
        let [command, answer] = card.write(GOOD);
        card.offer(0, &[Desc { len, ..command }, answer]);
        assert_eq!(card.answer(0), 1, "{len}");
    }
    assert_eq!(card.ask(GOOD), 0, "and the ring goes on");
}

fn logged_memory_holds_answers_and_used_entries<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    let log = log_file(LOG_LEN);
    set_log_base(&mut card.guest, &log);
    assert_eq!(card.ask(GOOD), 0);
    assert!(marked(&log).is_empty(), "logging is not on");
    let features = card.guest.features | LOG_ALL;
    card.guest.session().frontend.set_features(features).unwrap();
    // Of the room for an answer, only what is written.
    let [command, answer] = card.write(GOOD);
    card.offer(0, &[command, Desc { len: 0x10_0000, ..answer }]);
    assert_eq!(card.answer(0), 0);
    // A packed ring's used entries are where its descriptors are.
    let layout = card.ring.layout();
    let entries = if R::FEATURES == 0 { layout.used } else { layout.descriptors };
    let written = [ANSWER, entries].map(|address| address as usize / 4096);
    assert!(wait_for(|| written.iter().all(|page| marked(&log).contains(page))));
    assert!(!marked(&log).contains(&(ANSWER as usize / 4096 + 1)));
}

fn t27_driver_that_floods_the_control_queue_gets_little_of_the_processor<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    let chain = card.write(GOOD);
    let start = std::time::Instant::now();
    let (mut answered, mut id) = (0_u32, 0);
    while start.elapsed() < Duration::from_millis(300) {
        // A chain has two descriptors, and a split ring counts chains.
        while card.ring.in_flight() < 31 {
            card.ring.offer(id, &chain);
            id = (id + 2) % 64;
        }
        card.publish();
        while card.ring.pop_used().is_some() {
            answered += 1;
        }
    }
    assert!((1..=310 * 64).contains(&answered), "{answered}");
    // Meanwhile it can be stopped, at once.
    let stop = std::time::Instant::now();
    card.stop();
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
    let mut card = Card::of(netvm, 4);
    assert_eq!(card.ask(&[4, 0, 2, 0]), 0);
    assert_eq!(threads(), 1);
    card.guest.disconnect();
    link.report_when(|report| !report.netvm.connected);
    assert!(wait_for(|| threads() == 0));
}
