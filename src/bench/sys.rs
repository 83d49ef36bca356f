//! The one thing that has no safe way: a thread in a network namespace of its own.
#![expect(unsafe_code, reason = "rustix::thread::unshare_unsafe is unsafe")]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Puts this thread, and what it starts from now on, into a new network namespace. Needs root.
pub fn enter_network_namespace() -> rustix::io::Result<()> {
    // SAFETY: the call is unsafe for `UnshareFlags::FILES`, which takes descriptors away; NEWNET alone does not.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
}
