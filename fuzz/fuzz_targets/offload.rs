//! A header and a frame against `datapath::offload`: nothing panics, and a claim that is believed
//! does no harm.
//!
//! Input: 12 bytes of header, 1 byte of sender's features (the bits of [`FEATURES`]), 1 byte of
//! receiver's features (bit 0: all or none), the frame.
#![no_main]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use libfuzzer_sys::fuzz_target;
use vhost_net_backend::datapath::header::{HEADER_LEN, VirtioNetHeader};
use vhost_net_backend::datapath::offload::{
    Accepted, Checked, MAX_SEGMENTS, Offload, check, complete_checksum, feature, segment,
};
use zerocopy::FromBytes;

const FEATURES: [u64; 5] =
    [feature::CSUM, feature::HOST_TSO4, feature::HOST_TSO6, feature::HOST_ECN, feature::HOST_USO];

/// What is private of a frame at first.
const LEAD: usize = 128;

fuzz_target!(|data: &[u8]| {
    let Some((header, data)) = data.split_first_chunk::<HEADER_LEN>() else { return };
    let Some(([sender, receiver], frame)) = data.split_first_chunk() else { return };
    let header = VirtioNetHeader::read_from_bytes(header).expect("it has the length of a header");
    let features = FEATURES.iter().enumerate();
    let sender = features.filter(|(bit, _)| sender >> bit & 1 != 0).map(|(_, mask)| mask).sum();
    let receiver = if receiver & 1 == 0 { 0 } else { feature::RECEIVER };

    let checked = check(&header, sender, frame, frame.len());
    assert_eq!(check_by_parts(&header, sender, frame), checked);
    match checked {
        Checked::Ok(offload) => deliver(&offload, frame, receiver),
        Checked::Drop(_) => {}
        Checked::More(_) => panic!("asked for more than all of the frame"),
    }
});

/// Checks with ever more of the frame, as the data path does.
fn check_by_parts(header: &VirtioNetHeader, features: u64, frame: &[u8]) -> Checked {
    let mut private = frame.len().min(LEAD);
    loop {
        match check(header, features, &frame[..private], frame.len()) {
            Checked::More(more) if more > private && more <= frame.len() => private = more,
            Checked::More(more) => panic!("has {private} of {}, wants {more}", frame.len()),
            checked => return checked,
        }
    }
}

/// What is in front of any transport header's checksum: Ethernet, IPv4, and what GRE has.
const IN_FRONT: usize = 14 + 20 + 4;

fn deliver(offload: &Offload, frame: &[u8], features: u64) {
    assert!(offload.wire_len(frame.len()) <= frame.len());
    if let Some(checksum) = offload.checksum {
        let field = usize::from(checksum.start) + usize::from(checksum.offset);
        assert!(field >= IN_FRONT && field + 2 <= frame.len());
    }
    match offload.accepted_by(features) {
        Accepted::AsIs => {
            // What the receiver is told would be believed again.
            let again = check(&offload.header(), feature::SENDER, frame, frame.len());
            assert_eq!(again, Checked::Ok(*offload));
        }
        Accepted::NeedsChecksum => {
            let checksum = offload.checksum.expect("it is what the receiver lacks");
            let mut complete = frame.to_vec();
            complete_checksum(&mut complete, checksum);
            let field = usize::from(checksum.start) + usize::from(checksum.offset);
            assert_eq!(complete[..field], frame[..field]);
            assert_eq!(complete[field + 2..], frame[field + 2..]);
        }
        Accepted::NeedsSegments => cut(offload, frame),
    }
}

fn cut(offload: &Offload, frame: &[u8]) {
    let segments = offload.segments.expect("it is what the receiver lacks");
    let (header_len, size) = (usize::from(segments.header_len), usize::from(segments.size));
    let mut payload = Vec::new();
    let mut count = 0;
    let mut scratch = vec![0; offload.wire_len(frame.len())];
    segment(frame, offload, &mut scratch, |segment| {
        count += 1;
        payload.extend_from_slice(&segment[header_len..]);
        let is_last = header_len + payload.len() == frame.len();
        assert!(segment.len() == header_len + size || is_last);
        // Addresses, and whatever else is in front of the network header.
        let network = usize::from(segments.network);
        assert_eq!(segment[..network], frame[..network]);
        assert_checksums(segment);
    });
    assert!(count > 1 && count <= MAX_SEGMENTS);
    assert_eq!(payload, frame[header_len..]);
}

/// What etherparse can read, it takes for right.
fn assert_checksums(frame: &[u8]) {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return };
    let (found, wanted) = match (packet.net, packet.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(transport)) => {
            let ip = ip.header();
            // Not by etherparse, whose headers have no reserved bits.
            assert_eq!(sum(ip.slice()), 0xffff);
            let (source, destination) = (ip.source(), ip.destination());
            match transport {
                TransportSlice::Tcp(tcp) => {
                    (tcp.checksum(), tcp.calc_checksum_ipv4(source, destination))
                }
                TransportSlice::Udp(udp) => {
                    let header = udp.to_header();
                    let payload = udp.payload();
                    let wanted = header.calc_checksum_ipv4_raw(source, destination, payload);
                    (header.checksum, wanted)
                }
                _ => return,
            }
        }
        (Some(NetSlice::Ipv6(ip)), Some(transport)) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            match transport {
                TransportSlice::Tcp(tcp) => {
                    (tcp.checksum(), tcp.calc_checksum_ipv6(source, destination))
                }
                TransportSlice::Udp(udp) => {
                    let header = udp.to_header();
                    let payload = udp.payload();
                    let wanted = header.calc_checksum_ipv6_raw(source, destination, payload);
                    (header.checksum, wanted)
                }
                _ => return,
            }
        }
        _ => return,
    };
    assert_eq!(Ok(found), wanted);
}

/// The sum of RFC 1071 over a header.
fn sum(header: &[u8]) -> u32 {
    let sum = header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    fold(fold(sum))
}
