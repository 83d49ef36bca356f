//! Links in this process: what they carry, what they drop, and what stops a ring.

#[path = "../common/mod.rs"]
mod common;

mod carry;
