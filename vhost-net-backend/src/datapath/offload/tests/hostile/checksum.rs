//! Checksums that are not where they should be: T36, T37.

use super::{DropReason, KINDS, Spec, believed, carrying, checksum_at, refused};

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
fn t36_checksum_that_the_end_cuts_in_two_is_refused() {
    for (spec, field_end) in [(Spec::tcp4(0), 18), (Spec::udp4(0), 8)] {
        let len = u16::try_from(20 + field_end).unwrap();
        let mut frame = spec.frame();
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        believed(&spec.checksum_header(), &frame);
        frame[16..18].copy_from_slice(&(len - 1).to_be_bytes());
        refused(&spec.checksum_header(), &frame, DropReason::ChecksumPlace);
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
