//! Reading and writing vhost-user messages as they are on the wire.
//!
//! A message is a header of 12 bytes (request, flags, size; native byte order), a body of `size`
//! bytes, and descriptors that come with its first byte.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use vhost::vhost_user::message::{FrontendReq, MAX_ATTACHED_FD_ENTRIES, MAX_MSG_SIZE};

/// Bytes of a header.
pub const HEADER_LEN: usize = 12;
/// `flags`: the protocol version, its mask, and what may stand beside it.
pub const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 4;
/// `flags`: the sender wants an acknowledgement.
pub const NEED_REPLY: u32 = 8;
const KNOWN_FLAGS: u32 = VERSION_MASK | REPLY | NEED_REPLY;
/// How long the rest of a message may take once its first byte has come, and how long a reply may
/// take to be accepted.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message cannot be received or sent.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The peer closed the connection between two messages.
    #[error("The connection was closed")]
    Closed,
    /// The peer closed the connection within a message.
    #[error("The connection was closed in the middle of a message")]
    Truncated,
    /// The peer did not finish a message, or did not take one, in time.
    #[error("The peer neither finished nor took a message within {0:?}")]
    Timeout(Duration),
    /// The header is not one of this protocol.
    #[error("The message header is invalid: request {request}, flags {flags:#x}, size {size}")]
    Header {
        /// Request number.
        request: u32,
        /// Flags.
        flags: u32,
        /// Size of the body.
        size: u32,
    },
    /// More descriptors than a message can carry.
    #[error("The message came with more than {MAX_ATTACHED_FD_ENTRIES} descriptors")]
    TooManyFds,
    /// Descriptors came with something else than the first byte of a message.
    #[error("Descriptors came in the middle of a message")]
    LateFds,
    /// The socket failed.
    #[error("The socket failed")]
    Socket(#[from] Errno),
}

/// A whole message.
#[derive(Debug)]
pub struct Message {
    /// What is asked.
    pub request: FrontendReq,
    /// Version and flags.
    pub flags: u32,
    /// The body; native byte order.
    pub body: Vec<u8>,
    /// Descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl Message {
    /// A request without descriptors.
    pub const fn new(request: FrontendReq, body: Vec<u8>) -> Self {
        Self { request, flags: VERSION, body, fds: Vec::new() }
    }

    /// Whether the sender wants an acknowledgement (if REPLY_ACK is negotiated).
    pub const fn needs_reply(&self) -> bool {
        self.flags & NEED_REPLY != 0
    }

    /// The reply to this message, with a body.
    pub const fn reply(&self, body: Vec<u8>) -> Self {
        Self { request: self.request, flags: VERSION | REPLY, body, fds: Vec::new() }
    }

    /// The acknowledgement of this message: 0, for success.
    pub fn acknowledgement(&self) -> Self {
        self.reply(0_u64.to_ne_bytes().to_vec())
    }

