//! Claims of segmentation that contradict themselves: T38 to T41.

use super::{
    ALL, Checked, DropReason, KINDS, Offload, SegmentKind, Spec, U16, VirtioNetHeader, believed,
    check, checked, feature, refused,
};

#[test]
fn true_headers_are_believed() {
    for (make, kind) in KINDS.into_iter().zip([
        SegmentKind::Tcp4,
        SegmentKind::Tcp6,
        SegmentKind::Udp4,
        SegmentKind::Udp6,
    ]) {
        let spec = make(5000);
        let plain = believed(&spec.checksum_header(), &spec.frame());
        assert_eq!(plain.segments, None);
        let gso = believed(&spec.gso_header(1000), &spec.frame());
        assert_eq!(gso.checksum, plain.checksum);
        let segments = gso.segments.unwrap();
        assert_eq!((segments.kind, segments.size), (kind, 1000));
        assert_eq!(usize::from(segments.header_len), spec.header_len());
    }
}

#[test]
fn t38_unknown_and_double_types_are_refused() {
    for make in KINDS {
        let spec = make(5000);
        let good = spec.gso_header(1000);
        for gso_type in 0..=255 {
            let header = VirtioNetHeader { gso_type, ..good };
            if matches!(gso_type, 0 | 1 | 4 | 5 | 0x81 | 0x84) {
                assert_ne!(checked(&header, &spec.frame()), Checked::Drop(DropReason::GsoType));
            } else {
                refused(&header, &spec.frame(), DropReason::GsoType);
            }
        }
    }
}

#[test]
fn t38_types_that_were_not_negotiated_are_refused() {
    for (make, needed) in KINDS.into_iter().zip([
        feature::HOST_TSO4,
        feature::HOST_TSO6,
        feature::HOST_USO,
        feature::HOST_USO,
    ]) {
        let spec = make(5000);
        let frame = spec.frame();
        for missing in [needed, feature::CSUM] {
            let checked = check(&spec.gso_header(1000), ALL & !missing, &frame, frame.len());
            assert_eq!(checked, Checked::Drop(DropReason::HeaderOffload));
        }
        let only = needed | feature::CSUM;
        let checked = check(&spec.gso_header(1000), only, &frame, frame.len());
        assert!(matches!(checked, Checked::Ok(Offload { segments: Some(_), .. })));
        let checked = check(&spec.checksum_header(), !feature::CSUM, &frame, frame.len());
        assert_eq!(checked, Checked::Drop(DropReason::HeaderOffload));
    }
    let spec = Spec { tcp_flags: 0x90, ..Spec::tcp4(5000) };
    let frame = spec.frame();
    let checked = check(&spec.gso_header(1000), ALL & !feature::HOST_ECN, &frame, frame.len());
    assert_eq!(checked, Checked::Drop(DropReason::HeaderOffload));
    assert!(believed(&spec.gso_header(1000), &frame).segments.unwrap().ecn);
}

#[test]
fn t39_segment_sizes_out_of_bounds_are_refused() {
    for make in KINDS {
        let spec = make(5000);
        let frame = spec.frame();
        let len = u16::try_from(frame.len()).unwrap();
        for size in [0, 1, 7, len + 1, 0xfffe, 0xffff] {
            refused(&spec.gso_header(size), &frame, DropReason::GsoSize);
        }
        for size in [8, 64, 4999] {
            assert!(believed(&spec.gso_header(size), &frame).segments.is_some());
        }
        // One segment only: nothing to cut, whatever the header says.
        for size in [5000, len] {
            let offload = believed(&spec.gso_header(size), &frame);
            assert_eq!(offload, believed(&spec.checksum_header(), &frame));
        }
    }
}

#[test]
fn t39_the_mark_that_is_no_size_is_refused_for_frames_as_long_as_it() {
    let spec = Spec::tcp4(65535 - 40);
    let frame = spec.frame();
    refused(&spec.gso_header(0xffff), &frame, DropReason::GsoSize);
    believed(&spec.gso_header(0xfffe), &frame);
}

#[test]
fn t39_more_segments_than_the_limit_are_refused() {
    let spec = Spec::tcp4(8 * 1024);
    assert!(believed(&spec.gso_header(8), &spec.frame()).segments.is_some());
    let spec = Spec::tcp4(8 * 1024 + 1);
    refused(&spec.gso_header(8), &spec.frame(), DropReason::GsoSize);
}

#[test]
fn t40_gso_without_a_checksum_is_refused() {
    for make in KINDS {
        let spec = make(5000);
        for flags in [0, 2, 4, 0xfe] {
            let header = VirtioNetHeader { flags, ..spec.gso_header(1000) };
            refused(&header, &spec.frame(), DropReason::GsoNoChecksum);
        }
    }
}

#[test]
fn t41_hdr_len_is_made_anew() {
    for make in KINDS {
        let spec = make(5000);
        let truth = spec.gso_header(1000);
        for hdr_len in [0, 1, 14, 53, 5000, 0xffff] {
            let header = VirtioNetHeader { hdr_len: U16::new(hdr_len), ..truth };
            assert_eq!(believed(&header, &spec.frame()).header(), truth);
        }
    }
}
