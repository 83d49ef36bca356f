//! Frames that a filtering link lets pass: Ethernet, IPv4, and UDP or TCP, with right lengths and checksums.
//!
//! The first eight bytes of payload are a *stamp*: a number and its complement. Whatever the number is, they add
//! nothing to a checksum, so a generator can number its frames without computing one.

use std::net::Ipv4Addr;

use crate::header::{GSO_TCPV4, NEEDS_CSUM, NetHeader};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
const TCP_LEN: usize = 20;
/// Bytes of all headers of a UDP frame; its stamp is here.
pub const UDP_HEADERS: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
/// Bytes of all headers of a TCP frame; its stamp is here.
pub const TCP_HEADERS: usize = ETHERNET_LEN + IPV4_LEN + TCP_LEN;
/// Bytes of a stamp.
pub const STAMP_LEN: usize = 8;
/// Payload of a segment of 1500 bytes.
const SEGMENT: u16 = 1460;
/// Segments in a GSO frame: as many as the 16 bits of an IPv4 length allow.
const SEGMENTS: u16 = 44;
/// Bytes of the frame that [`tcp_gso`] makes.
pub const GSO_LEN: usize = TCP_HEADERS + SEGMENT as usize * SEGMENTS as usize;

const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_TCP: u8 = 6;
/// The port of both ends: discard (RFC 863).
const PORT: [u8; 2] = 9_u16.to_be_bytes();

/// An end of a link, as frames name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ip: Ipv4Addr,
}

/// A number as it is stamped into a payload.
pub const fn stamp(number: u32) -> [u8; STAMP_LEN] {
    (number as u64 | (!number as u64) << 32).to_le_bytes()
}

/// The number in a stamp; none if the stamp is not one.
#[expect(clippy::cast_possible_truncation, reason = "the halves of a stamp")]
pub const fn stamped(bytes: [u8; STAMP_LEN]) -> Option<u32> {
    let word = u64::from_le_bytes(bytes);
    let (number, complement) = (word as u32, (word >> 32) as u32);
    if number == !complement { Some(number) } else { None }
}

