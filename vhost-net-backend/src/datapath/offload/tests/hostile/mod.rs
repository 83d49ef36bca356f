//! T36 to T44 and T46: each lie is refused for its reason, and its true neighbour is believed.

mod checksum;
mod gso;
mod headers;

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
