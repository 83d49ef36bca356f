//! T1 to T15 of the catalogue of hostile input: a chain that breaks the rules is not delivered,
//! not even its beginning; its ring stops, and nothing else does.

use std::time::Duration;

use vhost_net_backend::datapath::ring::RingLayout;

use crate::common::driver::{Desc, INDIRECT, NEXT, WRITE};
use crate::common::guest::{Guest, INDIRECT_DESC, MEMORY_LEN, MRG_RXBUF, wait_for};
use crate::common::link::TestLink;
use crate::common::{GUEST, NETVM, frame};
use crate::pair;

const TABLE: u64 = 0x8_0000;
const SIZE: u16 = 16;

/// Has the guest's transmit ring break a rule by `act`, which may use descriptors from 4 on; a
/// good frame lies in descriptor 4's buffer.
fn stops_the_ring(features: u64, act: impl FnOnce(&mut Guest, Desc)) {
    let (link, mut guest, mut netvm) = pair(features, SIZE);
    let before = frame(NETVM, GUEST, 60, 1);
    guest.send(&before);
    assert_eq!(netvm.receive(), before);
    let good = guest.write_tx(4, &frame(NETVM, GUEST, 60, 66));
    act(&mut guest, good);
    guest.kick_tx();
    ring_is_stopped(&link, &mut guest, &mut netvm);
}

/// The guest's transmit ring has stopped; nothing came of it, and all else works.
fn ring_is_stopped(link: &TestLink, guest: &mut Guest, netvm: &mut Guest) {
    let report = link.report_when(|report| report.guest.ring_faults == 1);
    assert!(report.guest.connected && report.netvm.connected);
    assert!(wait_for(|| guest.session().error[1].read().is_ok()), "the error eventfd is signalled");
    assert!(netvm.receive_within(Duration::ZERO).is_none(), "nothing of it is delivered");
    // The other direction, and so the other end, is not affected.
    let down = frame(GUEST, NETVM, 60, 2);
    netvm.send(&down);
    assert_eq!(guest.receive(), down);
    // The ring does nothing more, ...
    guest.kick_tx();
    assert!(netvm.receive_within(Duration::from_millis(10)).is_none());
    assert_eq!(link.report().guest.ring_faults, 1);
    // ... until a new session.
    guest.disconnect();
    guest.tx.reset();
    guest.connect(&link.guest_socket());
    let after = frame(NETVM, GUEST, 60, 3);
    guest.send(&after);
    assert_eq!(netvm.receive(), after);
}

fn offer(guest: &mut Guest, head: u16) {
    guest.tx.put_avail(head);
    guest.tx.publish();
}

#[test]
fn t01_chain_that_loops_on_itself() {
    stops_the_ring(MRG_RXBUF, |guest, good| {
        guest.tx.set_desc(4, Desc { flags: NEXT, next: 4, ..good });
        offer(guest, 4);
    });
}

#[test]
fn t02_loops_of_two_and_of_all_descriptors() {
    stops_the_ring(MRG_RXBUF, |guest, good| {
        guest.tx.set_desc(4, Desc { flags: NEXT, next: 5, ..good });
        guest.tx.set_desc(5, Desc { flags: NEXT, next: 4, ..good });
        offer(guest, 4);
    });
    stops_the_ring(MRG_RXBUF, |guest, good| {
        for index in 0..SIZE {
            guest.tx.set_desc(index, Desc { flags: NEXT, next: (index + 1) % SIZE, ..good });
        }
        offer(guest, 4);
    });
}

#[test]
fn t03_next_outside_the_table_in_the_middle() {
    for next in [SIZE, 999, u16::MAX] {
        stops_the_ring(MRG_RXBUF, |guest, good| {
            guest.tx.set_desc(4, Desc { flags: NEXT, next, ..good });
            offer(guest, 4);
        });
    }
}

#[test]
fn t04_head_outside_the_table() {
    for head in [SIZE, 5000, u16::MAX] {
        stops_the_ring(MRG_RXBUF, |guest, _| offer(guest, head));
    }
}

#[test]
fn t05_same_head_twice_in_one_batch_is_delivered_once() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, SIZE);
    let sent = frame(NETVM, GUEST, 60, 1);
    let desc = guest.write_tx(4, &sent);
    guest.tx.set_desc(4, desc);
    guest.tx.put_avail(4);
    offer(&mut guest, 4);
    guest.kick_tx();
    assert_eq!(netvm.receive(), sent, "the first was in order");
    assert_eq!(guest.tx.used_idx(), 1);
    ring_is_stopped(&link, &mut guest, &mut netvm);
}

#[test]
fn t06_available_index_jumps() {
    for jump in [SIZE + 1, SIZE + 2, 0x8000, u16::MAX] {
        stops_the_ring(MRG_RXBUF, |guest, _| {
            guest.tx.store_avail_idx(guest.tx.avail_idx.wrapping_add(jump));
        });
    }
}

#[test]
fn t08_indirect_table_in_an_indirect_table() {
    stops_the_ring(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        guest.tx.set_desc_at(TABLE, 0, Desc { flags: NEXT, next: 1, ..good });
        let inner = Desc { addr: TABLE + 0x1000, len: 16, flags: INDIRECT, next: 0 };
        guest.tx.set_desc_at(TABLE, 1, inner);
        guest.tx.set_desc_at(TABLE + 0x1000, 0, good);
        guest.tx.set_desc(4, Desc { addr: TABLE, len: 32, flags: INDIRECT, next: 0 });
        offer(guest, 4);
    });
}