/// A UDP frame of `len` bytes (Ethernet header included, frame check sequence not), stamped 0. `len` is from 50 to
/// 65549.
pub fn udp(from: Station, to: Station, len: usize) -> Vec<u8> {
    let mut frame = ip(from, to, len.max(UDP_HEADERS + STAMP_LEN), PROTOCOL_UDP);
    let udp = &mut frame[ETHERNET_LEN + IPV4_LEN..];
    udp[0..2].copy_from_slice(&PORT);
    udp[2..4].copy_from_slice(&PORT);
    let udp_len = length(udp.len());
    udp[4..6].copy_from_slice(&udp_len);
    let sum = finish(sum(pseudo_header(from, to, PROTOCOL_UDP, udp_len), udp));
    // 0 would say that there is no checksum (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A TCP frame of [`GSO_LEN`] bytes that is to be segmented, and the header that says so; stamped 0.
#[expect(clippy::cast_possible_truncation, reason = "header lengths")]
pub fn tcp_gso(from: Station, to: Station) -> (NetHeader, Vec<u8>) {
    let mut frame = ip(from, to, GSO_LEN, PROTOCOL_TCP);
    let tcp = &mut frame[ETHERNET_LEN + IPV4_LEN..];
    tcp[0..2].copy_from_slice(&PORT);
    tcp[2..4].copy_from_slice(&PORT);
    tcp[12] = (TCP_LEN as u8 / 4) << 4;
    tcp[13] = 0x10; // ACK
    tcp[14..16].copy_from_slice(&[0xff, 0xff]); // window
    // As Linux leaves it for the device: the sum of the pseudo header alone.
    let partial = !finish(pseudo_header(from, to, PROTOCOL_TCP, length(tcp.len())));
    tcp[16..18].copy_from_slice(&partial.to_be_bytes());
    let header = NetHeader {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: TCP_HEADERS as u16,
        gso_size: SEGMENT,
        csum_start: (ETHERNET_LEN + IPV4_LEN) as u16,
        csum_offset: 16,
        num_buffers: 0,
    };
    (header, frame)
}

/// A frame with its Ethernet and IPv4 headers, and a payload of counting bytes behind the stamp.
#[expect(clippy::cast_possible_truncation, reason = "the payload counts modulo 256")]
fn ip(from: Station, to: Station, len: usize, protocol: u8) -> Vec<u8> {
    let headers = if protocol == PROTOCOL_UDP { UDP_HEADERS } else { TCP_HEADERS };
    let mut frame: Vec<u8> = (0..len).map(|at| at as u8).collect();
    frame[..headers].fill(0);
    frame[headers..headers + STAMP_LEN].copy_from_slice(&stamp(0));
    frame[0..6].copy_from_slice(&to.mac);
    frame[6..12].copy_from_slice(&from.mac);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[ETHERNET_LEN..];
    let ip_len = length(ip.len());
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_len);
    ip[6] = 0x40; // don't fragment
    ip[8] = 64; // time to live
    ip[9] = protocol;
    ip[12..16].copy_from_slice(&from.ip.octets());
    ip[16..20].copy_from_slice(&to.ip.octets());
    let sum = finish(sum(0, &ip[..IPV4_LEN]));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A length field of 16 bits.
fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// The sum of a pseudo header (RFC 768, RFC 9293).
fn pseudo_header(from: Station, to: Station, protocol: u8, len: [u8; 2]) -> u64 {
    sum(sum(sum(sum(0, &from.ip.octets()), &to.ip.octets()), &[0, protocol]), &len)
}

/// Adds 16-bit words to a sum (RFC 1071).
fn sum(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(start, |sum, word| {
        sum + u64::from(word[0]) * 256 + u64::from(word.get(1).copied().unwrap_or(0))
    })
}

/// The checksum of what was summed up: folded to 16 bits, and complemented.
#[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
const fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Station = Station { mac: [2, 0, 0, 0, 0, 0xa], ip: Ipv4Addr::new(198, 18, 0, 1) };
    const B: Station = Station { mac: [2, 0, 0, 0, 0, 1], ip: Ipv4Addr::new(198, 18, 0, 2) };

    #[test]
    fn udp_frames_have_right_lengths_and_checksums() {
        for len in [50, 64, 65, 256, 1514, 65549] {
            let mut frame = udp(A, B, len);
            assert_eq!(frame.len(), len);
            assert_eq!(finish(sum(0, &frame[14..34])), 0, "IPv4");
            assert_eq!(frame[16..18], length(len - 14));
            for number in [0, 1, 0x1234_5678, u32::MAX] {
                frame[UDP_HEADERS..][..STAMP_LEN].copy_from_slice(&stamp(number));
                let udp = &frame[34..];
                let pseudo = pseudo_header(A, B, PROTOCOL_UDP, length(udp.len()));
                assert_eq!(finish(sum(pseudo, udp)), 0, "UDP of {len}, stamped {number}");
            }
        }
    }

    #[test]
    fn gso_frame_is_what_linux_would_hand_over() {
        let (header, frame) = tcp_gso(A, B);
        assert_eq!(frame.len(), GSO_LEN);
        assert!(frame.len() - ETHERNET_LEN <= 65535);
        assert_eq!(usize::from(header.csum_start + header.csum_offset), 50);
        // Completing the checksum as a device does gives a right one.
        let mut tcp = frame[34..].to_vec();
        let complete = finish(sum(0, &tcp));
        tcp[16..18].copy_from_slice(&complete.to_be_bytes());
        let pseudo = pseudo_header(A, B, PROTOCOL_TCP, length(tcp.len()));
        assert_eq!(finish(sum(pseudo, &tcp)), 0);
    }

    #[test]
    fn stamps_are_told_from_other_bytes() {
        for number in [0, 7, u32::MAX] {
            assert_eq!(stamped(stamp(number)), Some(number));
        }
        assert_eq!(stamped([0; 8]), None);
        assert_eq!(stamped([0xff; 8]), None);
    }
}
