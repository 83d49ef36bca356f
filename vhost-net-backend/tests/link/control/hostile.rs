//! T1 to T19 of the catalogue of hostile input, for the chains of a control queue.

use std::time::Duration;

use super::{COMMAND, Card, GOOD, MQ, TABLE, link};
use crate::common::driver::{Desc, Driver, DriverRing, INDIRECT, NEXT, WRITE};
use crate::common::guest::{Guest, INDIRECT_DESC, MRG_RXBUF, wait_for};
use crate::common::link::TestLink;
use crate::common::packed::PackedRing;
use crate::common::{GUEST, NETVM, frame, on_both};

on_both! {
    t8_to_t19_hostile_control_chains_stop_the_control_ring_and_nothing_else,
    answers_before_a_hostile_chain_are_given,
}

/// A chain that breaks a rule, with its flags as they are; made of a good one.
type Bad<R> = fn(&Card<R>, [Desc; 2]) -> Vec<Desc>;

const fn table(len: u32) -> Desc {
    Desc { addr: TABLE, len, flags: INDIRECT, next: 0 }
}

fn t8_to_t19_hostile_control_chains_stop_the_control_ring_and_nothing_else<R: Driver>() {
    let bad: [(&str, u64, Bad<R>); 13] = [
        ("t8 table in a table", INDIRECT_DESC, |card, _| {
            card.ring.set_table(TABLE, 0, Desc { addr: TABLE + 64, ..table(16) });
            vec![table(16)]
        }),
        ("t9 table and next", INDIRECT_DESC, |_, [_, answer]| {
            vec![Desc { flags: INDIRECT | NEXT, ..table(16) }, answer]
        }),
        ("t10 empty table", INDIRECT_DESC, |_, _| vec![table(0)]),
        ("t10 table of half a descriptor", INDIRECT_DESC, |_, _| vec![table(24)]),
        ("t10 table longer than the ring", INDIRECT_DESC, |_, _| vec![table(65 * 16)]),
        ("t11 table outside memory", INDIRECT_DESC, |_, _| {
            vec![Desc { addr: u64::MAX - 15, ..table(32) }]
        }),
        ("t13 table that was not negotiated", 0, |_, _| vec![table(16)]),
        ("t14 command outside memory", 0, |_, [command, answer]| {
            vec![Desc { addr: u64::MAX, len: 2, flags: NEXT, ..command }, answer]
        }),
        ("t14 command that ends outside memory", 0, |_, [command, answer]| {
            vec![Desc { len: u32::MAX, flags: NEXT, ..command }, answer]
        }),
        ("t14 answer outside memory", 0, |_, [command, answer]| {
            vec![Desc { flags: NEXT, ..command }, Desc { addr: 1 << 40, ..answer }]
        }),
        ("t15 no room for an answer", 0, |_, [command, answer]| {
            vec![Desc { flags: NEXT, ..command }, Desc { len: 0, ..answer }]
        }),
        ("t15 no answer at all", 0, |_, [command, _]| vec![command]),
        ("t19 readable after writable", 0, |_, [command, answer]| {
            vec![Desc { flags: WRITE | NEXT, ..answer }, command]
        }),
    ];
    let link = link(2);
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    for (faults, (name, features, chain)) in (1..).zip(bad) {
        let mut card = Card::<R>::connect(&link, MQ | features, 4);
        assert_eq!(card.ask(GOOD), 0);
        let chain = chain(&card, card.write(GOOD));
        card.ring.offer_raw(0, &chain);
        card.publish();
        stopped(&mut card, name);
        assert_eq!(link.report().guest.ring_faults, faults, "{name}");
        // Frames go on.
        let sent = frame(NETVM, GUEST, 60, 1);
        card.guest.send(&sent);
        assert_eq!(netvm.receive(), sent);
        netvm.fill_rx();
        // A new start heals it.
        card.stop();
        card.ring.reset();
        card.start(R::START);
        assert_eq!(card.ask(GOOD), 0, "{name}");
        end(card, &link);
    }
}

fn answers_before_a_hostile_chain_are_given<R: Driver>() {
    let link = link(2);
    let mut card = Card::<R>::connect(&link, MQ, 4);
    let chain = card.write(GOOD);
    card.ring.offer(0, &chain);
    card.ring.offer(2, &chain);
    // It has no room for an answer.
    card.ring.offer(4, &chain[..1]);
    card.ring.offer(6, &chain);
    card.publish();
    assert!(wait_for(|| card.error.read().is_ok()));
    assert_eq!([0, 2].map(|id| card.ring.pop_used() == Some((id, 1))), [true; 2]);
    assert_eq!(card.ring.pop_used(), None);
    assert!(wait_for(|| card.call.read().is_ok()));
}

#[test]
fn t1_to_t3_links_that_lead_nowhere_stop_a_split_control_ring() {
    let link = link(2);
    let to = |next| Desc { addr: COMMAND, len: 1, flags: NEXT, next };
    for (name, descs) in [
        ("t1 loop", [to(0), to(0)]),
        ("t2 loop of two", [to(1), to(0)]),
        ("t3 next outside the table", [to(64), to(0)]),
        ("t3 next far outside the table", [to(u16::MAX), to(0)]),
    ] {
        let mut card = Card::<DriverRing>::connect(&link, MQ, 4);
        card.ring.set_desc(0, descs[0]);
        card.ring.set_desc(1, descs[1]);
        card.ring.put_avail(0);
        card.publish();
        stopped(&mut card, name);
        end(card, &link);
    }
}

#[test]
fn t3_chain_that_does_not_end_stops_a_packed_control_ring() {
    let link = link(2);
    let mut card = Card::<PackedRing>::connect(&link, MQ, 4);
    let endless = Desc { addr: COMMAND, len: 1, flags: NEXT, next: 0 };
    card.ring.offer_raw(0, &[endless; 64]);
    card.publish();
    stopped(&mut card, "around the ring");
    end(card, &link);
    // The second descriptor was never made available.
    let mut card = Card::<PackedRing>::connect(&link, MQ, 4);
    card.ring.offer_raw(0, &[endless]);
    card.publish();
    stopped(&mut card, "half a chain");
}

#[test]
fn t4_t6_indices_that_are_none_stop_a_split_control_ring() {
    let link = link(2);
    for (head, idx) in [(64, 1), (0xffff, 1), (0, 66), (0, 0xffff), (0, 0x8000)] {
        let mut card = Card::<DriverRing>::connect(&link, MQ, 4);
        let chain = card.write(GOOD);
        card.ring.offer(0, &chain);
        card.ring.avail_idx = 0;
        card.ring.put_avail(head);
        card.ring.store_avail_idx(idx);
        card.kick.write(1).unwrap();
        stopped(&mut card, &format!("{head} {idx}"));
        end(card, &link);
    }
}

/// The control ring stops, and says so.
fn stopped<R: Driver>(card: &mut Card<R>, name: &str) {
    assert!(wait_for(|| card.error.read().is_ok()), "{name}");
    card.kick.write(1).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(card.ring.pop_used(), None, "{name}");
}

fn end<R: Driver>(mut card: Card<R>, link: &TestLink) {
    card.guest.disconnect();
    link.report_when(|report| !report.guest.connected);
}
