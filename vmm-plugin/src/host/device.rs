//! One device as sysfs describes it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::address::DeviceName;
use super::group::Group;
use super::ids::{PciIds, pci_name};
use super::sysfs::{Sysfs, SysfsError};

/// Facts about one device, read once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name on its bus.
    pub name: DeviceName,
    /// Its own directory below `/sys/devices`, links followed.
    pub directory: PathBuf,
    /// PCI numbers; `None` for a platform device.
    pub ids: Option<PciIds>,
    /// What people call it: from pci.ids, or the device tree's `compatible`.
    pub label: Option<String>,
    /// The driver bound now.
    pub driver: Option<String>,
    /// The only driver it may bind, when one is set.
    pub driver_override: Option<String>,
    /// Network interfaces of it or of what hangs below it, in this network namespace.
    pub netdevs: Vec<String>,
    /// Its IOMMU group.
    pub group: Option<Group>,
    /// How it can be reset, best first; `None` when the kernel does not say (before 5.15).
    pub reset_methods: Option<Vec<String>>,
    /// NUMA node, when the platform knows one.
    pub numa_node: Option<u32>,
}

impl Device {
    /// Reads `name`'s facts.
    ///
    /// # Errors
    ///
    /// As [`Sysfs::device_directory`].
    pub fn read(sysfs: &Sysfs, name: &DeviceName) -> Result<Self, SysfsError> {
        let directory = sysfs.device_directory(name)?;
        let ids = name.pci().and_then(|_| PciIds::read(sysfs, &directory));
        let label = match &ids {
            Some(ids) => pci_name(sysfs, ids),
            None => compatible(sysfs, &directory),
        };
        Ok(Self {
            label,
            driver: driver(sysfs, name),
            driver_override: driver_override(sysfs, name),
            netdevs: sysfs.class_below("net", &directory),
            group: Group::of(sysfs, name),
            reset_methods: sysfs
                .text(directory.join("reset_method"))
                .map(|text| text.split_whitespace().map(str::to_owned).collect()),
            // -1 stands for "none".
            numa_node: sysfs.text(directory.join("numa_node")).and_then(|text| text.parse().ok()),
            name: name.clone(),
            directory,
            ids,
        })
    }

    /// Whether its PCI base class is "network controller", or it has network interfaces.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.ids.is_some_and(|ids| ids.base_class() == 0x02) || !self.netdevs.is_empty()
    }

    /// Name, numbers and label in one line, for lists of candidates.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.name.to_string();
        if let Some(ids) = &self.ids {
            text.push_str(&format!(" [{ids}]"));
        }
        if let Some(label) = &self.label {
            text.push_str(&format!(" {label}"));
        }
        if !self.netdevs.is_empty() {
            text.push_str(&format!(" ({})", self.netdevs.join(", ")));
        }
        text
    }
}

/// The driver bound to a device now; `None` when none is, or the device is not there.
#[must_use]
pub fn driver(sysfs: &Sysfs, name: &DeviceName) -> Option<String> {
    sysfs.link_name(name.directory().join("driver"))
}

/// The driver a device is held to; `None` when it may bind any.
#[must_use]
pub fn driver_override(sysfs: &Sysfs, name: &DeviceName) -> Option<String> {
    let text = sysfs.text(name.directory().join("driver_override"))?;
    // The kernel prints an unset pointer so.
    (!text.is_empty() && text != "(null)").then_some(text)
}

fn compatible(sysfs: &Sysfs, directory: &Path) -> Option<String> {
    let bytes = sysfs.bytes(directory.join("of_node/compatible"), 4096)?;
    let first = bytes.split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(first).into_owned())
}
