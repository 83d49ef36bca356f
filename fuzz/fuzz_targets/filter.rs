//! Frames, one after the other, against `datapath::filter`: nothing panics, and what passes obeys
//! the rules that can be said in a line.
//!
//! Input: 1 byte whose bit 0 gives the guest a dynamic address, then frames. A frame is 1 byte of
//! which end it comes from (bit 0: netvm's), 2 bytes of length (little-endian), and its bytes.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use vhost_net_backend::datapath::EndId;
use vhost_net_backend::datapath::filter::{Filter, Frame, Rules, Verdict};
use vhost_net_backend::mac::MacAddr;

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NETVM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const MTU: u16 = 1500;
const V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// What follows from the guest's MAC address.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, 1);

/// What is private of a frame at first.
const LEAD: usize = 128;

fuzz_target!(|data: &[u8]| {
    let Some(([bits], mut data)) = data.split_first_chunk() else { return };
    let filter = Filter::new(
        &Rules {
            guest: MacAddr::new(GUEST),
            netvm: MacAddr::new(NETVM),
            mtu: MTU,
            addresses: vec![IpAddr::V4(V4), IpAddr::V6(V6)],
            dynamic: bits & 1 != 0,
            lease: None,
        },
        0,
    );
    // All that netvm has said.
    let mut said = Vec::new();
    while let Some(([end, low, high], rest)) = data.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        data = rest;
        let from = if end & 1 == 0 { EndId::Guest } else { EndId::Netvm };
        if !passes(&filter, from, frame) {
            continue;
        }
        assert!((14..=14 + usize::from(MTU)).contains(&frame.len()));
        match from {
            EndId::Guest => from_guest(frame, &said),
            EndId::Netvm => from_netvm(frame),
        }
        if from == EndId::Netvm && bits & 1 != 0 {
            said.extend_from_slice(frame);
        }
    }
});

fn is_group(mac: &[u8]) -> bool {
    mac[0] & 1 != 0
}

fn from_netvm(frame: &[u8]) {
    let (destination, source) = (&frame[..6], &frame[6..12]);
    assert!(source != GUEST && !is_group(source));
    assert!(is_group(destination) || destination == GUEST);
    assert!(!destination.starts_with(&[1, 0x80, 0xc2, 0, 0]) || destination[5] > 0xf);
}

fn from_guest(frame: &[u8], said: &[u8]) {
    let (destination, source) = (&frame[..6], &frame[6..12]);
    assert_eq!(source, GUEST);
    assert!(is_group(destination) || destination == NETVM);
    assert!(!destination.starts_with(&[1, 0x80, 0xc2, 0, 0]) || destination[5] > 0xf);
    // A dynamic address is one that netvm has named.
    let is_own =
        |address: &[u8]| address == V4.octets() || said.windows(4).any(|window| window == address);
    match [frame[12], frame[13]] {
        [0x08, 0x00] => {
            let (source, rest) = (&frame[26..30], &frame[14 + usize::from(frame[14] & 0xf) * 4..]);
            let is_first = frame[20] & 0x1f == 0 && frame[21] == 0;
            let is_udp = frame[23] == 17 && is_first;
            if source == [0; 4] {
                assert!(is_udp && rest[..4] == [0, 68, 0, 67], "from nowhere, and not DHCP");
            } else {
                assert!(is_own(source), "from {source:?}");
            }
            assert!(!is_udp || rest[2..4] != [0, 68], "to a DHCP client");
        }
        [0x86, 0xdd] => {
            let source: [u8; 16] = frame[22..38].try_into().expect("it is as long");
            let source = Ipv6Addr::from(source);
            assert!(source == V6 || source == LINK_LOCAL || source.is_unspecified());
            // Router advertisement and redirect.
            assert!(frame[20] != 58 || !matches!(frame[54], 134 | 137));
        }
        [0x08, 0x06] => {
            assert_eq!(frame[22..28], GUEST);
            let sender = &frame[28..32];
            assert!(sender == [0; 4] || is_own(sender));
        }
        [0x80, 0x35] => assert_eq!(frame[22..28], GUEST),
        other => panic!("ethertype {other:02x?}"),
    }
}

/// Whether a frame passes; asked with ever more of it, as the data path does.
fn passes(filter: &Filter, from: EndId, frame: &[u8]) -> bool {
    let mut private = frame.len().min(LEAD);
    loop {
        let bytes = &frame[..private];
        let seen = Frame { bytes, len: frame.len(), wire_len: frame.len() };
        match filter.check(from, &seen, 0) {
            Verdict::Pass(_) => return true,
            Verdict::Drop(_) => return false,
            Verdict::More(more) if more > private && more <= frame.len() => private = more,
            Verdict::More(more) => panic!("has {private} of {}, wants {more}", frame.len()),
        }
    }
}
