//! T45: what a receiver did not negotiate does not reach it.

use super::frames::{ALL, Spec};
use super::model;
use crate::datapath::header::VirtioNetHeader;
use crate::datapath::offload::feature::{
    GUEST_CSUM, GUEST_ECN, GUEST_TSO4, GUEST_TSO6, GUEST_USO4, GUEST_USO6, RECEIVER,
};
use crate::datapath::offload::{Accepted, Checked, Offload, check, complete_checksum, segment};

fn proven(header: &VirtioNetHeader, frame: &[u8]) -> Offload {
    match check(header, ALL, frame, frame.len()) {
        Checked::Ok(offload) => offload,
        other => panic!("{other:?} for a true header"),
    }
}

#[test]
fn t45_frame_is_left_whole_only_for_a_receiver_that_takes_all_of_it() {
    let cwr = Spec { tcp_flags: 0x98, ..Spec::tcp4(5000) };
    let cases = [
        (Spec::tcp4(5000), GUEST_TSO4),
        (Spec::tcp6(5000), GUEST_TSO6),
        (Spec::udp4(5000), GUEST_USO4),
        (Spec::udp6(5000), GUEST_USO6),
        (cwr, GUEST_TSO4 | GUEST_ECN),
    ];
    for (spec, kind) in cases {
        let offload = proven(&spec.gso_header(1000), &spec.frame());
        let needed = GUEST_CSUM | kind;
        assert_eq!(offload.accepted_by(RECEIVER), Accepted::AsIs);
        assert_eq!(offload.accepted_by(needed), Accepted::AsIs);
        assert_eq!(offload.accepted_by(0), Accepted::NeedsSegments);
        for bit in (0..64).map(|bit| 1 << bit).filter(|bit| needed & bit != 0) {
            let others = !bit;
            assert_eq!(offload.accepted_by(others), Accepted::NeedsSegments, "{bit:#x}");
        }
    }
}

#[test]
fn t45_checksum_is_left_only_for_a_receiver_that_completes_it() {
    let spec = Spec::udp6(100);
    let offload = proven(&spec.checksum_header(), &spec.frame());
    assert_eq!(offload.accepted_by(GUEST_CSUM), Accepted::AsIs);
    assert_eq!(offload.accepted_by(!GUEST_CSUM), Accepted::NeedsChecksum);
    assert_eq!(Offload::default().accepted_by(0), Accepted::AsIs);
}

#[test]
fn t45_small_segments_are_not_left_to_a_receiver() {
    let spec = Spec::udp4(1000);
    for (size, accepted) in [(63, Accepted::NeedsSegments), (64, Accepted::AsIs)] {
        let offload = proven(&spec.gso_header(size), &spec.frame());
        assert_eq!(offload.accepted_by(RECEIVER), accepted);
    }
}

#[test]
fn t45_what_the_software_makes_needs_nothing() {
    let spec = Spec { tcp_flags: 0x99, ..Spec::tcp4(2500) };
    let frame = spec.frame();
    let offload = proven(&spec.gso_header(1000), &frame);
    let mut flags = Vec::new();
    segment(&frame, &offload, &mut [0; 1054], |segment| {
        model::assert_checksum(segment);
        flags.push(segment[47]);
    });
    // CWR on the first, FIN and PSH on the last, ACK on all.
    assert_eq!(flags, [0x90, 0x10, 0x19]);
    let offload = proven(&spec.checksum_header(), &frame);
    let mut completed = frame;
    complete_checksum(&mut completed, offload.checksum.unwrap());
    model::assert_checksum(&completed);
}

#[test]
fn udp_checksum_of_zero_is_sent_as_ones() {
    // Two bytes of payload make the sum anything, 0 too.
    let spec = Spec { payload: 2, ..Spec::udp4(2) };
    let mut frame = spec.frame();
    let offload = proven(&spec.checksum_header(), &frame);
    frame[42..44].fill(0);
    let mut probe = frame.clone();
    complete_checksum(&mut probe, offload.checksum.unwrap());
    frame[42..44].copy_from_slice(&probe[40..42]);
    complete_checksum(&mut frame, offload.checksum.unwrap());
    assert_eq!(frame[40..42], [0xff, 0xff]);
    model::assert_checksum(&frame);
}
