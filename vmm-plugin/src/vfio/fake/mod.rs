//! Devices and an address space that are not there, for tests of whatever is above VFIO.
//!
//! They behave as the kernel's do where a device model can tell: level-triggered interrupts mask
//! themselves, MSI-X grows or does not, one kind of interrupt excludes the others, a device that
//! was pulled out reads as ones. [`FakeFunction`] is a PCI function, [`FakePlatform`] a device of
//! a device tree, [`FakeAddressSpace`] an IOMMU's. There is no thread: what the kernel would do
//! when an eventfd is signalled happens in `settle`.

mod address_space;
pub mod capability;
mod function;
mod line;
mod memory;
mod platform;
mod shape;
mod vectors;

pub use self::address_space::FakeAddressSpace;
pub use self::function::FakeFunction;
pub use self::platform::{FakeInterrupt, FakePlatform, FakeRegion};
pub use self::shape::{FakeBar, Shape};
pub use self::vectors::Fired;

use super::VfioError;

/// What the kernel says to nonsense.
fn invalid(what: impl Into<String>) -> VfioError {
    let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
    VfioError::Refused { what: what.into(), source }
}
