//! Event file descriptors between the link and a frontend.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// An eventfd of the frontend that the link writes to: a ring's call or error eventfd.
///
/// Whoever hands one over has checked that it is an eventfd and made it non-blocking
/// ([`crate::control::eventfd`]).
#[derive(Debug)]
pub struct Notifier(OwnedFd);

impl Notifier {
    /// A notifier over a checked eventfd.
    pub const fn new(eventfd: OwnedFd) -> Self {
        Self(eventfd)
    }

    /// Another notifier over the same eventfd.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Signals the eventfd, unless its counter is full: then a signal is pending already.
    ///
    /// The frontend shares the descriptor's flags and can make it blocking again, so the room in
    /// the counter is looked at first. A frontend that fills it between the look and the write
    /// stalls its own link, which is noticed: see [`super::command`].
    pub fn signal(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut room = [PollFd::new(&self.0, PollFlags::OUT)];
        if poll(&mut room, Some(&now)) == Ok(1) {
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }
    }
}
