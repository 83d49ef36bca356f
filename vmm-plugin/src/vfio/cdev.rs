//! Devices of the newer interface: a character device of each (`/dev/vfio/devices/vfioN`,
//! Linux 6.6), bound to iommufd. As far tested as [`iommufd`](super::iommufd).

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd};

use super::{Ioas, OpenDevice, VfioError, sys};
use crate::vmm::VfioFiles;

/// A device's character device, open and bound to nothing yet.
#[derive(Debug)]
pub struct Cdev {
    file: OwnedFd,
    name: String,
}

impl Cdev {
    /// Opens the character device that `device` (a folder in sysfs, as in
    /// `/sys/bus/pci/devices/0000:00:03.0`) has.
    ///
    /// # Errors
    /// It has none, or no permission.
    pub fn open(device: &Path) -> Result<Self, VfioError> {
        let folder = device.join("vfio-dev");
        let advice = "bind the device to vfio-pci; a kernel without CONFIG_VFIO_DEVICE_CDEV \
                      (Linux 6.6) has groups only";
        let failed = |path: PathBuf, source| VfioError::Open { path, advice, source };
        let entry = std::fs::read_dir(&folder).and_then(|mut entries| {
            entries.next().unwrap_or_else(|| Err(std::io::ErrorKind::NotFound.into()))
        });
        let entry = entry.map_err(|source| failed(folder.clone(), source))?;
        let path = Path::new("/dev/vfio/devices").join(entry.file_name());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| failed(path, source))?;
        let name = device.file_name().unwrap_or(device.as_os_str()).to_string_lossy();
        Ok(Self { file: file.into(), name: name.into_owned() })
    }

    /// The character device behind `file`, which somebody else opened and bound to nothing.
    #[must_use]
    pub fn of_file(file: OwnedFd, name: impl Into<String>) -> Self {
        Self { file, name: name.into() }
    }

    /// Attaches the device to `ioas`, and tells the hypervisor when there is one.
    ///
    /// # Errors
    /// Not a device of VFIO, in use, or the IOMMU cannot have it there. It is closed then.
    pub fn attach(
        self,
        ioas: &Arc<Ioas>,
        hypervisor: Option<Arc<dyn VfioFiles>>,
    ) -> Result<OpenDevice, VfioError> {
        let Self { file, name } = self;
        // Before it is bound, as the kernel wants it; dropped before the device is closed.
        let announced = Announced::new(file.as_fd(), &name, hypervisor)?;
        let mut bind =
            vfio_device_bind_iommufd { iommufd: ioas.as_fd().as_raw_fd(), ..Default::default() };
        sys::call(file.as_fd(), &mut bind)
            .map_err(VfioError::refused(format!("binding {name} to iommufd")))?;
        let mut attach = vfio_device_attach_iommufd_pt { pt_id: ioas.id(), ..Default::default() };
        sys::call(file.as_fd(), &mut attach)
            .map_err(VfioError::not_used(format!("giving {name} an address space"), "iommufd"))?;
        let keep: Arc<(Announced, Arc<Ioas>)> = Arc::new((announced, Arc::clone(ioas)));
        Ok(OpenDevice::new(file, name)?.keeping(keep))
    }
}

/// A device that the hypervisor knows of.
struct Announced {
    /// The same open file as the device's.
    file: OwnedFd,
    hypervisor: Option<Arc<dyn VfioFiles>>,
}

impl Announced {
    fn new(
        file: BorrowedFd<'_>,
        name: &str,
        hypervisor: Option<Arc<dyn VfioFiles>>,
    ) -> Result<Self, VfioError> {
        let file = file
            .try_clone_to_owned()
            .map_err(VfioError::refused(format!("duplicating the file of {name}")))?;
        if let Some(hypervisor) = &hypervisor {
            hypervisor
                .add(file.as_fd())
                .map_err(|source| VfioError::Hypervisor { what: name.to_owned(), source })?;
        }
        Ok(Self { file, hypervisor })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(hypervisor) = &self.hypervisor
            && let Err(error) = hypervisor.remove(self.file.as_fd())
        {
            tracing::warn!(%error, "the hypervisor keeps a VFIO device");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_without_one_is_named() {
        let device = tempfile::tempdir().unwrap();
        let error = Cdev::open(device.path()).unwrap_err();
        assert!(error.to_string().contains("vfio-dev"), "{error}");
        assert!(error.to_string().contains("CONFIG_VFIO_DEVICE_CDEV"), "{error}");
    }
}
