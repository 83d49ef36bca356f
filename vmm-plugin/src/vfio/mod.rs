//! VFIO as everything above sees it: a device, and the address space that its DMA goes through.
//!
//! Two traits stand between the device model and the kernel, [`Device`] and [`AddressSpace`], so
//! that all of the model runs without hardware on `fake` (feature `fake`). Their real sides are
//! the legacy interface, a [`Group`] in a [`Container`], and the newer one, a [`Cdev`] attached
//! to an [`Ioas`] of iommufd. Both give an [`OpenDevice`]. `linux/vfio.h` and `linux/iommufd.h`
//! are the specification.

mod capability;
mod cdev;
mod container;
mod device;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod group;
mod interrupt;
mod iommufd;
mod region;
mod reset;
mod sys;
#[cfg(feature = "vfio-ioctls")]
mod vfio_ioctls;

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

pub use self::cdev::Cdev;
pub use self::container::Container;
pub use self::device::OpenDevice;
pub use self::error::VfioError;
pub use self::group::{AttachedGroup, Group};
pub use self::iommufd::Ioas;
use crate::mapping::Mapping;

/// A device that VFIO holds: its regions, interrupts and reset.
///
/// Everything that it answers comes from a device that nobody trusts, through a kernel that checked
/// shapes and nothing else. A VMM can implement it for a device of its own, which then has a
/// configuration space, BARs and MSI-X as the others have; what such a device does not have need not
/// be written.
pub trait Device: Debug + Send + Sync {
    /// What it is and has.
    fn info(&self) -> DeviceInfo;

    /// Region `index`, below [`DeviceInfo::regions`]. Size 0: the device has none of that number.
    ///
    /// # Errors
    /// The kernel refuses, for example because the device is gone.
    fn region(&self, index: u32) -> Result<RegionInfo, VfioError>;

    /// Reads `data.len()` bytes at `offset` of a region.
    ///
    /// # Errors
    /// Outside of the region, or the device is gone; `data` is all ones then.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), VfioError>;

    /// Writes `data` at `offset` of a region.
    ///
    /// # Errors
    /// Outside of the region, or the device is gone.
    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), VfioError>;

    /// Maps `area` of a region, which is one of [`RegionInfo::mappable`] or lies in one, into this
    /// process.
    ///
    /// # Errors
    /// Not mappable, not page aligned, or the kernel refuses.
    fn map(&self, region: u32, area: Area) -> Result<Arc<Mapping>, VfioError> {
        Err(lacking(format!("mapping {area:x?} of region {region}")))
    }

    /// Interrupt index `index`, below [`DeviceInfo::interrupts`]. Count 0: none of that kind.
    ///
    /// # Errors
    /// The kernel refuses.
    fn interrupt(&self, index: u32) -> Result<InterruptInfo, VfioError>;

    /// Signals `triggers[n]` when interrupt `start + n` of `index` comes; `None` takes the eventfd
    /// away.
    ///
    /// # Errors
    /// Too many, or the kernel has no vectors left.
    fn set_triggers(
        &self,
        index: u32,
        start: u32,
        triggers: &[Option<&EventFd>],
    ) -> Result<(), VfioError>;

    /// Unmasks interrupt `start` of an automasked (level) index each time `resample` is signalled;
    /// `None` ends that.
    ///
    /// # Errors
    /// The index cannot be unmasked.
    fn set_resample(
        &self,
        index: u32,
        start: u32,
        resample: Option<&EventFd>,
    ) -> Result<(), VfioError> {
        let _ = resample;
        Err(lacking(format!("a level-triggered interrupt ({start} of {index})")))
    }

    /// Masks interrupt `start` of `index`, or unmasks it.
    ///
    /// # Errors
    /// The index cannot be masked.
    fn set_mask(&self, index: u32, start: u32, masked: bool) -> Result<(), VfioError> {
        let _ = masked;
        Err(lacking(format!("masking interrupt {start} of {index}")))
    }

    /// Takes every interrupt of `index` away from the device.
    ///
    /// # Errors
    /// The kernel refuses.
    fn disable(&self, index: u32) -> Result<(), VfioError>;

    /// Resets this function alone (FLR or what the kernel has for it).
    ///
    /// # Errors
    /// It cannot, or did not come back.
    fn reset(&self) -> Result<(), VfioError>;

    /// What a bus reset would reset, this device included.
    ///
    /// # Errors
    /// No bus reset for it.
    fn reset_set(&self) -> Result<Vec<ResetPeer>, VfioError> {
        Err(lacking("a reset of its bus".to_owned()))
    }

    /// Resets the bus; `groups` are the groups of everything in [`Device::reset_set`], or none for
    /// a device of iommufd.
    ///
    /// # Errors
    /// A group is missing, or the reset failed.
    fn reset_bus(&self, groups: &[BorrowedFd<'_>]) -> Result<(), VfioError> {
        let _ = groups;
        Err(lacking("a reset of its bus".to_owned()))
    }
}

