//! T36 to T46: each lie is refused for its reason, and its true neighbour is believed.

use zerocopy::little_endian::U16;

use super::frames::{ALL, Spec};
use crate::datapath::drop_reason::DropReason;
use crate::datapath::header::VirtioNetHeader;
use crate::datapath::offload::{Checked, MAX_FRAME, Offload, SegmentKind, check, feature};

fn checked(header: &VirtioNetHeader, frame: &[u8]) -> Checked {
    check(header, ALL, frame, frame.len())
}

fn believed(header: &VirtioNetHeader, frame: &[u8]) -> Offload {
    match checked(header, frame) {
        Checked::Ok(offload) => offload,
        other => panic!("{other:?} for {header:?}"),
    }
}

#[track_caller]
fn refused(header: &VirtioNetHeader, frame: &[u8], reason: DropReason) {
    assert_eq!(checked(header, frame), Checked::Drop(reason), "{header:?}");
}

fn checksum_at(spec: &Spec, start: usize, offset: usize) -> VirtioNetHeader {
    VirtioNetHeader {
        csum_start: U16::new(start.try_into().unwrap()),
        csum_offset: U16::new(offset.try_into().unwrap()),
        ..spec.checksum_header()
    }
}

/// An IPv4 packet of `protocol` with 100 bytes after its header, `first` in front.
fn carrying(protocol: u8, first: &[u8]) -> (Spec, Vec<u8>) {
    let spec = Spec::udp4(92);
    let mut frame = spec.frame();
    frame[23] = protocol;
    frame[34..34 + first.len()].copy_from_slice(first);
    (spec, frame)
}

const KINDS: [fn(usize) -> Spec; 4] = [Spec::tcp4, Spec::tcp6, Spec::udp4, Spec::udp6];

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
fn t36_checksum_outside_the_frame_is_refused() {
    for spec in [Spec::tcp4(20), Spec::udp6(20)] {
        let frame = spec.frame();
        let end = frame.len();
        for (start, offset) in [
            (end, 0),
            (end - 1, 16),
            (0xffff, 0xffff),
            (0xffff, 6),
            (spec.transport(), end - spec.transport() - 1),
            (spec.transport(), 0xffff),
        ] {
            let header = checksum_at(&spec, start, offset);
            refused(&header, &frame, DropReason::ChecksumPlace);
        }
        believed(&spec.checksum_header(), &frame);
    }
}

#[test]
fn t36_checksum_in_the_padding_is_refused() {
    let spec = Spec::udp4(10);
    let mut frame = spec.frame();
    let end = frame.len();
    frame.resize(100, 0);
    believed(&spec.checksum_header(), &frame);
    refused(&checksum_at(&spec, end, 6), &frame, DropReason::ChecksumPlace);
}

#[test]
fn t37_checksum_in_front_of_the_transport_header_is_refused() {
    for spec in [Spec::tcp4(100), Spec::tcp6(100), Spec { ip_options: 8, ..Spec::udp4(100) }] {
        for start in 0..spec.transport() {
            for offset in [0, spec.checksum_offset(), spec.transport() - start] {
                let header = checksum_at(&spec, start, offset);
                refused(&header, &spec.frame(), DropReason::ChecksumPlace);
            }
        }
    }
}

#[test]
fn t37_checksum_at_another_place_of_the_transport_header_is_refused() {
    for make in KINDS {
        let spec = make(100);
        for offset in (0..40).filter(|offset| *offset != spec.checksum_offset()) {
            let header = checksum_at(&spec, spec.transport(), offset);
            refused(&header, &spec.frame(), DropReason::ChecksumPlace);
        }
        for start in spec.transport() + 1..spec.transport() + 8 {
            let header = checksum_at(&spec, start, 6);
            refused(&header, &spec.frame(), DropReason::ChecksumPlace);
        }
    }
}

