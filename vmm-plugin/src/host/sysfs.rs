//! Bounded, read-only access to `/sys`, `/proc` and `/dev` below an injectable root.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use super::address::{DeviceName, PciAddress};

/// Longest text read from one file, in bytes. `/proc/interrupts` of a machine with hundreds of
/// CPUs is the largest legitimate one.
const TEXT_LIMIT: u64 = 8 << 20;

/// The directory below which `sys/`, `proc/` and `dev/` are found: `/` in production, a
/// directory of fixtures in tests.
///
/// Every path given to it is absolute as the kernel shows it (`/sys/...`); the root is put in
/// front here and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::new("/")
    }
}

/// What is wrong with a device's place in sysfs.
#[derive(Debug, thiserror::Error)]
pub enum SysfsError {
    /// There is no such device.
    #[error("{device} is not there: no {path}. `lspci -D` lists the PCI devices of this machine")]
    NoDevice {
        /// The name asked for.
        device: DeviceName,
        /// The directory that does not exist.
        path: PathBuf,
    },
    /// A link leads out of `/sys/devices`, or to a device of another name.
    #[error("{path} leads to {target}, which is not {device}'s directory below /sys/devices")]
    Escapes {
        /// The name asked for.
        device: DeviceName,
        /// The link followed.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
}

impl Sysfs {
    /// Facts below `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory facts are read below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the kernel's `absolute` path is: below the root. `..` components are dropped.
    #[must_use]
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let below = absolute.as_ref().components().filter_map(|c| match c {
            Component::Normal(part) => Some(part),
            _ => None,
        });
        self.root.join(below.collect::<PathBuf>())
    }

