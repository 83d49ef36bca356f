//! A frontend that says byte for byte what a test wants.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::common::driver::DriverRing;
use crate::common::guest::{Guest, MEMORY_LEN, USER_ADDRESS};

pub const GET_FEATURES: u32 = 1;
pub const SET_FEATURES: u32 = 2;
pub const SET_OWNER: u32 = 3;
pub const SET_MEM_TABLE: u32 = 5;
pub const SET_LOG_BASE: u32 = 6;
pub const SET_LOG_FD: u32 = 7;
pub const SET_VRING_NUM: u32 = 8;
pub const SET_VRING_ADDR: u32 = 9;
pub const SET_VRING_BASE: u32 = 10;
pub const GET_VRING_BASE: u32 = 11;
pub const SET_VRING_KICK: u32 = 12;
pub const SET_VRING_CALL: u32 = 13;
pub const SET_VRING_ERR: u32 = 14;
pub const GET_PROTOCOL_FEATURES: u32 = 15;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const GET_QUEUE_NUM: u32 = 17;
pub const SET_VRING_ENABLE: u32 = 18;
pub const SEND_RARP: u32 = 19;
pub const NET_SET_MTU: u32 = 20;
pub const SET_BACKEND_REQ_FD: u32 = 21;
pub const GET_CONFIG: u32 = 24;
pub const SET_CONFIG: u32 = 25;
pub const GET_MAX_MEM_SLOTS: u32 = 36;
pub const ADD_MEM_REG: u32 = 37;
pub const REM_MEM_REG: u32 = 38;

/// Version 1, and version 1 with a wish for an acknowledgement.
pub const PLAIN: u32 = 1;
pub const ACK: u32 = 9;

/// A connection to a link.
pub struct Raw {
    pub stream: UnixStream,
}

impl Raw {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        // A link that does not answer fails the test.
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { stream }
    }

    /// Sends a message; errors are left to be found when an answer is awaited.
    pub fn send(&self, code: u32, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        let size = u32::try_from(body.len()).unwrap();
        let header = [code, flags, size].map(u32::to_ne_bytes).concat();
        self.send_bytes(&[header.as_slice(), body].concat(), fds);
    }

    pub fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let parts = [IoSlice::new(bytes)];
        let _ = sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL);
    }

    /// The next reply: its code and body.
    pub fn reply(&mut self) -> (u32, Vec<u8>) {
        let mut header = [0; 12];
        self.stream.read_exact(&mut header).unwrap();
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(word(4), 5, "version 1, reply");
        let mut body = vec![0; word(8) as usize];
        self.stream.read_exact(&mut body).unwrap();
        (word(0), body)
    }

    /// Sends a message and takes its reply, as a number.
    pub fn ask(&mut self, code: u32, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> u64 {
        self.send(code, flags, body, fds);
        let (reply, body) = self.reply();
        assert_eq!(reply, code);
        u64::from_ne_bytes(body.try_into().unwrap())
    }

    /// Whether the link has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => panic!("a reply came"),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    pub fn half(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }
}

/// Two 32-bit numbers.
pub fn pair(first: u32, second: u32) -> Vec<u8> {
    [first, second].map(u32::to_ne_bytes).concat()
}

/// The body of SET_VRING_ADDR.
pub fn addresses(index: u32, ring: &DriverRing) -> Vec<u8> {
    let layout = ring.layout;
    let addresses = [layout.descriptors, layout.used, layout.available];
    let mut body = pair(index, 0);
    for address in addresses {
        body.extend((USER_ADDRESS + address).to_ne_bytes());
    }
    body.extend(0_u64.to_ne_bytes());
    body
}

/// The body of SET_MEM_TABLE with the whole of a guest's memory, and that of ADD_MEM_REG (which
/// has padding where the other has the number of regions).
pub fn region(count: u64) -> Vec<u8> {
    [count, 0, MEMORY_LEN as u64, USER_ADDRESS, 0].map(u64::to_ne_bytes).concat()
}

/// A guest whose rings are set up message by message.
pub struct RawGuest {
    pub guest: Guest,
    pub raw: Raw,
    pub kick: [EventFd; 2],
    pub call: [EventFd; 2],
}

impl RawGuest {
    pub fn connect(guest: Guest, socket: &Path) -> Self {
        let eventfds = || [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        Self { guest, raw: Raw::connect(socket), kick: eventfds(), call: eventfds() }
    }

    /// SET_VRING_KICK, CALL or ERR.
    pub fn ring_fd(&self, code: u32, flags: u32, index: u32, fd: &EventFd) {
        let fd = as_fd(fd);
        self.raw.send(code, flags, &u64::from(index).to_ne_bytes(), &[fd.as_fd()]);
    }

    pub fn ring(&self, index: u32) -> &DriverRing {
        if index == 0 { &self.guest.rx } else { &self.guest.tx }
    }

    /// Sends a frame.
    pub fn transmit(&mut self, frame: &[u8]) {
        self.guest.post(frame);
        self.kick[1].write(1).unwrap();
        self.guest.wait_tx();
    }
}

/// A copy of an eventfd that knows it is a descriptor: the library's type is a raw number only.
pub fn as_fd(eventfd: &EventFd) -> std::os::fd::OwnedFd {
    use std::os::fd::{FromRawFd, IntoRawFd};
    let copy = eventfd.try_clone().unwrap().into_raw_fd();
    #[expect(unsafe_code, reason = "vmm-sys-util's EventFd has no safe way out")]
    // SAFETY: the clone was just given up, so nothing else owns its descriptor.
    unsafe {
        std::os::fd::OwnedFd::from_raw_fd(copy)
    }
}
