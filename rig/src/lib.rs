//! The rig: a whole PC in QEMU with an IOMMU, a NIC and KVM, as a library for tests and for the
//! demo.
//!
//! The PC is emulated (TCG) with AMD's virtualisation extensions, an Intel IOMMU with interrupt
//! remapping and a real NIC model, so the Linux in it has /dev/kvm, IOMMU groups and vfio-pci, and
//! runs guests of its own. The network outside is QEMU's user mode network, cut off from the
//! world, with one web server; every frame on the NIC's wire is captured.
//!
//! - [`Pc`]: the machine. [`Bundle`]: what is in its memory at boot.
//! - [`Scenario`]: a shell script with a time limit. [`Outcome`]: what became of it.
//! - [`Rig`]: the booted PC; [`run`] boots one and runs scenarios in turn.
//! - [`wire`]: reads the captures.

mod bundle;
mod cache;
mod error;
mod event;
mod guest;
mod outside;
mod pc;
mod qmp;
mod rig;
mod scenario;
mod vmlinux;
pub mod wire;

pub use bundle::Bundle;
pub use error::RigError;
pub use event::Event;
pub use pc::{Nic, Pc};
pub use rig::{Rig, run};
pub use scenario::{Claim, Ending, Outcome, Scenario};