#[test]
fn t37_checksum_of_neighbour_discovery_is_refused() {
    // Its type is the first byte: a checksum there would make an advertisement of anything.
    let spec = Spec::udp6(100);
    let mut frame = spec.frame();
    frame[20] = 58;
    for (start, offset) in [(54, 0), (54, 2), (62, 6), (70, 16)] {
        refused(&checksum_at(&spec, start, offset), &frame, DropReason::ChecksumPlace);
    }
}

#[test]
fn t37_checksum_in_what_is_not_ip_is_refused() {
    let spec = Spec::udp4(100);
    for ethertype in [[8, 6], [0x88, 0xcc], [0x81, 0], [0, 50]] {
        let mut frame = spec.frame();
        frame[12..14].copy_from_slice(&ethertype);
        refused(&spec.checksum_header(), &frame, DropReason::OffloadHeaders);
    }
}

#[test]
fn t37_checksum_in_a_tunnel_is_believed_behind_the_tunnels_header_only() {
    let udp = (17, 8, &[0x13, 0x88, 0x12, 0xb5][..]);
    for (protocol, header_len, first) in [udp, (47, 4, &[]), (4, 20, &[]), (41, 40, &[])] {
        let (spec, frame) = carrying(protocol, first);
        let inner = spec.transport() + header_len;
        for offset in [6, 16] {
            refused(&checksum_at(&spec, inner - 1, offset), &frame, DropReason::ChecksumPlace);
            let offload = believed(&checksum_at(&spec, inner, offset), &frame);
            assert_eq!(usize::from(offload.checksum.unwrap().start), inner);
        }
        refused(&checksum_at(&spec, inner, 7), &frame, DropReason::ChecksumPlace);
    }
    // TCP carries no such tunnel.
    let spec = Spec::tcp4(100);
    let header = checksum_at(&spec, spec.transport() + 40, 16);
    refused(&header, &spec.frame(), DropReason::ChecksumPlace);
}

#[test]
fn t37_checksum_in_the_payload_of_dhcp_is_refused() {
    for [source, destination] in [[68, 67], [67, 68], [1000, 67], [546_u16, 547], [547, 1000]] {
        let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        let (spec, frame) = carrying(17, &ports);
        // Where the client's address is.
        let header = checksum_at(&spec, spec.transport() + 8 + 22, 6);
        refused(&header, &frame, DropReason::ChecksumPlace);
        believed(&spec.checksum_header(), &frame);
    }
}

