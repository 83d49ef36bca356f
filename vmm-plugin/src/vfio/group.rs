//! IOMMU groups of the legacy interface: what VFIO gives away as one (`/dev/vfio/GROUP`).

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{VFIO_GROUP_FLAGS_VIABLE, vfio_group_status};

use super::{Container, OpenDevice, VfioError, sys};
use crate::vmm::VfioFiles;

/// An open group that is in no container yet.
///
/// The kernel opens a group once: while this lives, nobody else can.
#[derive(Debug)]
pub struct Group {
    file: OwnedFd,
    number: u32,
}

impl Group {
    /// Opens `/dev/vfio/NUMBER`.
    ///
    /// # Errors
    /// There is no such group, it is not ours or in use, or one of its devices is bound to a
    /// host driver.
    pub fn open(number: u32) -> Result<Self, VfioError> {
        let path = PathBuf::from(format!("/dev/vfio/{number}"));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|source| {
            let advice = match source.kind() {
                std::io::ErrorKind::NotFound => "bind the group's devices to vfio-pci first",
                std::io::ErrorKind::ResourceBusy => "another process has it: end that first",
                std::io::ErrorKind::PermissionDenied => "give this user the file, or run as root",
                _ => "see the kernel's log",
            };
            VfioError::Open { path, advice, source }
        })?;
        Self::of_file(file.into(), number)
    }

    /// The group `number` behind `file`, which somebody else opened.
    ///
    /// # Errors
    /// Not a group, or one of its devices is bound to a host driver.
    pub fn of_file(file: OwnedFd, number: u32) -> Result<Self, VfioError> {
        let mut status = vfio_group_status::default();
        sys::call(file.as_fd(), &mut status)
            .map_err(VfioError::refused(format!("asking group {number} for its status")))?;
        if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(VfioError::NotViable { group: number });
        }
        Ok(Self { file, number })
    }

    /// Its number in `/sys/kernel/iommu_groups`.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A group in a container: its devices can be opened.
///
/// Leaves the hypervisor's list and the container when it and all devices opened of it are
/// dropped. With the container's last group its mappings end too.
#[derive(Debug)]
pub struct AttachedGroup {
    // Dropped after the hypervisor was told, and in this order: the kernel takes a group out of
    // its container when its last file closes.
    group: Group,
    container: Arc<Container>,
    hypervisor: Option<Arc<dyn VfioFiles>>,
}

impl AttachedGroup {
    /// `group`, which is in `container` already.
    pub(super) fn new(
        group: Group,
        container: Arc<Container>,
        hypervisor: Option<Arc<dyn VfioFiles>>,
    ) -> Result<Self, VfioError> {
        if let Some(hypervisor) = &hypervisor {
            hypervisor.add(group.as_fd()).map_err(|source| VfioError::Hypervisor {
                what: format!("IOMMU group {}", group.number),
                source,
            })?;
        }
        Ok(Self { group, container, hypervisor })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.group.number
    }

    /// The container that it is in.
    #[must_use]
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// Opens a device of the group: a BDF as in `0000:00:03.0`, or a platform device's name.
    ///
    /// # Errors
    /// Not in this group, not bound to VFIO, or the kernel refuses.
    pub fn device(self: &Arc<Self>, name: &str) -> Result<OpenDevice, VfioError> {
        let number = self.group.number;
        let what =
            format!("opening {name}, which has to be in IOMMU group {number} and bound to VFIO,");
        let text = CString::new(name).map_err(|_| VfioError::Unsupported {
            what: format!("a device called {name:?}"),
            why: "names have no zero bytes",
        })?;
        let file = sys::device(self.as_fd(), &text).map_err(VfioError::refused(what))?;
        Ok(OpenDevice::new(file, name)?.keeping(Arc::<Self>::clone(self)))
    }

    /// `file`, a device of this group that somebody else opened.
    ///
    /// # Errors
    /// As [`OpenDevice::new`].
    pub fn adopt(self: &Arc<Self>, file: OwnedFd, name: &str) -> Result<OpenDevice, VfioError> {
        Ok(OpenDevice::new(file, name)?.keeping(Arc::<Self>::clone(self)))
    }
}

impl AsFd for AttachedGroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

impl Drop for AttachedGroup {
    fn drop(&mut self) {
        if let Some(hypervisor) = &self.hypervisor
            && let Err(error) = hypervisor.remove(self.group.as_fd())
        {
            tracing::warn!(group = self.group.number, %error, "the hypervisor keeps a VFIO group");
        }
    }
}
