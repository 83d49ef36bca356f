//! The daemon as a supervisor starts it: with descriptors, in its sandbox.
#![expect(clippy::unwrap_used, reason = "an error fails the test")]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod daemon;
mod isolation;
mod qemu;
mod sandbox;
mod supervised;
