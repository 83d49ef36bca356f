//! Frames that must not arrive: each rule, and its legal neighbour.

use std::time::Duration;

use vhost_net_backend::mac::MacAddr;
use vm_memory::{Bytes, GuestAddress};

use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::link::TestLink;
use crate::common::{GUEST, NETVM, frame};
use crate::pair;

const OTHER: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x77]);
const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);

/// Sends `bad` and then `good` from `from`; `good` alone must arrive, and `bad` be counted.
fn only_the_neighbour_passes(
    link: &TestLink,
    (from, to): (&mut Guest, &mut Guest),
    (bad, good): (&[u8], &[u8]),
    reason: &str,
) {
    let before = link.drops(reason);
    from.send(bad);
    from.send(good);
    assert_eq!(to.receive(), good, "{reason}");
    assert!(to.receive_within(Duration::ZERO).is_none());
    assert_eq!(link.drops(reason), before + 1, "{reason}");
}

#[test]
fn guest_can_use_no_source_but_its_own() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let good = frame(NETVM, GUEST, 60, 1);
    for source in [OTHER, NETVM, BROADCAST, MacAddr::new([0; 6])] {
        let bad = frame(NETVM, source, 60, 2);
        let ends = (&mut guest, &mut netvm);
        only_the_neighbour_passes(&link, ends, (&bad, &good), "source-not-guest");
    }
}

#[test]
fn guest_can_reach_no_unicast_address_but_netvms() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    for good in [NETVM, BROADCAST, MacAddr::new([0x33, 0x33, 0, 0, 0, 1])] {
        let (bad, good) = (frame(OTHER, GUEST, 60, 2), frame(good, GUEST, 60, 1));
        let ends = (&mut guest, &mut netvm);
        only_the_neighbour_passes(&link, ends, (&bad, &good), "destination-not-netvm");
    }
}

#[test]
fn guest_gets_only_what_is_meant_for_it() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let good = frame(GUEST, NETVM, 60, 1);
    let cases = [
        (frame(OTHER, NETVM, 60, 2), "destination-not-guest"),
        (frame(GUEST, GUEST, 60, 2), "source-is-guest"),
        (frame(GUEST, BROADCAST, 60, 2), "source-group"),
    ];
    for (bad, reason) in cases {
        let ends = (&mut netvm, &mut guest);
        only_the_neighbour_passes(&link, ends, (&bad, &good), reason);
    }
    let broadcast = frame(BROADCAST, NETVM, 60, 3);
    netvm.send(&broadcast);
    assert_eq!(guest.receive(), broadcast);
}

#[test]
fn frames_too_short_or_too_long_are_dropped() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let good = frame(NETVM, GUEST, 1514, 1);
    for (len, reason) in [(13, "frame-short"), (0, "frame-short"), (1515, "frame-long")] {
        let bad: Vec<u8> = frame(NETVM, GUEST, len.max(14), 1).into_iter().take(len).collect();
        let ends = (&mut guest, &mut netvm);
        only_the_neighbour_passes(&link, ends, (&bad, &good), reason);
    }
}

#[test]
fn header_that_claims_what_was_not_negotiated_is_dropped() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let good = frame(NETVM, GUEST, 60, 1);
    let cases = [
        (0, 1_u8, "header-offload"),
        (1, 1, "header-offload"),
        (1, 5, "header-offload"),
        (1, 0x80, "gso-type"),
    ];
    for (offset, value, reason) in cases {
        let before = link.drops(reason);
        send_with_header(&mut guest, &good, offset, value);
        assert_eq!(link.drops(reason), before + 1, "{reason}");
    }
    guest.send(&good);
    assert_eq!(netvm.receive(), good);
}

#[test]
fn t44_flags_that_are_not_a_drivers_mean_nothing_and_are_not_passed_on() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
    let good = frame(NETVM, GUEST, 60, 1);
    for flags in [2, 4, 0x80] {
        send_with_header(&mut guest, &good, 0, flags);
        // Receiving checks that the header claims nothing.
        assert_eq!(netvm.receive(), good);
    }
}

/// Sends a frame with `value` at `offset` of its header.
fn send_with_header(guest: &mut Guest, frame: &[u8], offset: u64, value: u8) {
    let desc = guest.write_tx(63, frame);
    guest.memory.write_obj(value, GuestAddress(desc.addr + offset)).unwrap();
    guest.tx.set_desc(63, desc);
    guest.tx.put_avail(63);
    guest.tx.publish();
    guest.kick_tx();
    guest.wait_tx();
}

#[test]
fn frames_for_an_absent_peer_are_taken_and_dropped() {
    let link = TestLink::start();
    let mut guest = Guest::new(MRG_RXBUF, 64);
    guest.connect(&link.guest_socket());
    for _ in 0..200 {
        guest.send(&frame(NETVM, GUEST, 60, 1));
    }
    assert_eq!(link.drops("peer-down"), 200);
    // What was sent before netvm came is not delivered to it.
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    let good = frame(NETVM, GUEST, 60, 9);
    guest.send(&good);
    assert_eq!(netvm.receive(), good);
}
