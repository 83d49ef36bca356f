//! Frames that shall arrive, do, and whole.

use std::time::Duration;

use crate::common::guest::{EVENT_IDX, INDIRECT_DESC, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame};
use crate::pair;

#[test]
fn frames_pass_both_ways_unchanged() {
    for features in [0, MRG_RXBUF, MRG_RXBUF | EVENT_IDX | INDIRECT_DESC] {
        let (link, mut guest, mut netvm) = pair(features, 256);
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
fn l18_short_frame_is_padded_with_zeros() {
    let (_link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
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

#[test]
fn rings_wrap_past_65536_chains_in_order() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF | EVENT_IDX, 128);
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

#[test]
fn full_receive_ring_drops_and_counts_and_recovers() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 64);
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
