//! Frames for tests, byte by byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::datapath::filter::sources;
use crate::mac::MacAddr;

pub const GUEST: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x10]);
pub const NETVM: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x01]);
pub const OTHER: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x11]);
pub const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);
pub const ALL_NODES: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);

pub fn ethernet(destination: MacAddr, source: MacAddr, kind: u16, payload: &[u8]) -> Vec<u8> {
    let kind = kind.to_be_bytes();
    [&destination.octets()[..], &source.octets()[..], &kind[..], payload].concat()
}

/// From the guest to netvm.
pub fn from_guest(kind: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(NETVM, GUEST, kind, payload)
}

/// From netvm to the guest.
pub fn from_netvm(kind: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(GUEST, NETVM, kind, payload)
}

pub fn arp(operation: u16, mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, u8::try_from(operation).unwrap()];
    [&head[..], &mac.octets(), &sender.octets(), &[0; 6], &target.octets()].concat()
}

/// What a VMM says in the name of `sender`'s card, about `target`'s.
pub fn rarp(sender: MacAddr, target: MacAddr) -> Vec<u8> {
    let mut packet = arp(3, sender, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    packet[18..24].copy_from_slice(&target.octets());
    packet
}

/// An IPv4 packet with flags and offset 0 and no options.
pub fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, source, destination, 0, &[], payload)
}

pub fn ipv4_with(
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 + u8::try_from(header_len / 4).unwrap(), 0];
    packet.extend(u16::try_from(header_len + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(options);
    packet.extend(payload);
    packet
}

pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let head = [source.to_be_bytes(), destination.to_be_bytes(), len, [0, 0]].concat();
    [&head[..], payload].concat()
}

pub fn tcp() -> Vec<u8> {
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0xc0, 0, 0, 80]);
    header[12] = 0x50;
    header
}

pub fn ipv6(next: u8, hops: u8, source: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// The guest's own link-local address.
pub fn link_local() -> Ipv6Addr {
    sources::link_local(GUEST)
}

/// The solicited-node address of an address.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let bits = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    Ipv6Addr::from_bits(bits | address.to_bits() & 0xff_ffff)
}

/// An ICMPv6 message of this type, with `body` behind its checksum.
pub fn icmpv6(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0][..], body].concat()
}

/// A neighbour discovery message about `target`.
pub fn about(kind: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    icmpv6(kind, &[&[0; 4][..], &target.octets(), options].concat())
}

/// A link-layer address option: 1 source, 2 target.
pub fn link_address(kind: u8, mac: MacAddr) -> Vec<u8> {
    [&[kind, 1][..], &mac.octets()].concat()
}

/// A DHCP message with these options behind the cookie.
pub fn dhcp(operation: u8, client: MacAddr, yours: Ipv4Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.resize(16, 0);
    message.extend(yours.octets());
    message.resize(28, 0);
    message.extend(client.octets());
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message
}

/// A client's message, in its broadcast from 0.0.0.0.
pub fn discover(message: &[u8]) -> Vec<u8> {
    let datagram = udp(68, 67, message);
    let packet = ipv4(17, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &datagram);
    ethernet(BROADCAST, GUEST, 0x0800, &packet)
}

/// A server's message to the guest, broadcast if `to` is.
pub fn reply(to: MacAddr, message: &[u8]) -> Vec<u8> {
    let datagram = udp(67, 68, message);
    let packet = ipv4(17, Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::BROADCAST, &datagram);
    ethernet(to, NETVM, 0x0800, &packet)
}
