//! Ordered start, supervision, reverse teardown.

pub mod channel;
pub mod control;
pub mod lines;
pub mod lock;
pub mod machine;
pub mod paths;
pub mod process;
pub mod supervisor;
pub(crate) mod sys;
mod up;

pub use up::{UpError, up};

/// Removes what a run that was killed left in the run directory: sockets, FIFOs, rendered files. Only for the
/// holder of the lock, and only when the journal has been undone.
pub fn remove_leftovers(run: &paths::RunDir) {
    for directory in [run.netvm(), run.links(), run.development()] {
        // Absent is as good.
        let _ = std::fs::remove_dir_all(directory);
    }
    let _ = std::fs::remove_file(run.control());
}
