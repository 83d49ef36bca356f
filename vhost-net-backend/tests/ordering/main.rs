//! Memory orders: every way in which two processors may see each other's writes, for the handshakes
//! that decide whether somebody sleeps. loom goes through them all, as C11 allows them, which is
//! more than any one machine does.
//!
//! The rings are in a guest's memory, where loom cannot put its atomics. So what is checked are
//! models: the same accesses in the same order as in `datapath::ring` and `datapath::command`. Each
//! model is also run with what makes it right taken away, and must fail then.
#![expect(clippy::unwrap_used, reason = "an error fails the test")]

mod commands;
mod packed;
mod split;

use loom::sync::atomic::{Ordering, fence};

/// A handshake, as it is, or without what makes it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Right,
    /// Without the fences.
    Unfenced,
}

impl Form {
    fn fence(self) {
        if self == Self::Right {
            fence(Ordering::SeqCst);
        }
    }
}

/// Whether the step from `old` to `new` passes `event` (virtio 1.2, 2.7.10).
const fn crossed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
