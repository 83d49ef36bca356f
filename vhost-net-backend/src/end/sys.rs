//! The TAP ioctls (`linux/if_tun.h`).
#![expect(unsafe_code, reason = "rustix has no safe TAP ioctls")]

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::io::Result;
use rustix::ioctl::{Getter, Setter, ioctl, opcode};

/// `IFNAMSIZ`, with the closing NUL.
const IF_NAME_LEN: usize = 16;

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// What a TAP end needs: Ethernet frames, no packet information, a virtio-net header.
const NEEDED: u16 = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

const TUN: u8 = b'T';
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<c_int>(TUN, 202);
const TUNSETOFFLOAD: rustix::ioctl::Opcode = opcode::write::<u32>(TUN, 208);
const TUNGETIFF: rustix::ioctl::Opcode = opcode::read::<u32>(TUN, 210);
const TUNSETVNETHDRSZ: rustix::ioctl::Opcode = opcode::write::<c_int>(TUN, 216);

/// `struct ifreq` as the TAP ioctls use it: a name, flags, and the rest of the union.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct InterfaceRequest {
    name: [u8; IF_NAME_LEN],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

/// Attaches an open `/dev/net/tun` to the TAP `name`, creating it if need be.
pub(super) fn attach(tun: impl AsFd, name: &[u8; IF_NAME_LEN]) -> Result<()> {
    let request = InterfaceRequest { name: *name, flags: NEEDED, rest: [0; 22] };
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `InterfaceRequest` equals in
    // size; `Setter` passes a pointer to it that lives through the call.
    unsafe { ioctl(tun, Setter::<TUNSETIFF, _>::new(request)) }
}

/// Whether `tun` is a TAP with the flags an end needs.
pub(super) fn is_usable(tun: impl AsFd) -> Result<bool> {
    // SAFETY: TUNGETIFF writes one `struct ifreq`, which `InterfaceRequest` equals in size and for
    // which every bit pattern is valid.
    let request = unsafe { ioctl(tun, Getter::<TUNGETIFF, InterfaceRequest>::new())? };
    Ok(request.flags & NEEDED == NEEDED)
}

/// Sets the length of the virtio-net header to `len` bytes, and turns every offload off: the
/// kernel then completes checksums and segments before the link sees a frame.
pub(super) fn set_header(tun: impl AsFd, len: c_int) -> Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one `int`.
    unsafe { ioctl(&tun, Setter::<TUNSETVNETHDRSZ, c_int>::new(len))? };
    // SAFETY: TUNSETOFFLOAD takes its flags by value in the argument, and 0 is none of them.
    unsafe { ioctl(&tun, rustix::ioctl::IntegerSetter::<TUNSETOFFLOAD>::new_usize(0)) }
}