#[test]
fn t09_indirect_and_next() {
    stops_the_ring(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        guest.tx.set_desc_at(TABLE, 0, good);
        guest.tx.set_desc(4, Desc { addr: TABLE, len: 16, flags: INDIRECT | NEXT, next: 5 });
        guest.tx.set_desc(5, good);
        offer(guest, 4);
    });
}

#[test]
fn t10_indirect_table_of_a_bad_length() {
    let too_long = 16 * (u32::from(SIZE) + 1);
    for len in [0, 1, 15, 17, too_long, 16 * 65535, 1 << 30, u32::MAX] {
        stops_the_ring(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
            guest.tx.set_desc_at(TABLE, 0, good);
            guest.tx.set_desc(4, Desc { addr: TABLE, len, flags: INDIRECT, next: 0 });
            offer(guest, 4);
        });
    }
}

#[test]
fn t11_indirect_table_partly_unmapped() {
    stops_the_ring(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        let addr = MEMORY_LEN as u64 - 16;
        guest.tx.set_desc_at(addr, 0, good);
        guest.tx.set_desc(4, Desc { addr, len: 32, flags: INDIRECT, next: 0 });
        offer(guest, 4);
    });
}

#[test]
fn t12_indirect_loop() {
    stops_the_ring(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        guest.tx.set_desc_at(TABLE, 0, Desc { flags: NEXT, next: 0, ..good });
        guest.tx.set_desc(4, Desc { addr: TABLE, len: 16, flags: INDIRECT, next: 0 });
        offer(guest, 4);
    });
}

#[test]
fn t13_indirect_that_was_not_negotiated() {
    stops_the_ring(MRG_RXBUF, |guest, good| {
        guest.tx.set_desc_at(TABLE, 0, good);
        guest.tx.set_desc(4, Desc { addr: TABLE, len: 16, flags: INDIRECT, next: 0 });
        offer(guest, 4);
    });
}

#[test]
fn t14_buffers_outside_memory() {
    let end = MEMORY_LEN as u64;
    for (addr, len) in
        [(u64::MAX, 1), (u64::MAX - 11, 72), (end, 72), (end - 71, 72), (1 << 40, 72)]
    {
        stops_the_ring(MRG_RXBUF, |guest, good| {
            guest.tx.set_desc(4, Desc { flags: NEXT, next: 5, ..good });
            guest.tx.set_desc(5, Desc { addr, len, flags: 0, next: 0 });
            offer(guest, 4);
        });
    }
}

#[test]
fn t19_descriptors_of_the_wrong_direction() {
    stops_the_ring(MRG_RXBUF, |guest, good| {
        guest.tx.set_desc(4, Desc { flags: WRITE, ..good });
        offer(guest, 4);
    });
    stops_the_ring(MRG_RXBUF, |guest, good| {
        guest.tx.set_desc(4, Desc { flags: NEXT, next: 5, ..good });
        guest.tx.set_desc(5, Desc { flags: WRITE, ..good });
        offer(guest, 4);
    });
}

#[test]
fn t19_readable_receive_buffer_stops_the_receive_ring_only() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, SIZE);
    for index in 0..SIZE {
        let desc = Desc { addr: 0x40_0000, len: 2048, flags: 0, next: 0 };
        guest.rx.set_desc(index, desc);
    }
    netvm.send(&frame(GUEST, NETVM, 60, 1));
    link.report_when(|report| report.guest.ring_faults == 1 && !report.guest.up);
    assert!(wait_for(|| guest.session().error[0].read().is_ok()));
    assert_eq!(guest.rx.used_idx(), 0);
    let up = frame(NETVM, GUEST, 60, 2);
    guest.send(&up);
    assert_eq!(netvm.receive(), up);
    // Frames for the stopped ring are dropped, and netvm is not held up.
    for _ in 0..100 {
        netvm.send(&frame(GUEST, NETVM, 60, 1));
    }
    assert!(link.drops("peer-down") >= 100);
}

#[test]
fn t20_rings_that_overlap_hurt_only_their_owner() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, SIZE);
    guest.disconnect();
    link.report_when(|report| !report.guest.connected);
    // The used ring is the descriptor table.
    let layout = guest.tx.layout;
    guest.tx.layout = RingLayout { used: layout.descriptors, ..layout };
    guest.connect(&link.guest_socket());
    for head in 0..SIZE {
        let desc = guest.write_tx(head, &frame(NETVM, GUEST, 60, 1));
        guest.tx.set_desc(head, desc);
        guest.tx.put_avail(head);
        guest.tx.publish();
        guest.kick_tx();
    }
    let down = frame(GUEST, NETVM, 60, 2);
    netvm.send(&down);
    assert_eq!(guest.receive(), down);
    assert!(link.report().guest.ring_faults <= 1);
}

#[test]
fn t77_used_index_beyond_the_available_one_stops_the_ring_at_its_start() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, SIZE);
    guest.disconnect();
    for used in [1, 0x8000, u16::MAX - 100] {
        link.report_when(|report| !report.guest.connected);
        let faults = link.report().guest.ring_faults;
        guest.tx.reset();
        guest.tx.set_used_idx(used);
        guest.connect(&link.guest_socket());
        link.report_when(|report| report.guest.ring_faults == faults + 1);
        assert!(wait_for(|| guest.session().error[1].read().is_ok()));
        guest.disconnect();
    }
    link.report_when(|report| !report.guest.connected);
    guest.tx.reset();
    guest.connect(&link.guest_socket());
    let sent = frame(NETVM, GUEST, 60, 1);
    guest.send(&sent);
    assert_eq!(netvm.receive(), sent);
}
