//! T29 to T34: receive buffers that are too few, too small or too many, and what is written to
//! them.

use std::time::Duration;

use vhost::VhostBackend;
use vm_memory::{Bytes, GuestAddress};

use crate::common::driver::{Desc, Driver, WRITE};
use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF, VERSION_1, wait_for};
use crate::common::link::TestLink;
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::oracle::{Ends, SIZE};

on_both! {
    t29_one_byte_buffers_do_not_stall_the_sender,
    t29_buffers_that_are_too_few_are_waited_for_once_and_not_for_ever,
    t30_frame_too_long_for_a_buffer_is_dropped_without_mergeable_buffers,
    t31_buffers_smaller_than_a_header,
    t31_header_over_several_mergeable_buffers,
    t31_header_and_frame_over_a_chain_of_one_byte_descriptors,
    t32_buffers_of_a_frame_that_does_not_fit_are_not_used_up,
    t33_header_has_the_length_that_was_negotiated,
    t34_nothing_but_header_and_frame_is_written,
}

/// Two ends, of which netvm's receive buffers are of this length.
fn ends_with_buffers<R: Driver>(features: u64, size: u16, len: u32) -> Ends<R> {
    let mut netvm = Guest::create(features, size);
    netvm.rx_buffer_len = len;
    Ends::with(Guest::create(features, 256), netvm)
}

fn t29_one_byte_buffers_do_not_stall_the_sender<R: Driver>() {
    let mut ends = ends_with_buffers::<R>(MRG_RXBUF, 1024, 1);
    for _ in 0..100 {
        ends.guest.send(&frame(NETVM, GUEST, 1000, 1));
        ends.down_works();
    }
    assert_eq!(ends.link.drops("rx-buffer-short"), 100);
    assert_eq!(ends.netvm.rx.pop_used(), None);
    netvm_heals(ends);
}

fn t29_buffers_that_are_too_few_are_waited_for_once_and_not_for_ever<R: Driver>() {
    for features in [MRG_RXBUF, MRG_RXBUF | EVENT_IDX] {
        let mut ends = Ends::<R>::new(features, 256);
        let mut netvm = Guest::<R>::create(features, 256);
        netvm.rx_buffer_len = 200;
        ends.netvm.disconnect();
        ends.link.report_when(|report| !report.netvm.connected);
        netvm.connect(&ends.link.netvm_socket());
        netvm.post_rx(3);
        let long = frame(NETVM, GUEST, 1000, 1);
        for count in 1..=3 {
            ends.guest.send(&long);
            assert_eq!(ends.link.drops("no-rx-buffer"), count);
            // The link sleeps rather than looking at those buffers again and again.
            assert!(wait_for(|| ends.guest.tx.kick_is_wanted(features & EVENT_IDX != 0)));
        }
        netvm.post_rx(3);
        ends.guest.send(&long);
        let (received, buffers) = netvm.receive_within(Duration::from_secs(5)).unwrap();
        assert_eq!((received, buffers), (long, 6));
        ends.netvm = netvm;
        netvm_heals(ends);
    }
}

fn t30_frame_too_long_for_a_buffer_is_dropped_without_mergeable_buffers<R: Driver>() {
    let mut ends = ends_with_buffers::<R>(0, 64, 200);
    ends.guest.send(&frame(NETVM, GUEST, 189, 1));
    ends.guest.send(&frame(NETVM, GUEST, 1514, 1));
    assert_eq!(ends.link.drops("rx-buffer-short"), 2);
    // The buffer was not used up, and later frames that fit do arrive.
    let good = frame(NETVM, GUEST, 188, 2);
    ends.guest.send(&good);
    assert_eq!(ends.netvm.receive_within(Duration::from_secs(5)).unwrap(), (good, 1));
    ends.all_is_well();
}

fn t31_buffers_smaller_than_a_header<R: Driver>() {
    for len in [0, 1, 10, 11, 12, 13] {
        let mut ends = ends_with_buffers::<R>(0, SIZE, len);
        for count in 1..=20 {
            ends.guest.send(&frame(NETVM, GUEST, 60, 1));
            assert_eq!(ends.link.drops("rx-buffer-short"), count);
        }
        assert_eq!(ends.netvm.rx.pop_used(), None);
        ends.down_works();
        netvm_heals(ends);
    }
}

fn t31_header_over_several_mergeable_buffers<R: Driver>() {
    for len in [2_u32, 5, 11] {
        let mut ends = ends_with_buffers::<R>(MRG_RXBUF, 64, len);
        let sent = frame(NETVM, GUEST, 60, 1);
        ends.guest.send(&sent);
        let mut bytes = Vec::new();
        let arrived = wait_for(|| {
            while let Some((id, len)) = ends.netvm.rx.pop_used() {
                bytes.extend(ends.netvm.read_rx(id, len));
            }
            bytes.len() == 72
        });
        assert!(arrived);
        let buffers = 72_u32.div_ceil(len) as u16;
        assert_eq!(bytes[..10], [0; 10]);
        assert_eq!(bytes[10..12], buffers.to_le_bytes());
        assert_eq!(bytes[12..], sent);
        netvm_heals(ends);
    }
}

