//! A passed-through PCI function between a fake device and a fake VMM.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests, whose values are their own"
)]

mod attach;
mod bars;
mod bench;
mod config;
mod config_model;
mod host_bridge;
mod interrupts;
mod msix_model;
mod other_process;
mod threads;
