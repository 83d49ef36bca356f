//! Frames of all sizes through a real `netvm-link`, from driver to driver: the guests are those that `netvm bench`
//! measures with, which share no code with the link.

#![expect(clippy::unwrap_used, reason = "a test ends when something does not work")]

mod link;

use std::time::{Duration, Instant};

use netvm_bench::card::{Card, CardConfig};
use netvm_bench::features;
use netvm_bench::frame::{STAMP_LEN, Station, UDP_HEADERS, stamp, stamped, tcp_gso, udp};
use netvm_bench::header::NetHeader;
use netvm_bench::ring::RingKind;

use link::{GUEST, Link, NETVM};

/// The frames that have come, each with the buffers it lay in.
fn receive(card: &mut Card, count: usize) -> Vec<(Vec<u8>, usize)> {
    let mut frames = Vec::new();
    let start = Instant::now();
    while frames.len() < count {
        assert!(start.elapsed() < Duration::from_secs(5), "{} of {count} frames", frames.len());
        let pair = card.pair();
        pair.receive(64, |frame| frames.push((frame.to_vec(), frame.buffers()))).unwrap();
        pair.reap().unwrap();
        pair.flush().unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
    frames
}

/// Sends frames of this length, often enough to go around the rings.
fn one_way(from: Station, to: Station, sender: &mut Card, receiver: &mut Card, len: usize) {
    let frame = udp(from, to, len);
    sender.pair().fill(NetHeader::default(), &frame, UDP_HEADERS);
    let mut number = None;
    for burst in [1, 30, 20] {
        assert_eq!(sender.pair().send(burst), burst, "room in the ring");
        sender.pair().flush().unwrap();
        for (mut got, _) in receive(receiver, burst) {
            let place = UDP_HEADERS..UDP_HEADERS + STAMP_LEN;
            let this = stamped(got[place.clone()].try_into().unwrap()).expect("a whole stamp");
            assert!(number.is_none_or(|last| this == last + 1), "in order");
            number = Some(this);
            got[place].copy_from_slice(&stamp(0));
            assert_eq!(got, frame);
        }
        while sender.pair().unsent() > 0 {
            sender.pair().reap().unwrap();
            std::thread::yield_now();
        }
    }
}

fn frames_arrive(config: &CardConfig) {
    let link = Link::start();
    let mut guest = Card::connect(config, &link.guest()).unwrap();
    let mut netvm = Card::connect(config, &link.netvm()).unwrap();
    for len in [60, 61, 64, 65, 127, 128, 129, 256, 1000, 1500, 1513, 1514] {
        one_way(GUEST, NETVM, &mut guest, &mut netvm, len);
        one_way(NETVM, GUEST, &mut netvm, &mut guest, len);
    }
}

/// Whether the link offers this; says so if not.
fn offers(feature: u64, name: &str) -> bool {
    let link = Link::start();
    let offered = netvm_bench::card::offered_features(&link.guest()).unwrap();
    let offers = offered & feature == feature;
    if !offers {
        println!("SKIP: the link does not offer {name}");
    }
    offers
}

/// Every combination of what driver and device may agree on.
fn all_features(ring: RingKind) {
    let optional =
        [features::EVENT_IDX, features::INDIRECT_DESC, features::MRG_RXBUF, features::IN_ORDER];
    for set in 0..1_usize << optional.len() {
        let chosen = optional.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
        let config = CardConfig {
            receive_size: 64,
            transmit_size: 64,
            features: chosen.map(|(_, feature)| feature).sum(),
            split_header: set % 3 == 0,
            ..CardConfig::new(ring)
        };
        frames_arrive(&config);
    }
}

#[test]
fn frames_arrive_intact_over_split_rings() {
    all_features(RingKind::Split);
}

#[test]
fn frames_arrive_intact_over_packed_rings() {
    if offers(features::RING_PACKED, "packed rings") {
        all_features(RingKind::Packed);
    }
}

#[test]
fn frame_longer_than_a_buffer_takes_several() {
    let link = Link::start();
    let config = CardConfig { receive_buffer: 256, ..CardConfig::new(RingKind::Split) };
    let mut guest = Card::connect(&config, &link.guest()).unwrap();
    let mut netvm = Card::connect(&config, &link.netvm()).unwrap();
    for len in [64, 244, 245, 1514] {
        let frame = udp(GUEST, NETVM, len);
        assert!(guest.pair().send_frame(NetHeader::default(), &frame));
        guest.pair().flush().unwrap();
        let received = receive(&mut netvm, 1);
        assert_eq!(received, [(frame, (len + 12).div_ceil(256))]);
    }
}

#[test]
fn gso_frame_arrives_whole() {
    if !offers(features::GSO, "what GSO needs") {
        return;
    }
    let link = Link::start();
    let config = CardConfig {
        features: features::GSO | features::MRG_RXBUF,
        receive_buffer: 4096,
        longest_frame: 65536,
        receive_size: 64,
        transmit_size: 64,
        ..CardConfig::new(RingKind::Split)
    };
    let mut guest = Card::connect(&config, &link.guest()).unwrap();
    let mut netvm = Card::connect(&config, &link.netvm()).unwrap();
    for to_netvm in [true, false] {
        let (from, to) = if to_netvm { (GUEST, NETVM) } else { (NETVM, GUEST) };
        let (sender, receiver) =
            if to_netvm { (&mut guest, &mut netvm) } else { (&mut netvm, &mut guest) };
        let (header, frame) = tcp_gso(from, to);
        assert!(sender.pair().send_frame(header, &frame));
        sender.pair().flush().unwrap();
        let received = receive(receiver, 1);
        assert_eq!(received[0].0, frame);
    }
}