fn lacking(what: String) -> VfioError {
    VfioError::Unsupported { what, why: "this device does not have it" }
}

/// The I/O virtual addresses that a device's DMA goes through.
pub trait AddressSpace: Debug + Send + Sync {
    /// What can be mapped where.
    fn limits(&self) -> Result<Limits, VfioError>;

    /// Lets devices reach `memory` at `iova`.
    ///
    /// # Errors
    /// Overlaps, is not page aligned, cannot be pinned, or exceeds the memlock limit.
    fn map(&self, iova: u64, memory: &Mapping, access: Access) -> Result<(), VfioError>;

    /// Takes `size` bytes at `iova` away again; they were mapped as one or several whole mappings.
    ///
    /// # Errors
    /// Nothing of exactly that shape was mapped.
    fn unmap(&self, iova: u64, size: u64) -> Result<(), VfioError>;
}

/// What kind of device VFIO has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A PCI function: regions and interrupts have fixed numbers (`VFIO_PCI_*_INDEX`).
    Pci,
    /// A device of a device tree: regions and interrupts in the order of its node.
    Platform,
}

/// `VFIO_DEVICE_GET_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its kind.
    pub kind: DeviceKind,
    /// It can be reset alone ([`Device::reset`]).
    pub resettable: bool,
    /// Number of region indexes.
    pub regions: u32,
    /// Number of interrupt indexes.
    pub interrupts: u32,
}

/// Bytes of a region, from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// `VFIO_DEVICE_GET_REGION_INFO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionInfo {
    /// Length in bytes; 0 when the device has no such region.
    pub size: u64,
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// Areas that can be mapped, in order, not overlapping: none, all of it, or what the kernel
    /// says is sparse.
    pub mappable: Vec<Area>,
    /// The kernel allows the MSI-X table to be mapped (`VFIO_REGION_INFO_CAP_MSIX_MAPPABLE`).
    pub msix_mappable: bool,
}

/// `VFIO_DEVICE_GET_IRQ_INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptInfo {
    /// How many interrupts the index has.
    pub count: u32,
    /// They signal eventfds.
    pub eventfd: bool,
    /// They can be masked.
    pub maskable: bool,
    /// Level triggered: masked by the kernel each time one comes, until it is unmasked.
    pub automasked: bool,
    /// All vectors are set at once; more need disabling first.
    pub no_resize: bool,
}

/// A function that a bus reset resets too (`VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetPeer {
    /// Its IOMMU group; for a device of iommufd the kernel's device id, or -1 for a foreign one.
    pub group: i64,
    /// PCI domain.
    pub segment: u16,
    /// PCI bus.
    pub bus: u8,
    /// Device (upper 5 bits) and function.
    pub devfn: u8,
}

/// What an address space takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Page sizes of the IOMMU, a bit each; the smallest is the granule.
    pub page_sizes: u64,
    /// Addresses that can be mapped, first and last, in order: the gaps are reserved (MSI window,
    /// RMRR).
    pub usable: Vec<(u64, u64)>,
    /// How many more mappings the kernel takes; `None` when it does not say.
    pub mappings_left: Option<u32>,
}

/// What devices may do with mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}
