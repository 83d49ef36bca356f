//! T8 to T19: chains that break the rules are not delivered, not even their beginnings; odd ones
//! that break none are.

use crate::common::driver::{Desc, Driver, INDIRECT, NEXT, WRITE};
use crate::common::guest::{INDIRECT_DESC, MEMORY_LEN, MRG_RXBUF, wait_for};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::oracle::{Ends, SIZE, TABLE, offer, send_chain, stops_the_ring};

const END: u64 = MEMORY_LEN as u64;

on_both! {
    t08_indirect_table_in_an_indirect_table,
    t09_indirect_and_next,
    t10_indirect_table_of_a_bad_length,
    t11_indirect_table_partly_unmapped,
    t12_indirect_loop,
    t13_indirect_that_was_not_negotiated,
    t14_buffers_outside_memory,
    t15_empty_descriptors_are_skipped_wherever_they_point,
    t15_chain_of_empty_descriptors_is_dropped,
    t16_chain_of_gibibytes_is_dropped_without_a_copy,
    t17_chain_not_longer_than_a_header_is_dropped,
    t18_header_over_twelve_one_byte_descriptors_is_understood,
    t18_frame_of_one_byte_descriptors_is_understood,
    t19_descriptors_of_the_wrong_direction,
    t19_readable_receive_buffer_stops_the_receive_ring_only,
}

fn t08_indirect_table_in_an_indirect_table<R: Driver>() {
    stops_the_ring::<R>(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        guest.tx.set_table(TABLE, 0, Desc { flags: NEXT, next: 1, ..good });
        let inner = Desc { addr: TABLE + 0x1000, len: 16, flags: INDIRECT, next: 0 };
        guest.tx.set_table(TABLE, 1, inner);
        guest.tx.set_table(TABLE + 0x1000, 0, good);
        offer(guest, &[Desc { addr: TABLE, len: 32, flags: INDIRECT, next: 0 }]);
    });
}

fn t09_indirect_and_next<R: Driver>() {
    stops_the_ring::<R>(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        guest.tx.set_table(TABLE, 0, good);
        let table = Desc { addr: TABLE, len: 16, flags: INDIRECT | NEXT, next: 0 };
        offer(guest, &[table, good]);
    });
}

fn t10_indirect_table_of_a_bad_length<R: Driver>() {
    let too_long = 16 * (u32::from(SIZE) + 1);
    for len in [0, 1, 15, 17, too_long, 16 * 65535, 1 << 30, u32::MAX] {
        stops_the_ring::<R>(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
            guest.tx.set_table(TABLE, 0, good);
            offer(guest, &[Desc { addr: TABLE, len, flags: INDIRECT, next: 0 }]);
        });
    }
}

fn t11_indirect_table_partly_unmapped<R: Driver>() {
    for addr in [END - 16, END, u64::MAX - 15, 1 << 40] {
        stops_the_ring::<R>(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
            if addr < END {
                guest.tx.set_table(addr, 0, good);
            }
            offer(guest, &[Desc { addr, len: 32, flags: INDIRECT, next: 0 }]);
        });
    }
}

/// An indirect table of a packed ring has no `next`: what could loop is a table that names itself.
fn t12_indirect_loop<R: Driver>() {
    stops_the_ring::<R>(MRG_RXBUF | INDIRECT_DESC, |guest, good| {
        let itself = Desc { addr: TABLE, len: 32, flags: INDIRECT, next: 0 };
        guest.tx.set_table(TABLE, 0, Desc { flags: NEXT, next: 0, ..good });
        guest.tx.set_table(TABLE, 1, itself);
        offer(guest, &[itself]);
    });
}

fn t13_indirect_that_was_not_negotiated<R: Driver>() {
    stops_the_ring::<R>(MRG_RXBUF, |guest, good| {
        guest.tx.set_table(TABLE, 0, good);
        offer(guest, &[Desc { addr: TABLE, len: 16, flags: INDIRECT, next: 0 }]);
    });
}

fn t14_buffers_outside_memory<R: Driver>() {
    let cases = [(u64::MAX, 1), (u64::MAX - 11, 72), (END, 72), (END - 71, 72), (1 << 40, 72)];
    for (addr, len) in cases {
        stops_the_ring::<R>(MRG_RXBUF, |guest, good| {
            guest.tx.offer(4, &[good, Desc { addr, len, flags: 0, next: 0 }]);
            guest.tx.publish();
        });
    }
}

fn t15_empty_descriptors_are_skipped_wherever_they_point<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    let sent = frame(NETVM, GUEST, 60, 4);
    let whole = ends.guest.write_tx(0, &sent);
    let empty = |addr| Desc { addr, ..Desc::default() };
    send_chain(&mut ends.guest, 3, &[empty(u64::MAX), whole, empty(0xdead_0000), empty(END)]);
    assert_eq!(ends.netvm.receive(), sent);
    ends.all_is_well();
}

