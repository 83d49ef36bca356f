//! Claims that the frame's headers contradict: T42.

use super::{
    ALL, Checked, DropReason, KINDS, Spec, U16, VirtioNetHeader, believed, carrying, check, refused,
};

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
        // No payload at all is a possible length in IPv6.
        let reason = if spec.v6 { DropReason::ChecksumPlace } else { DropReason::OffloadHeaders };
        refused(&spec.gso_header(1000), &frame, reason);
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
fn t42_ipv6_authentication_header_is_as_long_as_it_says() {
    // Units of 4 bytes, minus 2; 8 bytes are the shortest.
    let (spec, frame) = with_extensions(1, 51);
    believed(&spec.gso_header(1000), &frame);
    let (_, mut frame) = with_extensions(3, 51);
    frame[54..56].copy_from_slice(&[6, 4]);
    let offload = believed(
        &VirtioNetHeader { csum_start: U16::new(54 + 24), ..spec.gso_header(1000) },
        &frame,
    );
    assert_eq!(offload.checksum.unwrap().start, 54 + 24);
}

#[test]
fn t42_no_more_is_asked_for_than_the_frame_has() {
    let spec = Spec { extensions: vec![9], ..Spec::tcp6(20) };
    let frame = spec.frame();
    assert!(frame.len() > 128 + 12 && frame.len() < 256);
    let checked = check(&spec.gso_header(8), ALL, &frame[..128], frame.len());
    assert_eq!(checked, Checked::More(frame.len()));
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
