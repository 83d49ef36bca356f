//! The one thing that std has no safe way for: what a child does between fork and exec.
#![expect(unsafe_code, reason = "CommandExt::pre_exec is unsafe")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Makes the kernel kill the child when the thread that spawned it dies, so that no VMM outlives a
/// `netvm up` that was killed.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs in the forked child before exec, where only async-signal-safe calls are
    // allowed: it makes one system call (prctl), allocates nothing and takes no lock.
    unsafe {
        command
            .pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
}