    /// The text of a file without surrounding white space; `None` when it cannot be read.
    ///
    /// A check that needs the fact has to treat `None` as the unsafe answer.
    #[must_use]
    pub fn text(&self, absolute: impl AsRef<Path>) -> Option<String> {
        let bytes = self.bytes(absolute, TEXT_LIMIT)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// At most `limit` bytes of a file; `None` when it cannot be read.
    #[must_use]
    pub fn bytes(&self, absolute: impl AsRef<Path>, limit: u64) -> Option<Vec<u8>> {
        let path = self.path(absolute);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(path = %path.display(), %error, "cannot read");
                }
                None
            }
        }
    }

    /// The number in a file: hexadecimal after `0x`, decimal otherwise.
    #[must_use]
    pub fn number(&self, absolute: impl AsRef<Path>) -> Option<u64> {
        let text = self.text(absolute)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// A module parameter of the kernel's type `bool`: `Y` or `N`. `None` when the module is
    /// not loaded.
    #[must_use]
    pub fn flag(&self, absolute: impl AsRef<Path>) -> Option<bool> {
        match self.text(absolute)?.as_str() {
            "Y" | "y" | "1" => Some(true),
            "N" | "n" | "0" => Some(false),
            _ => None,
        }
    }

    /// Whether the file, directory or link exists (a dangling link does).
    #[must_use]
    pub fn exists(&self, absolute: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(absolute)).is_ok()
    }

    /// Where a link points, as its text says; `None` when it is no link.
    #[must_use]
    pub fn link(&self, absolute: impl AsRef<Path>) -> Option<PathBuf> {
        fs::read_link(self.path(absolute)).ok()
    }

    /// The last component of a link's target: a driver's name, a group's number.
    #[must_use]
    pub fn link_name(&self, absolute: impl AsRef<Path>) -> Option<String> {
        Some(self.link(absolute)?.file_name()?.to_str()?.to_owned())
    }

    /// The names in a directory, sorted; empty when there is none. Names that are not UTF-8
    /// are left out: the kernel makes none.
    #[must_use]
    pub fn entries(&self, absolute: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(absolute)) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// The path with every link followed, as the kernel shows it; `None` when it does not
    /// exist or leads out of the root.
    #[must_use]
    pub fn real(&self, absolute: impl AsRef<Path>) -> Option<PathBuf> {
        let root = fs::canonicalize(&self.root).ok()?;
        let real = fs::canonicalize(self.path(absolute)).ok()?;
        Some(Path::new("/").join(real.strip_prefix(root).ok()?))
    }

    /// The device's own directory below `/sys/devices`, with every link followed.
    ///
    /// # Errors
    ///
    /// [`SysfsError::NoDevice`] when it is not on its bus, [`SysfsError::Escapes`] when the
    /// link does not lead to a directory of that name below `/sys/devices`.
    pub fn device_directory(&self, device: &DeviceName) -> Result<PathBuf, SysfsError> {
        let path = device.directory();
        if !self.exists(&path) {
            return Err(SysfsError::NoDevice { device: device.clone(), path });
        }
        let real = self.real(&path);
        let named = |real: &PathBuf| {
            real.starts_with("/sys/devices")
                && real.file_name().and_then(|name| name.to_str()) == Some(&device.to_string())
        };
        match real.filter(named) {
            Some(real) => Ok(real),
            None => Err(SysfsError::Escapes {
                device: device.clone(),
                target: self.link(&path).unwrap_or_default(),
                path,
            }),
        }
    }

    /// The PCI functions of the machine, in order of address.
    #[must_use]
    pub fn pci_devices(&self) -> Vec<PciAddress> {
        let names = self.entries("/sys/bus/pci/devices");
        let mut devices: Vec<PciAddress> = names.iter().filter_map(|n| n.parse().ok()).collect();
        devices.sort_unstable();
        devices
    }

    /// Entries of a class directory (`net`, `block`) whose device is `directory` or below it,
    /// for example the netdevs of a virtio NIC two levels down.
    #[must_use]
    pub fn class_below(&self, class: &str, directory: &Path) -> Vec<String> {
        let class = PathBuf::from("/sys/class").join(class);
        let mut names = self.entries(&class);
        names.retain(|name| {
            self.real(class.join(name)).is_some_and(|real| real.starts_with(directory))
        });
        names
    }

    /// The options on the kernel's command line.
    #[must_use]
    pub fn kernel_options(&self) -> Vec<String> {
        let line = self.text("/proc/cmdline").unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn nic() -> DeviceName {
        DeviceName::of_member("0000:00:03.0").unwrap()
    }

    #[test]
    fn path_with_parent_components_stays_below_root() {
        let sysfs = Sysfs::new("/fixture");
        assert_eq!(sysfs.path("/sys/../../etc/passwd"), Path::new("/fixture/sys/etc/passwd"));
    }

    #[test]
    fn device_directory_link_out_of_sys_devices_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("sys/bus/pci/devices");
        fs::create_dir_all(&bus).unwrap();
        fs::create_dir_all(root.path().join("tmp/0000:00:03.0")).unwrap();
        symlink("../../../../tmp/0000:00:03.0", bus.join("0000:00:03.0")).unwrap();
        let result = Sysfs::new(root.path()).device_directory(&nic());
        assert!(matches!(result, Err(SysfsError::Escapes { .. })), "{result:?}");
    }

    #[test]
    fn device_directory_link_to_another_device_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let bus = root.path().join("sys/bus/pci/devices");
        fs::create_dir_all(&bus).unwrap();
        fs::create_dir_all(root.path().join("sys/devices/pci0000:00/0000:00:1f.2")).unwrap();
        symlink("../../../devices/pci0000:00/0000:00:1f.2", bus.join("0000:00:03.0")).unwrap();
        let result = Sysfs::new(root.path()).device_directory(&nic());
        assert!(matches!(result, Err(SysfsError::Escapes { .. })), "{result:?}");
    }

    #[test]
    fn device_directory_absent_device_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Sysfs::new(root.path()).device_directory(&nic()).unwrap_err();
        assert!(error.to_string().contains("0000:00:03.0 is not there"));
    }
}
