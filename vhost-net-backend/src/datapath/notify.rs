//! Event file descriptors between the link and a frontend.

use std::os::fd::OwnedFd;

/// An eventfd of the frontend that the link writes to: a ring's call or error eventfd.
///
/// Whoever hands one over has checked that it is an eventfd and made it non-blocking
/// ([`crate::control::eventfd`]). A peer that undoes this can stall its own link only, and the
/// stall is noticed: see [`super::command`].
#[derive(Debug)]
pub struct Notifier(OwnedFd);

impl Notifier {
    /// A notifier over a checked eventfd.
    pub const fn new(eventfd: OwnedFd) -> Self {
        Self(eventfd)
    }

    /// Signals the eventfd. A full counter is a signal that is already pending; any other error
    /// hurts only the frontend that gave the descriptor.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
