//! What the threads of a link cost others: CPU, wake-ups, system calls, memory. These tests measure
//! real processes, so they take turns.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a wrong number or an error fails the test"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../daemon/daemon.rs"]
#[expect(dead_code, reason = "it is made for the tests of the daemon")]
mod daemon;

mod idle;
mod load;
mod pinned;
mod share;
mod system_calls;
mod wake_ups;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::guest::Guest;
use daemon::Daemon;

/// Held by a test as long as it measures.
fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // One that failed leaves nothing behind that the next would see.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A link process with both ends connected, and full receive rings.
fn connected(features: u64, size: u16, arguments: &[&str]) -> (Daemon, Guest, Guest) {
    let daemon = Daemon::start(&[&["--sandbox", "available"], arguments].concat());
    let (mut guest, mut netvm) = (Guest::new(features, size), Guest::new(features, size));
    guest.connect(&daemon.guest_socket());
    netvm.connect(&daemon.netvm_socket());
    guest.fill_rx();
    netvm.fill_rx();
    (daemon, guest, netvm)
}

/// Lines of this name in the `status` files of all threads of the process, with the thread's name.
fn of_threads(daemon: &Daemon, field: &str) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(daemon.proc("task")).unwrap();
    let mut lines: Vec<_> = tasks
        .map(|task| {
            let path = task.unwrap().path();
            let status = std::fs::read_to_string(path.join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            let name = std::fs::read_to_string(path.join("comm")).unwrap();
            (name.trim().to_owned(), line.trim_start_matches(':').trim().to_owned())
        })
        .collect();
    lines.sort();
    lines
}