fn t31_header_and_frame_over_a_chain_of_one_byte_descriptors<R: Driver>() {
    for features in [0, MRG_RXBUF] {
        let mut ends = Ends::<R>::with(Guest::create(features, 256), Guest::create(features, 256));
        ends.netvm.disconnect();
        ends.link.report_when(|report| !report.netvm.connected);
        ends.netvm.rx.reset();
        let byte = |at: u64| Desc { addr: 0x30_0000 + at, len: 1, flags: WRITE, next: 0 };
        let chain: Vec<_> = (0..100).map(byte).collect();
        ends.netvm.connect(&ends.link.netvm_socket());
        ends.netvm.rx.offer(7, &chain);
        ends.netvm.rx.publish();
        let sent = frame(NETVM, GUEST, 60, 1);
        ends.guest.send(&sent);
        assert!(wait_for(|| ends.netvm.rx.pop_used() == Some((7, 72))));
        let mut bytes = [0; 100];
        ends.netvm.memory.read_slice(&mut bytes, GuestAddress(0x30_0000)).unwrap();
        assert_eq!(bytes[..10], [0; 10]);
        assert_eq!(bytes[12..72], sent);
        assert_eq!(bytes[72..], [0xd7; 28], "the poison is as it was");
        netvm_heals(ends);
    }
}

fn t32_buffers_of_a_frame_that_does_not_fit_are_not_used_up<R: Driver>() {
    let mut ends = ends_with_buffers::<R>(MRG_RXBUF, SIZE, 64);
    let (long, short) = (frame(NETVM, GUEST, 1514, 1), frame(NETVM, GUEST, 700, 2));
    for round in 1..=50 {
        // 24 buffers, of which there are 16; then 12, in buffers the long frame had its eye on.
        ends.guest.send(&long);
        assert_eq!(ends.link.drops("no-rx-buffer"), round);
        assert!(ends.netvm.rx.pop_used().is_none());
        ends.guest.send(&short);
        let received = ends.netvm.receive_within(Duration::from_secs(5)).unwrap();
        assert_eq!(received, (short.clone(), 12));
        ends.netvm.fill_rx();
    }
    netvm_heals(ends);
}

fn t33_header_has_the_length_that_was_negotiated<R: Driver>() {
    let link = TestLink::start();
    let mut netvm = Guest::<R>::create(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    // VIRTIO_NET_F_HASH_REPORT and VIRTIO_NET_F_RSS make it 20 bytes: not offered, and refused.
    for feature in [57, 60] {
        let mut guest = Guest::<R>::create(0, 64);
        guest.connect(&link.guest_socket());
        let frontend = &guest.session().frontend;
        assert_eq!(frontend.get_features().unwrap() & 1 << feature, 0);
        assert!(frontend.set_features(VERSION_1 | 1 << feature).is_err());
        link.report_when(|report| !report.guest.connected);
    }
    // Ten bytes only for a legacy driver without mergeable buffers, and so with split rings.
    let len = if R::FEATURES == 0 { 10 } else { 12 };
    let mut guest = Guest::<R>::create(0, 64);
    if len == 10 {
        guest.features &= !VERSION_1;
    }
    guest.connect(&link.guest_socket());
    guest.fill_rx();
    let up = frame(NETVM, GUEST, 60, 1);
    let whole = guest.write_tx(0, &up);
    let cut = 12 - len;
    let desc = Desc { addr: whole.addr + u64::from(cut), len: whole.len - cut, ..whole };
    guest.tx.offer(0, &[desc]);
    guest.tx.publish();
    guest.kick_tx();
    assert_eq!(netvm.receive(), up);
    let down = frame(GUEST, NETVM, 60, 2);
    netvm.send(&down);
    let mut used = None;
    assert!(wait_for(|| {
        used = guest.rx.pop_used();
        used.is_some()
    }));
    let (id, written) = used.unwrap();
    assert_eq!(written, 60 + len);
    let bytes = guest.read_rx(id, written);
    assert_eq!(bytes[..10], [0; 10]);
    assert_eq!(bytes[len as usize..], down);
}

fn t34_nothing_but_header_and_frame_is_written<R: Driver>() {
    for features in [0, MRG_RXBUF] {
        let mut ends = Ends::<R>::new(features, SIZE);
        for len in [34, 59, 60, 127, 128, 129, 1000, 1514] {
            ends.guest.post_split(&frame(NETVM, GUEST, len, 1));
            ends.guest.kick_tx();
            ends.guest.wait_tx();
            let mut used = None;
            assert!(wait_for(|| {
                used = ends.netvm.rx.pop_used();
                used.is_some()
            }));
            let (id, written) = used.unwrap();
            let buffer = ends.netvm.read_rx(id, 2048);
            assert_eq!(written as usize, 12 + len.max(60));
            assert_eq!(buffer[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            assert!(buffer[12 + len..written as usize].iter().all(|byte| *byte == 0), "padding");
            assert!(buffer[written as usize..].iter().all(|byte| *byte == 0xd7), "poison");
        }
        ends.all_is_well();
    }
}

/// What netvm's driver did is over with its next session.
fn netvm_heals<R: Driver>(mut ends: Ends<R>) {
    ends.netvm.disconnect();
    ends.link.report_when(|report| !report.netvm.connected);
    ends.netvm.rx_buffer_len = 2048;
    ends.netvm.rx.reset();
    ends.netvm.tx.reset();
    ends.netvm.connect(&ends.link.netvm_socket());
    ends.all_is_well();
}
