//! The one call of the sandbox that has no safe form.
#![expect(unsafe_code, reason = "unshare is unsafe for flags that are not used here")]

use rustix::io::Result;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the process mount, network, IPC, UTS and cgroup namespaces of its own.
pub(super) fn unshare_namespaces() -> Result<()> {
    let flags = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: unshare is unsafe for UnshareFlags::FILES alone, which could take descriptors from
    // other threads; it is not among the flags.
    unsafe { unshare_unsafe(flags) }
}
