//! The host side of giving a NIC away: sysfs facts, preflight, journaled driver binding.
//!
//! A NIC leaves its host in four steps, each a module of [`host`]:
//!
//! 1. [`host::nic`] turns what the operator declared into a device of this machine;
//! 2. [`host::preflight`] says whether giving it away is safe, and what to do when it is not;
//! 3. [`host::binding`] moves it to the VFIO driver, every change announced in a
//!    [`host::journal`] first;
//! 4. [`host::binding::release`] or, after a crash, [`host::recovery::recover`] brings it back.
//!
//! Nothing in this crate is specific to one VMM.

pub mod attach;
pub mod dma;
pub mod host;
mod line;
pub mod mapping;
pub mod opened;
pub mod pci;
pub mod platform;
pub mod vfio;
pub mod vmm;
