//! Headers as they are on the wire, as far as offloads need them.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Destination, source and ethertype.
pub const ETHERNET_LEN: usize = 14;
/// Where the ethertype is, without a tag in front of it.
pub const ETHERTYPE: usize = 12;
/// A VLAN tag: two bytes of tag, and the ethertype of what follows.
pub const TAG_LEN: usize = 4;

/// Ethertype: IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethertype: IPv6.
pub const IPV6: u16 = 0x86dd;
/// Ethertype: VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// Ethertype: service VLAN tag (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Protocol: IPv4 in IP.
pub const IPIP: u8 = 4;
/// Protocol: TCP.
pub const TCP: u8 = 6;
/// Protocol: UDP.
pub const UDP: u8 = 17;
/// Protocol: IPv6 in IP.
pub const IPV6_IN_IP: u8 = 41;
/// Protocol: generic routing encapsulation.
pub const GRE: u8 = 47;

/// RFC 791, 3.1, without options.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version (4) and header length in units of 4 bytes.
    pub version_length: u8,
    pub traffic_class: u8,
    /// Bytes of header and payload.
    pub total_length: U16,
    pub identification: U16,
    /// Flags (3 bits) and offset.
    pub fragment: U16,
    pub time_to_live: u8,
    pub protocol: u8,
    pub checksum: U16,
    pub source: [u8; 4],
    pub destination: [u8; 4],
}

/// RFC 8200, 3.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// Version (6), traffic class, flow label.
    pub version_flow: U32,
    /// Bytes after this header, extension headers included.
    pub payload_length: U16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

/// RFC 9293, 3.1, without options.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tcp {
    pub source_port: U16,
    pub destination_port: U16,
    pub sequence: U32,
    pub acknowledgement: U32,
    /// Header length in units of 4 bytes, in the upper half.
    pub data_offset: u8,
    pub flags: u8,
    pub window: U16,
    pub checksum: U16,
    pub urgent: U16,
}

/// Where [`Tcp::checksum`] is.
pub const TCP_CHECKSUM: u16 = 16;
/// TCP flag: end of data.
pub const FIN: u8 = 0x01;
/// TCP flag: push.
pub const PSH: u8 = 0x08;
/// TCP flag: congestion window reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// RFC 768.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Udp {
    pub source_port: U16,
    pub destination_port: U16,
    /// Bytes of header and payload.
    pub length: U16,
    pub checksum: U16,
}

/// Where [`Udp::checksum`] is.
pub const UDP_CHECKSUM: u16 = 6;
/// Where the checksum of a GRE header is, if it has one (RFC 2784, 2.1).
pub const GRE_CHECKSUM: u16 = 4;
