//! A device that VFIO has opened: the real side of [`Device`].

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_PLATFORM, VFIO_DEVICE_FLAGS_RESET,
    VFIO_PCI_CONFIG_REGION_INDEX, vfio_device_info,
};
use vmm_sys_util::eventfd::EventFd;

use super::region::Region;
use super::{
    Area, Device, DeviceInfo, DeviceKind, InterruptInfo, RegionInfo, ResetPeer, VfioError,
    interrupt, reset, sys,
};
use crate::mapping::Mapping;

/// Most regions and interrupt indexes that a device can have; a PCI function has 9 and 5, and a
/// few more with regions of its vendor's.
const MOST_INDEXES: u32 = 1024;

/// A device that VFIO has opened, however it was: of a [`Group`](super::Group), of a character
/// device ([`Cdev`](super::Cdev)), received from another process
/// ([`opened`](crate::opened)), or duplicated from what the VMM has already
/// (feature `vfio-ioctls`: `OpenDevice::of_vfio_device`).
///
/// Closing the last descriptor of a device makes the kernel reset it and give its interrupts
/// back.
pub struct OpenDevice {
    file: Arc<OwnedFd>,
    name: String,
    info: DeviceInfo,
    regions: Vec<Region>,
    /// What has to stay open as long as the device: its group in its container.
    _keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl OpenDevice {
    /// The device behind `file`, called `name` (a BDF, or the platform device's name) in errors.
    ///
    /// # Errors
    /// Not a PCI or platform device of VFIO, or the kernel refuses.
    pub fn new(file: OwnedFd, name: impl Into<String>) -> Result<Self, VfioError> {
        let name = name.into();
        let mut answer = vfio_device_info::default();
        sys::call(file.as_fd(), &mut answer)
            .map_err(VfioError::refused(format!("asking {name} what it is")))?;
        let kind = if answer.flags & VFIO_DEVICE_FLAGS_PCI != 0 {
            DeviceKind::Pci
        } else if answer.flags & VFIO_DEVICE_FLAGS_PLATFORM != 0 {
            DeviceKind::Platform
        } else {
            return Err(VfioError::Unsupported {
                what: format!("{name} (VFIO device flags {:#x})", answer.flags),
                why: "it is neither a PCI nor a platform device",
            });
        };
        let info = DeviceInfo {
            kind,
            resettable: answer.flags & VFIO_DEVICE_FLAGS_RESET != 0,
            regions: answer.num_regions.min(MOST_INDEXES),
            interrupts: answer.num_irqs.min(MOST_INDEXES),
        };
        let regions = (0..info.regions)
            .map(|index| Region::query(file.as_fd(), &name, index))
            .collect::<Result<_, _>>()?;
        Ok(Self { file: Arc::new(file), name, info, regions, _keep: None })
    }

    /// Keeps `owner` as long as the device.
    #[must_use]
    pub(super) fn keeping(mut self, owner: Arc<dyn Any + Send + Sync>) -> Self {
        self._keep = Some(owner);
        self
    }

    /// Its name in errors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Region `index`, and where `length` bytes at `offset` of it are in the device's file.
    fn position(&self, index: u32, offset: u64, length: usize) -> Result<u64, VfioError> {
        let region = self.indexed(index)?;
        region.position(offset, length as u64).ok_or_else(|| VfioError::OutOfBounds {
            what: format!(
                "{}: {length} bytes at {offset:#x} of region {index}, which has {:#x},",
                self.name, region.info.size
            ),
        })
    }

    fn indexed(&self, index: u32) -> Result<&Region, VfioError> {
        let region = usize::try_from(index).ok().and_then(|index| self.regions.get(index));
        region.ok_or_else(|| VfioError::OutOfBounds {
            what: format!("{}: region {index} of {}", self.name, self.info.regions),
        })
    }

    /// Why an access failed: `EIO` is what a vanished device gives, but also a BAR whose function
    /// has memory decoding off, so its identity decides.
    fn failed(&self, what: String, error: Errno) -> VfioError {
        match error {
            Errno::NODEV | Errno::NXIO => VfioError::Gone { device: self.name.clone() },
            Errno::IO if !self.answers() => VfioError::Gone { device: self.name.clone() },
            error => VfioError::Refused { what, source: error.into() },
        }
    }

    /// A PCI function's vendor id is not all ones (PCI 3.0, 6.1); nothing tells for others.
    fn answers(&self) -> bool {
        if self.info.kind != DeviceKind::Pci {
            return false;
        }
        let mut vendor = [0xff; 2];
        let read = self
            .position(VFIO_PCI_CONFIG_REGION_INDEX, 0, vendor.len())
            .map(|at| rustix::io::pread(&self.file, &mut vendor[..], at));
        matches!(read, Ok(Ok(2))) && vendor != [0xff; 2]
    }
}

impl fmt::Debug for OpenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenDevice({})", self.name)
    }
}

