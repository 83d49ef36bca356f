//! Giving a NIC to a guest: the host's side, and the device model that a VMM links.
//!
//! # The host's side
//!
//! A NIC leaves its host in four steps, each a module of [`host`]:
//!
//! 1. [`host::nic`] turns what the operator declared into a device of this machine;
//! 2. [`host::preflight`] says whether giving it away is safe, and what to do when it is not;
//! 3. [`host::binding`] moves it to the VFIO driver, every change announced in a
//!    [`host::journal`] first;
//! 4. [`host::binding::release`] or, after a crash, [`host::recovery::recover`] brings it back.
//!
//! # The device model
//! A VMM opens the device with [`vfio`], lets its DMA reach the guest's memory with [`dma`], and
//! gives it to the guest as a [`pci::Function`] or a [`platform::PlatformDevice`]; [`attach`]
//! keeps a list of those. [`vmm`] is all that the VMM is asked for, with adapters for the crates
//! that rust-vmm's VMMs use. Feature `fake` has devices, an IOMMU and a VMM that are not there,
//! for tests without hardware.
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
