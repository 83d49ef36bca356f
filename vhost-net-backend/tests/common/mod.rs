//! A guest and a link, in this process: the driver's side of the rings, written on a memfd, and a
//! real vhost-user frontend.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::allow_attributes, reason = "whether the above is fulfilled differs per binary")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a wrong number or an error fails the test"
)]

pub mod direct;
pub mod driver;
pub mod ends;
pub mod guest;
pub mod link;
pub mod packed;

/// Makes a test of each function, which is generic in the kind of ring, on split rings and on
/// packed ones.
#[allow(unused_macros, reason = "each test binary uses a part")]
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod split {
            $(#[test] fn $name() { super::$name::<crate::common::driver::DriverRing>(); })*
        }
        mod packed {
            $(#[test] fn $name() { super::$name::<crate::common::packed::PackedRing>(); })*
        }
    };
}
#[allow(unused_imports, reason = "each test binary uses a part")]
pub(crate) use on_both;

use std::net::Ipv4Addr;

use vhost_net_backend::mac::MacAddr;

pub const GUEST: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x10]);
pub const NETVM: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x01]);
pub const CARD: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x02]);

/// The guest's address.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

/// An Ethernet frame of `len` bytes, at least 34: an IPv4 packet from the guest's address with a
/// payload made of `seed`. With an odd seed it claims to be TCP, which may go the short way (see
/// `datapath::lane`); with an even one it has a protocol for experiments (RFC 3692) and may not.
pub fn frame(destination: MacAddr, source: MacAddr, len: usize, seed: u8) -> Vec<u8> {
    frame_from(GUEST_ADDRESS, destination, source, len, seed)
}

/// As [`frame`], from another address.
pub fn frame_from(
    address: Ipv4Addr,
    destination: MacAddr,
    source: MacAddr,
    len: usize,
    seed: u8,
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
    // A frame shorter than its header, or longer than 64 KiB, is for a test of lengths.
    frame.extend_from_slice(&((len.max(34) - 14) as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 64, if seed % 2 == 1 { 6 } else { 253 }, 0, 0]);
    frame.extend_from_slice(&address.octets());
    frame.extend_from_slice(&[100, 64, 0, 1]);
    let sum: u32 =
        frame[14..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend((frame.len()..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)));
    frame.truncate(len);
    frame
}