impl AsFd for OpenDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Device for OpenDevice {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn region(&self, index: u32) -> Result<RegionInfo, VfioError> {
        self.indexed(index).map(|region| region.info.clone())
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), VfioError> {
        let at = self.position(region, offset, data.len()).inspect_err(|_| data.fill(0xff))?;
        let what = || format!("{}: reading at {offset:#x} of region {region}", self.name);
        let length = data.len();
        match rustix::io::retry_on_intr(|| rustix::io::pread(&self.file, &mut *data, at)) {
            Ok(read) if read == length => Ok(()),
            // Less than asked for, inside of the region: nobody answered.
            Ok(_) => {
                data.fill(0xff);
                Err(self.failed(what(), Errno::IO))
            }
            Err(error) => {
                data.fill(0xff);
                Err(self.failed(what(), error))
            }
        }
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), VfioError> {
        let at = self.position(region, offset, data.len())?;
        let what = || format!("{}: writing at {offset:#x} of region {region}", self.name);
        match rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, data, at)) {
            Ok(written) if written == data.len() => Ok(()),
            Ok(_) => Err(self.failed(what(), Errno::IO)),
            Err(error) => Err(self.failed(what(), error)),
        }
    }

    fn map(&self, index: u32, area: Area) -> Result<Arc<Mapping>, VfioError> {
        let region = self.indexed(index)?;
        let what = || {
            format!(
                "{}: mapping {:#x} bytes at {:#x} of region {index}",
                self.name, area.size, area.offset
            )
        };
        if !region.mappable(area) {
            return Err(VfioError::OutOfBounds {
                what: format!("{}, of which {:x?} can be mapped,", what(), region.info.mappable),
            });
        }
        let at = self.position(index, area.offset, 0)?;
        let mapping = Mapping::of_file(&self.file, at, area.size, region.info.writable)
            .map_err(|error| VfioError::refused(what())(io::Error::other(error)))?;
        Ok(Arc::new(mapping))
    }

    fn interrupt(&self, index: u32) -> Result<InterruptInfo, VfioError> {
        interrupt::query(self.as_fd(), &self.name, index)
    }

    fn set_triggers(
        &self,
        index: u32,
        start: u32,
        triggers: &[Option<&EventFd>],
    ) -> Result<(), VfioError> {
        let call = interrupt::Call { index, start, action: interrupt::Action::Trigger };
        call.with_eventfds(self.as_fd(), &self.name, triggers)
    }

    fn set_resample(
        &self,
        index: u32,
        start: u32,
        resample: Option<&EventFd>,
    ) -> Result<(), VfioError> {
        let call = interrupt::Call { index, start, action: interrupt::Action::Unmask };
        call.with_eventfds(self.as_fd(), &self.name, &[resample])
    }

    fn set_mask(&self, index: u32, start: u32, masked: bool) -> Result<(), VfioError> {
        let action = if masked { interrupt::Action::Mask } else { interrupt::Action::Unmask };
        interrupt::Call { index, start, action }.bare(self.as_fd(), &self.name, 1)
    }

    fn disable(&self, index: u32) -> Result<(), VfioError> {
        let call = interrupt::Call { index, start: 0, action: interrupt::Action::Trigger };
        call.bare(self.as_fd(), &self.name, 0)
    }

    fn reset(&self) -> Result<(), VfioError> {
        sys::reset(self.as_fd()).map_err(VfioError::refused(format!("resetting {}", self.name)))
    }

    fn reset_set(&self) -> Result<Vec<ResetPeer>, VfioError> {
        reset::peers(self.as_fd(), &self.name)
    }

    fn reset_bus(&self, groups: &[BorrowedFd<'_>]) -> Result<(), VfioError> {
        sys::hot_reset(self.as_fd(), groups)
            .map_err(VfioError::refused(format!("resetting the bus of {}", self.name)))
    }
}
