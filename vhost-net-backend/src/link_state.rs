//! Whether the ends of a link are up, and who wants to know.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Says that an end went up or down. The worker announces; the link's main loop waits, and tells
/// the frontends that can be told.
#[derive(Debug)]
pub struct LinkState {
    changed: OwnedFd,
}

impl LinkState {
    /// No change announced yet.
    pub fn new() -> rustix::io::Result<Self> {
        let changed = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { changed })
    }

    /// Announces a change.
    pub fn announce(&self) {
        // Full means an announcement is pending already.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    /// Takes every announcement made so far.
    pub fn acknowledge(&self) {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.changed, &mut counter);
    }

    /// Readable when a change was announced.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.changed.as_fd()
    }
}
