//! Facts about the host, the checks made on them, and the changes made to it.
//!
//! Reading goes through [`Sysfs`], whose root is injectable; writing goes through
//! [`Effects`], which a test replaces to stop the program after any single write.

pub mod address;
pub mod binding;
pub mod change;
pub mod config_space;
pub mod device;
pub mod effects;
pub mod environment;
pub mod group;
pub mod holders;
pub mod ids;
pub mod journal;
pub mod network;
pub mod nic;
pub mod preflight;
pub mod recovery;
pub mod storage;
pub mod sysfs;
mod usb;

pub use address::{DeviceName, PciAddress, PlatformName};
pub use device::Device;
pub use effects::{Effects, LiveHost};
pub use environment::{Environment, Wanted};
pub use group::Group;
pub use journal::Journal;
pub use nic::{Nic, NicSelector, resolve, resolve_all};
pub use sysfs::Sysfs;