#[test]
fn t37_checksum_of_gre_is_believed_if_it_has_one() {
    let (spec, with) = carrying(47, &[0x80, 0, 8, 0]);
    believed(&checksum_at(&spec, spec.transport(), 4), &with);
    refused(&checksum_at(&spec, spec.transport(), 6), &with, DropReason::ChecksumPlace);
    let (spec, without) = carrying(47, &[0, 0, 8, 0]);
    refused(&checksum_at(&spec, spec.transport(), 4), &without, DropReason::ChecksumPlace);
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

#[test]
fn t42_type_of_another_frame_is_refused() {
    for make in KINDS {
        let spec = make(5000);
        let truth = spec.gso_header(1000);
        for gso_type in [1, 4, 5] {
            let header = VirtioNetHeader { gso_type, ..truth };
            if gso_type == truth.gso_type {
                believed(&header, &spec.frame());
            } else {
                refused(&header, &spec.frame(), DropReason::GsoMismatch);
            }
        }
    }
}

#[test]
fn t42_segmentation_of_a_tunnel_is_refused() {
    let (spec, frame) = carrying(17, &[0x13, 0x88, 0x12, 0xb5]);
    let header = VirtioNetHeader {
        csum_start: U16::new(50),
        csum_offset: U16::new(16),
        ..spec.gso_header(20)
    };
    refused(&header, &frame, DropReason::GsoMismatch);
}

#[test]
fn t42_fragments_are_refused() {
    for fragment in [[0x20, 0], [0, 1], [0x3f, 0xff]] {
        let spec = Spec::tcp4(5000);
        let mut frame = spec.frame();
        frame[20..22].copy_from_slice(&fragment);
        for header in [spec.gso_header(1000), spec.checksum_header()] {
            refused(&header, &frame, DropReason::OffloadFragment);
        }
    }
    let spec = Spec { extensions: vec![0], ..Spec::tcp6(5000) };
    let mut frame = spec.frame();
    believed(&spec.gso_header(1000), &frame);
    frame[20] = 44;
    refused(&spec.gso_header(1000), &frame, DropReason::OffloadFragment);
}

#[test]
fn t42_lengths_that_lie_are_refused() {
    for (spec, at) in [(Spec::tcp4(5000), 16), (Spec::udp6(5000), 18)] {
        let good = spec.frame();
        let real = u16::from_be_bytes([good[at], good[at + 1]]);
        for (length, reason) in [
            (real - 1, DropReason::GsoMismatch),
            (real + 1, DropReason::OffloadHeaders),
            (0xffff, DropReason::OffloadHeaders),
        ] {
            let mut frame = good.clone();
            frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
            refused(&spec.gso_header(1000), &frame, reason);
        }
        let mut frame = good.clone();
        frame[at..at + 2].fill(0);
        assert!(matches!(checked(&spec.gso_header(1000), &frame), Checked::Drop(_)));
    }
    let spec = Spec::udp4(5000);
    let mut frame = spec.frame();
    frame[39] += 1;
    refused(&spec.gso_header(1000), &frame, DropReason::GsoMismatch);
}

#[test]
fn t42_ihl_and_version_that_lie_are_refused() {
    let spec = Spec::tcp4(5000);
    for version_length in [0x44, 0x40, 0x65, 0x05] {
        let mut frame = spec.frame();
        frame[14] = version_length;
        refused(&spec.gso_header(1000), &frame, DropReason::OffloadHeaders);
    }
    // The header goes on where TCP was.
    let mut frame = spec.frame();
    frame[14] = 0x46;
    refused(&spec.gso_header(1000), &frame, DropReason::ChecksumPlace);
    let spec = Spec::tcp6(5000);
    let mut frame = spec.frame();
    frame[14] = 0x40;
    refused(&spec.gso_header(1000), &frame, DropReason::OffloadHeaders);
}

#[test]
fn t42_doff_that_lies_is_refused() {
    for spec in [Spec::tcp4(30), Spec::tcp6(30)] {
        let at = spec.transport() + 12;
        for doff in [0, 4, 13] {
            let mut frame = spec.frame();
            frame[at] = doff << 4;
            refused(&spec.gso_header(8), &frame, DropReason::GsoMismatch);
        }
        let mut frame = spec.frame();
        frame[at] = 6 << 4;
        let offload = believed(&spec.gso_header(8), &frame);
        let header_len = usize::from(offload.segments.unwrap().header_len);
        assert_eq!(header_len, spec.header_len() + 4);
    }
}

/// A TCP over IPv6 frame with `count` destination options headers of 8 bytes.
fn with_extensions(count: usize, kind: u8) -> (Spec, Vec<u8>) {
    let spec = Spec { extensions: vec![0; count], ..Spec::tcp6(2000) };
    let plain = Spec::tcp6(2000).frame();
    let mut frame = plain[..54].to_vec();
    for index in 0..count {
        frame.extend([if index + 1 == count { 6 } else { kind }, 0, 0, 0, 0, 0, 0, 0]);
    }
    frame[20] = if count == 0 { 6 } else { kind };
    frame.extend(&plain[54..]);
    let length = u16::try_from(frame.len() - 54).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    (spec, frame)
}

#[test]
fn t42_ipv6_extension_chains_are_followed_up_to_eight() {
    for count in 0..=8 {
        let (spec, frame) = with_extensions(count, 60);
        let offload = believed(&spec.gso_header(1000), &frame);
        assert_eq!(usize::from(offload.checksum.unwrap().start), 54 + 8 * count);
    }
    let (spec, frame) = with_extensions(9, 60);
    refused(&spec.gso_header(1000), &frame, DropReason::OffloadHeaders);
    // A chain that leads out of the packet.
    let (spec, mut frame) = with_extensions(2, 60);
    frame[55] = 255;
    refused(&spec.gso_header(1000), &frame, DropReason::OffloadHeaders);
}

#[test]
fn t42_ipv6_routing_header_forbids_segmentation_only() {
    let (spec, frame) = with_extensions(1, 43);
    refused(&spec.gso_header(1000), &frame, DropReason::GsoMismatch);
    believed(&spec.checksum_header(), &frame);
}

#[test]
fn t42_headers_beyond_the_private_bytes_are_asked_for() {
    let (spec, frame) = with_extensions(8, 60);
    let Checked::More(more) = check(&spec.gso_header(1000), ALL, &frame[..128], frame.len()) else {
        panic!("the transport header is at {}", spec.transport());
    };
    assert!(more > 128 && more <= frame.len());
    let checked = check(&spec.gso_header(1000), ALL, &frame[..more], frame.len());
    assert_eq!(checked, Checked::Ok(believed(&spec.gso_header(1000), &frame)));
}

#[test]
fn t43_frames_longer_than_an_ip_packet_are_refused() {
    let spec = Spec::tcp4(65535 - 40);
    let mut frame = spec.frame();
    assert_eq!(frame.len(), MAX_FRAME);
    believed(&spec.gso_header(1448), &frame);
    frame.push(0);
    for header in [spec.gso_header(1448), spec.checksum_header()] {
        refused(&header, &frame, DropReason::OffloadLong);
    }
}

#[test]
fn t43_length_on_the_wire_is_that_of_a_segment_or_of_the_frame() {
    let spec = Spec::tcp4(5000);
    let frame = spec.frame();
    assert_eq!(believed(&spec.gso_header(1000), &frame).wire_len(frame.len()), 1054);
    assert_eq!(believed(&spec.gso_header(5000), &frame).wire_len(frame.len()), 5054);
    assert_eq!(believed(&spec.checksum_header(), &frame).wire_len(frame.len()), 5054);
    assert_eq!(Offload::default().wire_len(70_000), 70_000);
}

#[test]
fn t44_flags_that_are_not_a_drivers_mean_nothing() {
    let spec = Spec::tcp4(100);
    let frame = spec.frame();
    for flags in (0..=254).step_by(2) {
        let header = VirtioNetHeader { flags, ..VirtioNetHeader::default() };
        assert_eq!(believed(&header, &frame), Offload::default());
        let header = VirtioNetHeader { flags: flags | 1, ..spec.checksum_header() };
        assert_eq!(believed(&header, &frame).header().flags, 1);
    }
}

#[test]
fn t46_num_buffers_of_a_driver_means_nothing() {
    let spec = Spec::tcp4(5000);
    for header in [spec.gso_header(1000), spec.checksum_header(), VirtioNetHeader::default()] {
        let lie = VirtioNetHeader { num_buffers: U16::new(0xffff), ..header };
        assert_eq!(believed(&lie, &spec.frame()).header(), header);
    }
}

#[test]
fn header_that_claims_nothing_needs_no_look_at_the_frame() {
    let header = VirtioNetHeader {
        hdr_len: U16::new(0xffff),
        gso_size: U16::new(0xffff),
        csum_start: U16::new(0xffff),
        csum_offset: U16::new(0xffff),
        ..VirtioNetHeader::default()
    };
    assert_eq!(check(&header, 0, &[], 0), Checked::Ok(Offload::default()));
    assert_eq!(Offload::default().header(), VirtioNetHeader::default());
}
