//! `netvm bench`: what links carry on this machine, and what they cost.
//!
//! Real `netvm-link` processes, with every filter on and in their sandbox, between guests without a VMM
//! (`netvm_bench`). docs/performance.md says what each number means and how to repeat it.

mod cpus;
mod error;
mod link;
mod measure;
mod options;
mod plot;
mod proc;
mod report;
mod sys;
mod table;
mod tap;

use std::path::{Path, PathBuf};

pub use error::BenchError;
pub use options::{Options, Part, Ring, Size};
pub use report::Report;

use crate::cli::run::{Failure, print, print_json};
use crate::exit::Exit;

/// Measures, and prints what was asked for.
pub fn bench(options: &Options) -> Result<Exit, Failure> {
    let failed = |error: BenchError| Failure::new(Exit::Failed, error);
    let program = link_program().ok_or_else(|| failed(BenchError::NoLink))?;
    let report = measure::run(options, &program).map_err(failed)?;
    if let Some(path) = &options.svg {
        std::fs::write(path, plot::Plot(&report).to_string())
            .map_err(|source| failed(BenchError::Write { path: path.clone(), source }))?;
    }
    if options.json { print_json(&report) } else { print(&report.to_string()) }
}

/// `netvm-link` beside this program, or else in PATH, as `netvm up` finds it.
fn link_program() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent().map(|dir: &Path| dir.join("netvm-link"));
    beside.filter(|path| path.is_file()).or_else(|| which::which("netvm-link").ok())
}
