//! An end that is a TAP of the host, for the `development` scenario.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::sys;
use crate::datapath::carry::{Next, Outgoing, Sink, Source};
use crate::datapath::drop_reason::DropReason;
use crate::datapath::header::HEADER_LEN;
use crate::datapath::memory::{Memory, Segment};
use crate::datapath::packet::Packet;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Why a TAP cannot be an end.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name does not fit an interface name.
    #[error("{0:?} is not an interface name; give 1 to 15 bytes without '/'")]
    Name(String),
    /// The TUN driver is not there.
    #[error("Cannot open /dev/net/tun; load the tun module or check permissions")]
    Open(#[source] std::io::Error),
    /// The TAP cannot be attached to.
    #[error("Cannot attach to TAP {name}; is it in use, or of another kind?")]
    Attach {
        /// The interface name.
        name: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// The descriptor is not a TAP with the needed flags.
    #[error("The descriptor is not a TAP with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR; create it so")]
    Kind,
    /// The TAP refused the header length.
    #[error("Cannot set the TAP's virtio-net header to 12 bytes")]
    Header(#[source] Errno),
}

/// A TAP with 12-byte virtio-net headers and no offloads.
#[derive(Debug)]
pub struct TapEnd {
    tap: OwnedFd,
    /// The interface was deleted.
    gone: bool,
}

/// Opens the TAP `name`, which is created when it does not exist (that needs CAP_NET_ADMIN).
pub fn open(name: &str) -> Result<OwnedFd, TapError> {
    let wrong = || TapError::Name(name.to_owned());
    let mut padded = [0; 16];
    let room = padded.get_mut(..name.len()).filter(|room| room.len() < 16).ok_or_else(wrong)?;
    room.copy_from_slice(name.as_bytes());
    if name.is_empty() || name.contains(['/', '\0', '%']) {
        return Err(wrong());
    }
    let non_block = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(non_block)
        .open("/dev/net/tun")
        .map_err(TapError::Open)?;
    sys::attach(&tun, &padded)
        .map_err(|source| TapError::Attach { name: name.to_owned(), source })?;
    Ok(tun.into())
}

impl TapEnd {
    /// Takes an open TAP, checks its kind and sets its header length.
    pub fn new(tap: OwnedFd) -> Result<Self, TapError> {
        if !sys::is_usable(&tap).unwrap_or(false) {
            return Err(TapError::Kind);
        }
        let header_len = i32::try_from(HEADER_LEN).unwrap_or(i32::MAX);
        sys::set_header(&tap, header_len).map_err(TapError::Header)?;
        let flags = fcntl_getfl(&tap).map_err(TapError::Header)?;
        fcntl_setfl(&tap, flags | OFlags::NONBLOCK).map_err(TapError::Header)?;
        Ok(Self { tap, gone: false })
    }

    /// Whether the TAP still exists.
    pub const fn is_up(&self) -> bool {
        !self.gone
    }

    /// Readable when the host has frames for the link.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

impl Source for TapEnd {
    fn features(&self) -> u64 {
        0
    }

    fn take(&mut self, _limit: usize) {}

    /// Nobody knows before it is read.
    fn has_frames(&self) -> bool {
        true
    }

    fn next(&mut self, packet: &mut Packet) -> Next {
        match rustix::io::read(&self.tap, packet.space()) {
            Ok(len) => packet.set_len(len).map_or_else(Next::Drop, |()| Next::Frame),
            Err(Errno::AGAIN | Errno::INTR | Errno::IO) => Next::Empty,
            Err(_) => {
                // The interface was deleted.
                self.gone = true;
                Next::Empty
            }
        }
    }

    fn place(&self) -> Option<(&Memory, &[Segment])> {
        None
    }

    fn done(&mut self) {}

    fn publish(&mut self) {}
}

impl Sink for TapEnd {
    fn features(&self) -> u64 {
        0
    }

    /// The host's kernel queues what it is given, or drops it; a frame never waits here.
    fn has_room(&mut self) -> bool {
        true
    }

    fn deliver(&mut self, mut frame: Outgoing<'_>) -> Result<(), DropReason> {
        match rustix::io::write(&self.tap, frame.with_header()) {
            Ok(_) => Ok(()),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Err(DropReason::NoRxBuffer),
            // EIO: the interface is down.
            Err(_) => Err(DropReason::PeerDown),
        }
    }

    fn needs_private(&self) -> bool {
        true
    }

    fn publish(&mut self) {}
}
