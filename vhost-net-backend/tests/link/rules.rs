//! The rules on frames through a whole link: the frame that is dropped, under which name, and the
//! legal neighbour that arrives.

use std::net::Ipv4Addr;
use std::time::Duration;

use vhost_net_backend::datapath::rate::{Limit, Limits};
use vhost_net_backend::mac::MacAddr;

use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::link::{Options, TestLink};
use crate::common::{GUEST, GUEST_ADDRESS, NETVM, frame};
use crate::pair;

const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);
const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// From the guest to netvm.
fn up(kind: u16, payload: &[u8]) -> Vec<u8> {
    let kind = kind.to_be_bytes();
    let mut frame = [&NETVM.octets()[..], &GUEST.octets()[..], &kind[..], payload].concat();
    // What is shorter is padded on its way.
    frame.resize(frame.len().max(60), 0);
    frame
}

fn arp(sender: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let netvm = [&NETVM.octets()[..], &SERVER.octets()].concat();
    [&head[..], &GUEST.octets(), &sender.octets(), &netvm].concat()
}

fn ipv4(protocol: u8, source: Ipv4Addr, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let [f0, f1] = fragment.to_be_bytes();
    let head = [0x45, 0, len[0], len[1], 0, 1, f0, f1, 64, protocol, 0, 0];
    [&head[..], &source.octets(), &SERVER.octets(), payload].concat()
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &len.to_be_bytes(), &[0; 2], payload]
        .concat()
}

fn dhcp(operation: u8, client: MacAddr, yours: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.resize(16, 0);
    message.extend(yours.octets());
    message.resize(28, 0);
    message.extend(client.octets());
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message.resize(300, 0);
    message
}

/// From the guest's link-local address, an ICMPv6 message behind a destination options header.
fn icmpv6(kind: u8) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 16, 60, 255, 0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    packet.extend([0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x10]);
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([58, 0, 1, 4, 0, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0]);
    packet
}

#[test]
fn each_rule_drops_counts_and_lets_the_legal_neighbour_pass() {
    let (link, mut guest, mut netvm) = pair(MRG_RXBUF, 256);
    let other = Ipv4Addr::new(100, 64, 0, 9);
    let plain = ipv4(6, GUEST_ADDRESS, 0, &[0; 20]);
    let request = |client| {
        let message = dhcp(1, client, Ipv4Addr::UNSPECIFIED, &[53, 1, 3, 255]);
        up(0x0800, &ipv4(17, GUEST_ADDRESS, 0, &udp(68, 67, &message)))
    };
    let cases = [
        ("vlan-tag", up(0x8100, &[&[0, 5, 8, 0], &plain[..]].concat()), up(0x0800, &plain)),
        ("ethertype", up(0x88cc, &[0; 46]), up(0x0800, &plain)),
        ("arp-sender-address", up(0x0806, &arp(other)), up(0x0806, &arp(GUEST_ADDRESS))),
        ("ipv4-source", up(0x0800, &ipv4(6, other, 0, &[0; 20])), up(0x0800, &plain)),
        (
            "ipv4-fragment",
            up(0x0800, &ipv4(6, GUEST_ADDRESS, 0x2000, &[0; 16])),
            up(0x0800, &ipv4(6, GUEST_ADDRESS, 0x2000, &[0; 24])),
        ),
        (
            "dhcp-server",
            up(0x0800, &ipv4(17, GUEST_ADDRESS, 0, &udp(67, 68, &[0; 300]))),
            up(0x0800, &ipv4(17, GUEST_ADDRESS, 0, &udp(67, 69, &[0; 300]))),
        ),
        ("dhcp-client-mac", request(NETVM), request(GUEST)),
        ("router-advertisement", up(0x86dd, &icmpv6(134)), up(0x86dd, &icmpv6(128))),
        ("redirect", up(0x86dd, &icmpv6(137)), up(0x86dd, &icmpv6(128))),
    ];
    for (reason, bad, good) in cases {
        guest.send(&bad);
        guest.send(&good);
        assert_eq!(netvm.receive(), good, "{reason}");
        assert!(netvm.receive_within(Duration::ZERO).is_none(), "{reason}");
        assert_eq!(link.drops(reason), 1, "{reason}");
    }
}

#[test]
fn l9_dynamic_guest_may_use_the_address_that_netvm_leases_it() {
    let link = TestLink::with(Options { dynamic: true, ..Options::default() });
    let mut guest = Guest::new(MRG_RXBUF, 64);
    let mut netvm = Guest::new(MRG_RXBUF, 64);
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    guest.fill_rx();
    netvm.fill_rx();
    let data = frame(NETVM, GUEST, 60, 1);
    guest.send(&data);
    assert_eq!(link.drops("ipv4-source"), 1);
    // The whole of the message is longer than what a link looks at by itself.
    let options = [53, 1, 5, 54, 4, 100, 64, 0, 1, 51, 4, 0, 0, 0, 1, 255];
    let message = dhcp(2, GUEST, GUEST_ADDRESS, &options);
    let packet = ipv4(17, SERVER, 0, &udp(67, 68, &message));
    let header = [&GUEST.octets()[..], &NETVM.octets(), &[8, 0]].concat();
    let acknowledge = [header, packet].concat();
    netvm.send(&acknowledge);
    assert_eq!(guest.receive(), acknowledge);
    guest.send(&data);
    assert_eq!(netvm.receive(), data);
    // The lease was for a second.
    std::thread::sleep(Duration::from_millis(3200));
    guest.send(&data);
    assert_eq!(link.drops("ipv4-source"), 2);
}

#[test]
fn l12_rates_are_kept_each_under_its_name() {
    let few = Limit { per_second: 1, burst: 20 };
    let run = |limits: Limits, destination: MacAddr| {
        let link = TestLink::with(Options { limits, ..Options::default() });
        let mut guest = Guest::new(MRG_RXBUF, 64);
        let mut netvm = Guest::new(MRG_RXBUF, 64);
        guest.connect(&link.guest_socket());
        netvm.connect(&link.netvm_socket());
        netvm.fill_rx();
        for _ in 0..40 {
            guest.post(&frame(destination, GUEST, 100, 1));
        }
        guest.kick_tx();
        guest.wait_tx();
        let report = link.report();
        assert_eq!(report.netvm.frames_out + report.guest.drops.values().sum::<u64>(), 40);
        (report.netvm.frames_out, report.guest.drops)
    };
    let frames = Limits { frames: Some(few), ..Limits::default() };
    let bytes = Limits { bytes: Some(Limit { per_second: 100, burst: 2000 }), ..Limits::default() };
    let control = Limits { control: few, ..Limits::default() };
    for (limits, destination, reason) in [
        (frames, NETVM, "rate-frames"),
        (bytes, NETVM, "rate-bytes"),
        (control, BROADCAST, "rate-control"),
    ] {
        let (delivered, drops) = run(limits, destination);
        // A second may pass meanwhile.
        assert!((20..=22).contains(&delivered), "{reason}: {delivered}");
        assert_eq!(drops.keys().collect::<Vec<_>>(), [reason]);
    }
    // Data is not held up by the limit of broadcasts.
    assert_eq!(run(control, NETVM).0, 40);
}