    /// The first eight bytes of the body as a number.
    pub fn u64(&self) -> Option<u64> {
        self.body.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// The first two 32-bit numbers of the body: a ring's index and a value.
    pub fn ring_state(&self) -> Option<(u32, u32)> {
        let [i0, i1, i2, i3, v0, v1, v2, v3] = *self.body.first_chunk()?;
        Some((u32::from_ne_bytes([i0, i1, i2, i3]), u32::from_ne_bytes([v0, v1, v2, v3])))
    }

    /// Replaces the second of those.
    pub fn set_ring_value(&mut self, value: u32) {
        if let Some(bytes) = self.body.get_mut(4..8) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
    }

    /// Receives a request, waiting for its first byte without limit. The rest must follow within
    /// [`MESSAGE_TIMEOUT`].
    pub fn receive(socket: &UnixStream) -> Result<Self, MessageError> {
        let message = Self::receive_any(socket)?;
        if message.flags & REPLY != 0 {
            return Err(message.invalid());
        }
        Ok(message)
    }

    /// Receives the reply to a request.
    pub fn receive_reply(socket: &UnixStream) -> Result<Self, MessageError> {
        let message = Self::receive_any(socket)?;
        if message.flags & REPLY == 0 {
            return Err(message.invalid());
        }
        Ok(message)
    }

    fn invalid(&self) -> MessageError {
        MessageError::Header {
            request: self.request.into(),
            flags: self.flags,
            size: u32::try_from(self.body.len()).unwrap_or(u32::MAX),
        }
    }

    fn receive_any(socket: &UnixStream) -> Result<Self, MessageError> {
        wait(socket, PollFlags::IN, None)?;
        let deadline = Instant::now() + MESSAGE_TIMEOUT;
        let mut fds = Vec::new();
        let mut header = [0; HEADER_LEN];
        receive_exact(socket, &mut header, Some(&mut fds), deadline).map_err(
            |error| match error {
                // Not a byte of it had come.
                Incomplete::AtStart => MessageError::Closed,
                Incomplete::Failed(error) => error,
            },
        )?;
        let [r0, r1, r2, r3, f0, f1, f2, f3, s0, s1, s2, s3] = header;
        let request = u32::from_ne_bytes([r0, r1, r2, r3]);
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let size = u32::from_ne_bytes([s0, s1, s2, s3]);
        let invalid = || MessageError::Header { request, flags, size };
        if flags & VERSION_MASK != VERSION || flags & !KNOWN_FLAGS != 0 {
            return Err(invalid());
        }
        let len = usize::try_from(size).map_err(|_| invalid())?;
        if len > MAX_MSG_SIZE {
            return Err(invalid());
        }
        let request = FrontendReq::try_from(request).map_err(|_| invalid())?;
        let mut body = vec![0; len];
        receive_exact(socket, &mut body, None, deadline).map_err(|error| match error {
            Incomplete::AtStart => MessageError::Truncated,
            Incomplete::Failed(error) => error,
        })?;
        Ok(Self { request, flags, body, fds })
    }

    /// Sends the message; its descriptors go with the first byte.
    pub fn send(&self, socket: &UnixStream) -> Result<(), MessageError> {
        let deadline = Instant::now() + MESSAGE_TIMEOUT;
        let mut bytes = Vec::with_capacity(HEADER_LEN + self.body.len());
        bytes.extend_from_slice(&u32::from(self.request).to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        // A body is at most MAX_MSG_SIZE bytes.
        let size = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&size.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut rest = bytes.as_slice();
        let mut first = true;
        while !rest.is_empty() {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ATTACHED_FD_ENTRIES))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if first && !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(MessageError::TooManyFds);
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(socket, &[io::IoSlice::new(rest)], &mut control, flags) {
                Ok(sent) => {
                    rest = rest.get(sent..).unwrap_or_default();
                    first = false;
                }
                Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, Some(deadline))?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(MessageError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

enum Incomplete {
    /// The peer closed the connection before the first byte.
    AtStart,
    Failed(MessageError),
}

/// Fills `bytes`. Descriptors may come with the first byte, if `fds` takes them.
fn receive_exact(
    socket: &UnixStream,
    bytes: &mut [u8],
    mut fds: Option<&mut Vec<OwnedFd>>,
    deadline: Instant,
) -> Result<(), Incomplete> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ATTACHED_FD_ENTRIES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match recvmsg(socket, &mut [io::IoSliceMut::new(rest)], &mut control, flags)
        {
            Ok(received) => received,
            Err(Errno::AGAIN) => {
                wait(socket, PollFlags::IN, Some(deadline)).map_err(Incomplete::Failed)?;
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Err(Incomplete::AtStart),
            Err(error) => return Err(Incomplete::Failed(error.into())),
        };
        // Draining owns the descriptors, so those nobody takes are closed.
        let attached: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => Some(rights),
                _ => None,
            })
            .flatten()
            .collect();
        // The space above holds a few more than asked for, because of its alignment.
        if received.flags.contains(ReturnFlags::CTRUNC) || attached.len() > MAX_ATTACHED_FD_ENTRIES
        {
            return Err(Incomplete::Failed(MessageError::TooManyFds));
        }
        match fds.take() {
            Some(fds) => *fds = attached,
            None if attached.is_empty() => {}
            None => return Err(Incomplete::Failed(MessageError::LateFds)),
        }
        match received.bytes {
            0 if filled == 0 => return Err(Incomplete::AtStart),
            0 => return Err(Incomplete::Failed(MessageError::Truncated)),
            count => filled += count,
        }
    }
    Ok(())
}

/// Waits until `socket` is ready for `flags`, closed, or the deadline has passed.
pub(super) fn wait(
    socket: &UnixStream,
    flags: PollFlags,
    deadline: Option<Instant>,
) -> Result<(), MessageError> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(socket, flags)], timeout.as_ref()) {
            Ok(0) => return Err(MessageError::Timeout(MESSAGE_TIMEOUT)),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
