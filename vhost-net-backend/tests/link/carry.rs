//! Frames that shall arrive, do, and whole; on rings of either kind.

use std::time::Duration;

use crate::common::driver::{Driver, DriverRing};
use crate::common::guest::{EVENT_IDX, Guest, INDIRECT_DESC, MRG_RXBUF};
use crate::common::link::TestLink;
use crate::common::packed::PackedRing;
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::pair_of;

on_both! {
    frames_pass_both_ways_unchanged,
    l18_short_frame_is_padded_with_zeros,
    rings_wrap_past_65536_chains_in_order,
    full_receive_ring_drops_and_counts_and_recovers,
    mergeable_frame_fills_several_buffers_that_appear_together,
    frames_posted_before_the_ring_runs_need_no_kick,
    chains_of_several_descriptors_wrap_around_the_ring,
}

fn frames_pass_both_ways_unchanged<R: Driver>() {
    for features in [0, MRG_RXBUF, MRG_RXBUF | EVENT_IDX | INDIRECT_DESC] {
        let (link, mut guest, mut netvm) = pair_of::<R>(features, 256);
        for len in [60, 64, 128, 1000, 1514] {
            let up = frame(NETVM, GUEST, len, 1);
            guest.send(&up);
            assert_eq!(netvm.receive(), up);
            let down = frame(GUEST, NETVM, len, 2);
            netvm.send(&down);
            assert_eq!(guest.receive(), down);
        }
        let report = link.report();
        assert_eq!((report.guest.frames_in, report.guest.frames_out), (5, 5));
        assert_eq!((report.netvm.frames_in, report.netvm.frames_out), (5, 5));
        assert_eq!(report.guest.bytes_in, 60 + 64 + 128 + 1000 + 1514);
        assert!(report.drops.is_empty(), "{report:?}");
        assert_eq!(report.guest.features & features, features);
        assert!(report.guest.up && report.netvm.up);
    }
}

#[test]
fn ends_with_rings_of_different_kinds_understand_each_other() {
    fn run<G: Driver, N: Driver>() {
        let link = TestLink::start();
        let mut guest = Guest::<G>::create(MRG_RXBUF, 64);
        let mut netvm = Guest::<N>::create(MRG_RXBUF | EVENT_IDX, 256);
        guest.connect(&link.guest_socket());
        netvm.connect(&link.netvm_socket());
        for round in 0..100 {
            guest.fill_rx();
            netvm.fill_rx();
            let up = frame(NETVM, GUEST, 60 + 14 * usize::from(round), round);
            guest.send(&up);
            assert_eq!(netvm.receive(), up);
            let down = frame(GUEST, NETVM, 1514 - 14 * usize::from(round), round);
            netvm.send(&down);
            assert_eq!(guest.receive(), down);
        }
    }
    run::<DriverRing, PackedRing>();
    run::<PackedRing, DriverRing>();
}

fn l18_short_frame_is_padded_with_zeros<R: Driver>() {
    let (_link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF, 64);
    // What lay in the buffers before must not be taken for a part of the frame.
    guest.send(&frame(NETVM, GUEST, 1514, 1));
    netvm.receive();
    for len in [34, 42, 59] {
        let short = frame(NETVM, GUEST, len, 2);
        guest.send(&short);
        let mut padded = short.clone();
        padded.resize(60, 0);
        assert_eq!(netvm.receive(), padded);
    }
}

fn rings_wrap_past_65536_chains_in_order<R: Driver>() {
    let (link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF | EVENT_IDX, 128);
    for round in 0..(70_000_u32 / 100) {
        let frames: Vec<_> = (0..100)
            .map(|number| {
                let mut frame = frame(NETVM, GUEST, 60, 3);
                frame[34..38].copy_from_slice(&(round * 100 + number).to_le_bytes());
                frame
            })
            .collect();
        for frame in &frames {
            guest.post(frame);
        }
        guest.kick_tx();
        guest.wait_tx();
        for frame in &frames {
            assert_eq!(&netvm.receive(), frame);
        }
        netvm.fill_rx();
    }
    assert!(link.report().drops.is_empty());
}

fn full_receive_ring_drops_and_counts_and_recovers<R: Driver>() {
    let (link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF, 64);
    for round in 0..3 {
        for _ in 0..60 {
            guest.post(&frame(NETVM, GUEST, 60, round));
        }
        guest.kick_tx();
        guest.wait_tx();
    }
    assert_eq!(link.drops("no-rx-buffer"), 180 - 64);
    for _ in 0..64 {
        netvm.receive();
    }
    assert!(netvm.receive_within(Duration::ZERO).is_none());
    netvm.fill_rx();
    let last = frame(NETVM, GUEST, 60, 9);
    guest.send(&last);
    assert_eq!(netvm.receive(), last);
}

fn mergeable_frame_fills_several_buffers_that_appear_together<R: Driver>() {
    let link = TestLink::start();
    let mut guest = Guest::<R>::create(MRG_RXBUF, 64);
    let mut netvm = Guest::<R>::create(MRG_RXBUF, 64);
    netvm.rx_buffer_len = 200;
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    for len in [60, 188, 189, 1000, 1514].repeat(10) {
        netvm.fill_rx();
        let sent = frame(NETVM, GUEST, len, 7);
        guest.send(&sent);
        let (received, buffers) = netvm.receive_within(Duration::from_secs(5)).unwrap();
        assert_eq!(received, sent);
        assert_eq!(usize::from(buffers), (len + 12).div_ceil(200));
    }
}

fn frames_posted_before_the_ring_runs_need_no_kick<R: Driver>() {
    let link = TestLink::start();
    let mut netvm = Guest::<R>::create(MRG_RXBUF, 64);
    netvm.fill_rx();
    let sent = frame(NETVM, GUEST, 60, 1);
    let mut guest = Guest::<R>::create(MRG_RXBUF, 64);
    netvm.connect_at_its_start(&link.netvm_socket());
    guest.post(&sent);
    guest.connect_at_its_start(&link.guest_socket());
    assert_eq!(netvm.receive(), sent);
}

fn chains_of_several_descriptors_wrap_around_the_ring<R: Driver>() {
    let (_link, mut guest, mut netvm) = pair_of::<R>(MRG_RXBUF, 16);
    for round in 0..100 {
        let sent = [frame(NETVM, GUEST, 60, round), frame(NETVM, GUEST, 900, round)];
        guest.post_split(&sent[0]);
        guest.post(&sent[1]);
        guest.kick_tx();
        guest.wait_tx();
        assert_eq!([netvm.receive(), netvm.receive()], sent);
        netvm.fill_rx();
    }
}
