//! What a device calls itself: vendor, device and class numbers, and their names from pci.ids.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::address::hexadecimal;
use super::sysfs::Sysfs;

/// The numbers in a PCI function's header (PCI 3.0, 6.2.1 and 6.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PciIds {
    /// Vendor ID. `ffff` is what a device that fell off the bus answers.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem vendor ID, 0 when absent.
    pub subsystem_vendor: u16,
    /// Subsystem ID, 0 when absent.
    pub subsystem_device: u16,
    /// Class code: base class in bits 23..16, subclass in 15..8, interface in 7..0.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
}

impl PciIds {
    /// The numbers of the function whose directory is `directory`; `None` when they cannot be
    /// read.
    #[must_use]
    pub fn read(sysfs: &Sysfs, directory: &Path) -> Option<Self> {
        let number = |file: &str| sysfs.number(directory.join(file));
        let word = |file: &str| number(file).and_then(|n| u16::try_from(n).ok());
        Some(Self {
            vendor: word("vendor")?,
            device: word("device")?,
            subsystem_vendor: word("subsystem_vendor").unwrap_or(0),
            subsystem_device: word("subsystem_device").unwrap_or(0),
            class: u32::try_from(number("class")?).ok()?,
            revision: number("revision").and_then(|n| u8::try_from(n).ok())?,
        })
    }

    /// The base class: 02 is a network controller, 06 a bridge.
    #[must_use]
    pub fn base_class(&self) -> u8 {
        self.class.to_be_bytes()[1]
    }
}

impl fmt::Display for PciIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// `VENDOR:DEVICE`, four hexadecimal digits each, of a PCI or a USB device.
///
/// ```
/// use vmm_plugin::host::ids::VendorDevice;
///
/// let id: VendorDevice = "8086:10d3".parse().unwrap();
/// assert_eq!((id.vendor, id.device), (0x8086, 0x10d3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VendorDevice {
    /// Vendor ID.
    pub vendor: u16,
    /// Device (USB: product) ID.
    pub device: u16,
}

impl fmt::Display for VendorDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

/// The text is no identifier of the kind expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not `VENDOR:DEVICE`.
    #[error(
        "{0:?} is not VENDOR:DEVICE: write four hexadecimal digits each, as `lspci -n` or \
         `lsusb` prints them, for example 8086:10d3"
    )]
    VendorDevice(String),
    /// Not a class.
    #[error(
        "{0:?} is not a PCI class: write network, ethernet or wireless, or 2, 4 or 6 \
         hexadecimal digits, for example 02 or 0200"
    )]
    Class(String),
}

impl FromStr for VendorDevice {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (vendor, device) = text.split_once(':')?;
            Some(Self {
                vendor: u16::try_from(hexadecimal(vendor, 4, 4)?).ok()?,
                device: u16::try_from(hexadecimal(device, 4, 4)?).ok()?,
            })
        };
        parse().ok_or_else(|| IdError::VendorDevice(text.to_owned()))
    }
}

impl TryFrom<String> for VendorDevice {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<VendorDevice> for String {
    fn from(id: VendorDevice) -> Self {
        id.to_string()
    }
}

/// A PCI class, or the beginning of one.
///
/// Written `network` (base class 02), `ethernet` (0200), `wireless` (0280), or as 2, 4 or 6
/// hexadecimal digits: a base class, with a subclass, with an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciClass {
    value: u32,
    /// Significant hexadecimal digits: 2, 4 or 6.
    digits: u8,
}

impl PciClass {
    /// Whether a device of this class code (24 bits) belongs to the class.
    #[must_use]
    pub fn contains(&self, class: u32) -> bool {
        class >> (4 * (6 - u32::from(self.digits))) == self.value
    }
}

impl fmt::Display for PciClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.value, width = usize::from(self.digits))
    }
}

impl FromStr for PciClass {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (value, digits) = match text {
            "network" => (Some(0x02), 2),
            "ethernet" => (Some(0x0200), 4),
            "wireless" => (Some(0x0280), 4),
            _ => match text.len() {
                2 => (hexadecimal(text, 2, 2), 2),
                4 => (hexadecimal(text, 4, 4), 4),
                6 => (hexadecimal(text, 6, 6), 6),
                _ => (None, 0),
            },
        };
        match value {
            Some(value) => Ok(Self { value, digits }),
            None => Err(IdError::Class(text.to_owned())),
        }
    }
}

impl TryFrom<String> for PciClass {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciClass> for String {
    fn from(class: PciClass) -> Self {
        class.to_string()
    }
}

/// `Vendor Device` as pci.ids of this machine names it; `None` without that file or entry.
#[must_use]
pub fn pci_name(sysfs: &Sysfs, ids: &PciIds) -> Option<String> {
    let list = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"]
        .iter()
        .find_map(|path| sysfs.text(path))?;
    let vendor = format!("{:04x}  ", ids.vendor);
    let device = format!("\t{:04x}  ", ids.device);
    let mut lines = list.lines();
    let vendor = lines.find_map(|line| line.strip_prefix(&vendor))?;
    let device = lines
        .take_while(|line| line.starts_with(['\t', '#']))
        .find_map(|line| line.strip_prefix(&device));
    Some(match device {
        Some(device) => format!("{vendor} {device}"),
        None => vendor.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_class_prefix_matches_only_its_members() {
        let class = |text: &str| text.parse::<PciClass>().unwrap();
        assert!(class("network").contains(0x02_00_00));
        assert!(class("02").contains(0x02_80_00));
        assert!(class("ethernet").contains(0x02_00_00));
        assert!(!class("ethernet").contains(0x02_80_00));
        assert!(class("020000").contains(0x02_00_00));
        assert!(!class("network").contains(0x0c_03_30));
        assert!("0x02".parse::<PciClass>().is_err());
        assert!("+2".parse::<PciClass>().is_err());
    }

    #[test]
    fn pci_name_reads_vendor_and_device_lines() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/share/misc");
        std::fs::create_dir_all(&directory).unwrap();
        let list = "# list\n1af4  Red Hat\n\t10d3  Not this\n8086  Intel Corporation\n\
                    \t10d3  82574L Gigabit\n\t\t8086 0001  Sub\n9000  Other\n\t0001  Nothing\n";
        std::fs::write(directory.join("pci.ids"), list).unwrap();
        let sysfs = Sysfs::new(root.path());
        let mut ids = PciIds {
            vendor: 0x8086,
            device: 0x10d3,
            subsystem_vendor: 0,
            subsystem_device: 0,
            class: 0x02_0000,
            revision: 0,
        };
        let name = pci_name(&sysfs, &ids);
        assert_eq!(name.as_deref(), Some("Intel Corporation 82574L Gigabit"));
        ids.device = 1;
        assert_eq!(pci_name(&sysfs, &ids).as_deref(), Some("Intel Corporation"));
    }
}
