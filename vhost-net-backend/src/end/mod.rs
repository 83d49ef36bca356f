//! What an end of a link can be: a vhost-user frontend or a TAP.

pub mod tap;
pub mod vhost_user;

#[path = "sys.rs"]
mod sys;

use std::os::fd::BorrowedFd;

use crate::datapath::drop_reason::DropReason;
use crate::datapath::receive::{FrameBuffer, Received};
use tap::TapEnd;
use vhost_user::VhostUserEnd;

/// One end, as the worker sees it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are two of these in a process")]
pub enum End {
    /// Rings in a guest's memory.
    VhostUser(VhostUserEnd),
    /// A TAP of the host.
    Tap(TapEnd),
}

impl End {
    /// Whether frames can be delivered to this end now.
    pub fn is_up(&self) -> bool {
        match self {
            Self::VhostUser(end) => end.is_up(),
            Self::Tap(end) => end.is_up(),
        }
    }

    /// Readable when this end has frames for the link.
    pub fn source_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::VhostUser(end) => end.kick_fd(),
            Self::Tap(end) => Some(end.fd()),
        }
    }

    /// Prepares for a turn of [`End::receive`].
    pub fn begin(&mut self) {
        if let Self::VhostUser(end) = self {
            end.begin();
        }
    }

    /// Takes the next frame that this end has for the link into `buffer`.
    pub fn receive(&mut self, buffer: &mut FrameBuffer) -> Received {
        match self {
            Self::VhostUser(end) => end.receive(buffer),
            Self::Tap(end) => end.receive(buffer),
        }
    }

    /// Gives this end a frame.
    pub fn deliver(&mut self, frame: &[u8]) -> Result<(), DropReason> {
        match self {
            Self::VhostUser(end) => end.deliver(frame),
            Self::Tap(end) => end.deliver(frame),
        }
    }

    /// Shows the driver what was received and delivered since the last call.
    pub fn publish(&mut self) {
        if let Self::VhostUser(end) = self {
            end.publish();
        }
    }

    /// Asks for a wake-up by [`End::source_fd`]. Returns whether frames came in meanwhile.
    pub fn rearm(&mut self) -> bool {
        match self {
            Self::VhostUser(end) => end.rearm(),
            Self::Tap(_) => false,
        }
    }
}
