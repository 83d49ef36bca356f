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
pub mod guest;
pub mod link;

use vhost_net_backend::mac::MacAddr;

pub const GUEST: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x10]);
pub const NETVM: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x01]);
pub const CARD: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 0x02]);

/// An Ethernet frame of `len` bytes whose payload is made of `seed`.
pub fn frame(destination: MacAddr, source: MacAddr, len: usize, seed: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(&destination.octets());
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&[0x08, 0x00]);
    frame.extend((frame.len()..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)));
    frame
}
