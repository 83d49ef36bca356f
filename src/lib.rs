//! Gives a host's physical NIC to a guest of its own and links every other guest to it.

pub mod declaration;
pub mod vmm;
