//! Over random frames and random claims.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::frames::{ALL, Spec, any_spec, slow_sum};
use super::model;
use crate::datapath::header::VirtioNetHeader;
use crate::datapath::offload::checksum::Sum;
use crate::datapath::offload::{Checked, MAX_SEGMENTS, Offload, check, complete_checksum, segment};

fn proven(header: &VirtioNetHeader, frame: &[u8]) -> Offload {
    match check(header, ALL, frame, frame.len()) {
        Checked::Ok(offload) => offload,
        other => panic!("{other:?} for a true header"),
    }
}

/// Checks with ever more of the frame, as the data path does.
fn check_by_parts(header: &VirtioNetHeader, features: u64, frame: &[u8]) -> Checked {
    let mut private = frame.len().min(128);
    loop {
        match check(header, features, &frame[..private], frame.len()) {
            Checked::More(more) => {
                assert!(more > private && more <= frame.len(), "{more} of {}", frame.len());
                private = more;
            }
            checked => return checked,
        }
    }
}

/// Whatever a header claims, nothing panics, and a claim that was believed does no harm.
fn claim_does_no_harm(header: &VirtioNetHeader, features: u64, frame: &[u8], room: usize) {
    let whole = check(header, features, frame, frame.len());
    assert!(!matches!(whole, Checked::More(_)));
    assert_eq!(check_by_parts(header, features, frame), whole);
    let Checked::Ok(offload) = whole else { return };
    // The header that is made of it is as true as the one it was made of.
    assert_eq!(check(&offload.header(), ALL, frame, frame.len()), whole);
    assert!(offload.wire_len(frame.len()) <= frame.len());
    if let Some(checksum) = offload.checksum {
        let mut completed = frame.to_vec();
        complete_checksum(&mut completed, checksum);
        let field = usize::from(checksum.start) + usize::from(checksum.offset);
        assert!(field >= 14 + 20 + 4);
        completed[field..field + 2].copy_from_slice(&frame[field..field + 2]);
        assert_eq!(completed, frame, "bytes beside the checksum were written");
    }
    let (mut count, mut payload) = (0_usize, 0);
    let mut scratch = vec![0; offload.wire_len(frame.len())];
    segment(frame, &offload, &mut scratch, |made| {
        let header_len = usize::from(offload.segments.unwrap().header_len);
        count += 1;
        payload += made.len() - header_len;
    });
    if let Some(segments) = offload.segments {
        assert!(count > 1 && count <= MAX_SEGMENTS);
        assert_eq!(payload, frame.len() - usize::from(segments.header_len));
    } else {
        assert_eq!(count, 0);
    }
    segment(frame, &offload, &mut vec![0; room], |_| {});
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(
        header in any::<[u8; 12]>(),
        features in any::<u64>(),
        frame in prop::collection::vec(any::<u8>(), 0..400),
        room in 0..400_usize,
    ) {
        let header = VirtioNetHeader::read_from_bytes(&header).unwrap();
        claim_does_no_harm(&header, features | 1, &frame, room);
    }

    #[test]
    fn true_frames_with_a_few_lies_do_no_harm(
        spec in any_spec(600),
        size in prop_oneof![Just(None), (0..700_u16).prop_map(Some)],
        header_lies in prop::collection::vec((0..12_usize, any::<u8>()), 0..2),
        frame_lies in prop::collection::vec((12..100_usize, any::<u8>()), 0..3),
        cut in prop_oneof![3 => Just(usize::MAX), 1 => 0..700_usize],
        room in 0..400_usize,
    ) {
        let mut header = match size {
            Some(size) => spec.gso_header(size),
            None => spec.checksum_header(),
        };
        let mut frame = spec.frame();
        for (at, value) in header_lies {
            header.as_mut_bytes()[at] = value;
        }
        for (at, value) in frame_lies {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut);
        claim_does_no_harm(&header, ALL, &frame, room);
    }

    /// An offload that was made for another frame must not panic either.
    #[test]
    fn offload_of_another_frame_does_not_panic(
        spec in any_spec(600),
        size in 8..700_u16,
        frame in prop::collection::vec(any::<u8>(), 0..700),
        room in 0..700_usize,
    ) {
        prop_assume!(usize::from(size) <= spec.frame().len());
        let offload = proven(&spec.gso_header(size), &spec.frame());
        segment(&frame, &offload, &mut vec![0; room], |_| {});
        if let Some(checksum) = offload.checksum {
            complete_checksum(&mut frame.clone(), checksum);
        }
    }

    #[test]
    fn completed_checksum_is_right(spec in any_spec(3000)) {
        let mut frame = spec.frame();
        let offload = proven(&spec.checksum_header(), &frame);
        prop_assert_eq!(offload.segments, None);
        complete_checksum(&mut frame, offload.checksum.unwrap());
        model::assert_checksum(&frame);
    }

    #[test]
    fn segments_equal_the_models(
        spec in any_spec(20_000),
        size in prop_oneof![64..9000_u16, 8..80_u16],
        stale in any::<u8>(),
    ) {
        let spec = Spec { payload: spec.payload.min(usize::from(size) * 1024), ..spec };
        let frame = spec.frame();
        prop_assume!(usize::from(size) <= frame.len());
        let offload = proven(&spec.gso_header(size), &frame);
        let mut segments = Vec::new();
        let mut scratch = vec![stale; offload.wire_len(frame.len())];
        segment(&frame, &offload, &mut scratch, |segment| segments.push(segment.to_vec()));
        if spec.payload <= usize::from(size) {
            prop_assert_eq!(offload.segments, None);
            prop_assert!(segments.is_empty());
        } else {
            prop_assert_eq!(&segments, &model::cut(&frame, spec.network(), usize::from(size)));
            let longest = segments.iter().map(Vec::len).max();
            prop_assert_eq!(longest, Some(offload.wire_len(frame.len())));
        }
    }

    #[test]
    fn fast_sum_equals_the_slow_one(
        bytes in prop::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..300),
        split in 0..150_usize,
    ) {
        let (head, tail) = bytes.split_at((2 * split).min(bytes.len()));
        let mut sum = Sum::default();
        sum.add(head);
        sum.add(tail);
        prop_assert_eq!(sum.checksum(), !slow_sum(&bytes));
    }
}

#[test]
fn longest_frame_is_segmented_as_the_model_does() {
    for spec in [Spec::tcp4(65535 - 40), Spec::udp4(65535 - 28), Spec::tcp6(65535 - 60)] {
        let frame = spec.frame();
        let offload = proven(&spec.gso_header(1448), &frame);
        let mut segments = Vec::new();
        segment(&frame, &offload, &mut [0; 1600], |segment| segments.push(segment.to_vec()));
        assert_eq!(segments, model::cut(&frame, 14, 1448));
    }
}

#[test]
fn sums_of_nothing_but_ones_are_folded_right() {
    for len in [1, 2, 7, 8, 63, 64, 65, 1460, 65535, 65549] {
        let bytes = vec![0xff; len];
        let mut sum = Sum::default();
        sum.add(&bytes);
        sum.add_u16(0xffff);
        let mut wanted = bytes.clone();
        wanted.resize(len.next_multiple_of(2), 0);
        wanted.extend([0xff, 0xff]);
        assert_eq!(sum.checksum(), !slow_sum(&wanted), "{len}");
    }
}
