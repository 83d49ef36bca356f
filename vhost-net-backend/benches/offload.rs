//! What offloads cost: proving a header, and doing in software what a receiver lacks.
//!
//! ```text
//! cargo bench -p vhost-net-backend --bench offload
//! ```
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use vhost_net_backend::datapath::header::VirtioNetHeader;
use vhost_net_backend::datapath::offload::{
    Checked, Offload, check, complete_checksum, feature, segment,
};
use zerocopy::little_endian::U16;

/// What the data path has private of a frame at first.
const LEAD: usize = 128;
/// Where TCP is behind Ethernet and IPv4, and where its checksum is in it.
const TCP: u16 = 34;
const CHECKSUM: u16 = 16;
/// Payload of a segment with an MTU of 1500 and time stamps.
const SEGMENT: u16 = 1448;

/// A TCP frame over IPv4 of `len` bytes.
fn frame(len: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((len - 14).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    frame.extend([0x13, 0x88, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0x10, 0]);
    frame.resize(usize::from(len), 0x5a);
    frame
}

/// The least time that a call took on average over many, of several tries.
fn time(what: &str, bytes: usize, mut call: impl FnMut()) {
    let tries = (0..10).map(|_| {
        let (start, mut calls) = (Instant::now(), 0_u32);
        while start.elapsed() < Duration::from_millis(50) {
            (0..100).for_each(|_| call());
            calls += 100;
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    });
    let best = tries.fold(f64::INFINITY, f64::min);
    let kib = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1024.0;
    match bytes {
        0 => println!("{what}: {best:.1} ns"),
        _ => println!("{what}, {bytes} bytes: {best:.0} ns, {:.1} ns/KiB", best / kib),
    }
}

fn proven(header: &VirtioNetHeader, frame: &[u8]) -> Offload {
    match check(header, feature::OFFERED, frame, frame.len()) {
        Checked::Ok(offload) => offload,
        refused => panic!("{refused:?} for a true header"),
    }
}

fn main() {
    let plain = VirtioNetHeader::default();
    let checksum = VirtioNetHeader {
        flags: 1,
        csum_start: U16::new(TCP),
        csum_offset: U16::new(CHECKSUM),
        ..plain
    };
    let gso = VirtioNetHeader { gso_type: 1, gso_size: U16::new(SEGMENT), ..checksum };
    let long = frame(u16::MAX);
    for (what, header) in [("nothing", plain), ("a checksum", checksum), ("segments", gso)] {
        time(&format!("check of a header that claims {what}"), 0, || {
            let (header, bytes) = (black_box(&header), black_box(&long[..LEAD]));
            black_box(check(header, black_box(feature::OFFERED), bytes, long.len()));
        });
    }
    for len in [64, 1514, u16::MAX] {
        let mut frame = frame(len);
        let place = proven(&checksum, &frame).checksum.expect("the header claims one");
        time("checksum", frame.len(), || complete_checksum(black_box(&mut frame), place));
    }
    let offload = proven(&gso, &long);
    let mut scratch = vec![0; offload.wire_len(long.len())];
    time("segments", long.len(), || {
        segment(black_box(&long), &offload, &mut scratch, |segment| {
            black_box(segment);
        });
    });
    let mut copy = vec![0; long.len()];
    time("a copy, to compare with", long.len(), || {
        black_box(&mut copy).copy_from_slice(black_box(&long));
    });
}
