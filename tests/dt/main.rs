//! `netvm dt`, and `[[nic]] platform = ...` in a plan.

mod command;
#[path = "../machine/mod.rs"]
mod machine;
mod plan;

use std::path::Path;
use std::process::Command;

/// Compiles a tree of this directory, or source text, into `out`.
fn compile(source: &Path, out: &Path) {
    let status = Command::new("dtc")
        .args(["-q", "-@", "-O", "dtb", "-o"])
        .args([out, source])
        .status()
        .expect("dtc runs: package device-tree-compiler");
    assert!(status.success());
}

fn board() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dt/board.dts"))
}