fn t15_chain_of_empty_descriptors_is_dropped<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    for descriptors in [1, 2, SIZE] {
        send_chain(&mut ends.guest, 3, &vec![Desc::default(); descriptors.into()]);
    }
    assert_eq!(ends.link.drops("header-short"), 3);
    ends.all_is_well();
}

fn t16_chain_of_gibibytes_is_dropped_without_a_copy<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    // Nearly all of the guest's memory, once, and many times over.
    let desc = Desc { addr: 0x10_0000, len: 6 << 20, ..Desc::default() };
    for count in [1, SIZE] {
        send_chain(&mut ends.guest, 3, &vec![desc; count.into()]);
    }
    assert_eq!(ends.link.drops("frame-long"), 2);
    ends.all_is_well();
}

fn t17_chain_not_longer_than_a_header_is_dropped<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    for (len, reason) in [(1, "header-short"), (11, "header-short"), (12, "frame-short")] {
        let before = ends.link.drops(reason);
        let desc = ends.guest.write_tx(15, &[]);
        send_chain(&mut ends.guest, 15, &[Desc { len, ..desc }]);
        assert_eq!(ends.link.drops(reason), before + 1, "{len}");
    }
    ends.all_is_well();
}

fn t18_header_over_twelve_one_byte_descriptors_is_understood<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    let sent = frame(NETVM, GUEST, 60, 4);
    let whole = ends.guest.write_tx(0, &sent);
    for pieces in 1..=12 {
        let mut chain: Vec<_> =
            (0..pieces).map(|at| Desc { addr: whole.addr + at, len: 1, ..whole }).collect();
        let rest = whole.len - pieces as u32;
        chain.push(Desc { addr: whole.addr + pieces, len: rest, ..whole });
        send_chain(&mut ends.guest, 0, &chain);
        assert_eq!(ends.netvm.receive(), sent);
    }
    ends.all_is_well();
}

fn t18_frame_of_one_byte_descriptors_is_understood<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF | INDIRECT_DESC, 1024);
    let sent = frame(NETVM, GUEST, 1000, 4);
    let whole = ends.guest.write_tx(0, &sent);
    let byte = |at: u64| Desc { addr: whole.addr + at, len: 1, ..whole };
    let chain: Vec<_> = (0..1012).map(byte).collect();
    send_chain(&mut ends.guest, 0, &chain);
    assert_eq!(ends.netvm.receive(), sent);
    for at in 0..1012 {
        let more = if at < 1011 { NEXT } else { 0 };
        let entry = Desc { flags: more, next: at + 1, ..byte(at.into()) };
        ends.guest.tx.set_table(TABLE, at, entry);
    }
    let table = Desc { addr: TABLE, len: 16 * 1012, flags: INDIRECT, next: 0 };
    send_chain(&mut ends.guest, 7, &[table]);
    assert_eq!(ends.netvm.receive(), sent);
    ends.all_is_well();
}

fn t19_descriptors_of_the_wrong_direction<R: Driver>() {
    stops_the_ring::<R>(MRG_RXBUF, |guest, good| {
        offer(guest, &[Desc { flags: WRITE, ..good }]);
    });
    stops_the_ring::<R>(MRG_RXBUF, |guest, good| {
        offer(guest, &[Desc { flags: NEXT, ..good }, Desc { flags: WRITE, ..good }]);
    });
    stops_the_ring::<R>(MRG_RXBUF, |guest, good| {
        offer(guest, &[Desc { flags: NEXT | WRITE, ..good }, good]);
    });
}

fn t19_readable_receive_buffer_stops_the_receive_ring_only<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    ends.guest.disconnect();
    ends.guest.rx.reset();
    ends.guest.connect(&ends.link.guest_socket());
    let readable = Desc { addr: 0x40_0000, len: 2048, ..Desc::default() };
    let good = Desc { flags: WRITE, ..readable };
    ends.guest.rx.offer_raw(0, &[Desc { flags: WRITE | NEXT, ..good }, readable]);
    ends.guest.rx.publish();
    ends.netvm.send(&frame(GUEST, NETVM, 60, 1));
    ends.link.report_when(|report| report.guest.ring_faults == 1 && !report.guest.up);
    ends.error_is_signalled(0);
    assert!(ends.guest.rx.pop_used().is_none());
    ends.up_works();
    // Frames for the stopped ring are dropped, and netvm is not held up.
    for _ in 0..100 {
        ends.netvm.send(&frame(GUEST, NETVM, 60, 1));
    }
    assert!(wait_for(|| ends.link.drops("peer-down") >= 100));
    ends.heals();
}
