//! From what the operator declared to a device of this machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::address::{DeviceName, PciAddress, PlatformName};
use super::device::Device;
use super::ids::{PciClass, VendorDevice};
use super::sysfs::{Sysfs, SysfsError};
use super::usb;

/// How a declaration names a NIC.
///
/// In TOML or JSON a table with exactly one of these keys:
///
/// ```
/// use vmm_plugin::host::NicSelector;
///
/// for text in [
///     r#"{"pci": "0000:00:03.0"}"#,
///     r#"{"id": "8086:10d3"}"#,
///     r#"{"class": "network"}"#,
///     r#"{"usb": "0bda:8153"}"#,
///     r#"{"platform": "fe300000.ethernet"}"#,
/// ] {
///     serde_json::from_str::<NicSelector>(text).unwrap();
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicSelector {
    /// The PCI function at this address.
    Pci(PciAddress),
    /// The PCI function with this vendor and device ID.
    Id(VendorDevice),
    /// The PCI function of this class.
    Class(PciClass),
    /// The host controller of the USB device with this vendor and product ID.
    Usb(VendorDevice),
    /// The platform device with this name.
    Platform(PlatformName),
}

impl fmt::Display for NicSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => write!(f, "pci = \"{address}\""),
            Self::Id(id) => write!(f, "id = \"{id}\""),
            Self::Class(class) => write!(f, "class = \"{class}\""),
            Self::Usb(id) => write!(f, "usb = \"{id}\""),
            Self::Platform(name) => write!(f, "platform = \"{name}\""),
        }
    }
}

/// A declared NIC, found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// What was asked for.
    pub selector: NicSelector,
    /// The device that changes hands: the NIC, or a USB NIC's host controller.
    pub device: Device,
    /// Set for a USB NIC.
    pub usb: Option<UsbNic>,
}

/// What a USB selector found on its host controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsbNic {
    /// The NIC, for example `1-2 [0bda:8153] Realtek USB 10/100/1000 LAN`.
    pub nic: String,
    /// The other devices that leave the host with the controller, root hubs left out.
    pub others: Vec<String>,
}

/// A selector that stands for no device, or not for one alone.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nothing matches.
    #[error("No device matches {selector}.{}", suggest(.candidates))]
    NoMatch {
        /// What was asked for.
        selector: NicSelector,
        /// What there is instead: descriptions, each beginning with what to write.
        candidates: Vec<String>,
    },
    /// More than one device matches.
    #[error("{} devices match {selector}: write the address of one.{}", .candidates.len(), suggest(.candidates))]
    SeveralMatches {
        /// What was asked for.
        selector: NicSelector,
        /// Those that match, each beginning with what to write.
        candidates: Vec<String>,
    },
    /// Two selectors stand for one device.
    #[error("{first} and {second} are the same device, {device}: declare it once")]
    Twice {
        /// The earlier selector.
        first: NicSelector,
        /// The later selector.
        second: NicSelector,
        /// The device both stand for.
        device: DeviceName,
    },
    /// A USB device hangs on no controller VFIO could own.
    #[error("{usb} is not below a PCI or platform host controller, so it cannot be given away")]
    NoController {
        /// The USB device.
        usb: String,
    },
    /// The device's entry in sysfs is missing or leads elsewhere.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
}

fn suggest(candidates: &[String]) -> String {
    if candidates.is_empty() {
        " This machine has no network device that could be named instead.".to_owned()
    } else {
        format!(" Candidates:\n  {}", candidates.join("\n  "))
    }
}

/// `pci = "ADDRESS"  # numbers and names`, to be pasted into a declaration.
fn candidate(device: &Device) -> String {
    format!("{} = \"{}\"  # {}", device.name.bus(), device.name, device.describe())
}

fn pci_devices(sysfs: &Sysfs) -> Vec<Device> {
    sysfs
        .pci_devices()
        .into_iter()
        .filter_map(|address| Device::read(sysfs, &DeviceName::Pci(address)).ok())
        .collect()
}

/// The network devices of this machine, as suggestions.
#[must_use]
pub fn candidates(sysfs: &Sysfs) -> Vec<String> {
    let pci = pci_devices(sysfs);
    // USB controllers show their NICs' netdevs too, but are named by `usb`.
    let mut found: Vec<String> = pci
        .iter()
        .filter(|device| device.ids.is_some_and(|ids| ids.base_class() == 0x02))
        .map(candidate)
        .collect();
    for name in sysfs.entries("/sys/bus/platform/devices") {
        let device = DeviceName::of_member(&name).and_then(|n| Device::read(sysfs, &n).ok());
        let own = |d: &Device| sysfs.exists(d.directory.join("net"));
        found.extend(device.filter(own).iter().map(candidate));
    }
    found
}

/// Finds the one device a selector stands for.
///
/// # Errors
///
/// [`ResolveError`]; its text lists the candidates and what to write.
pub fn resolve(sysfs: &Sysfs, selector: &NicSelector) -> Result<Nic, ResolveError> {
    let found = |device: Device| Nic { selector: selector.clone(), device, usb: None };
    let named = |name: DeviceName| match Device::read(sysfs, &name) {
        Ok(device) => Ok(found(device)),
        Err(SysfsError::NoDevice { .. }) => {
            Err(ResolveError::NoMatch { selector: selector.clone(), candidates: candidates(sysfs) })
        }
        Err(error) => Err(error.into()),
    };
    match selector {
        NicSelector::Pci(address) => named(DeviceName::Pci(*address)),
        NicSelector::Platform(name) => named(DeviceName::Platform(name.clone())),
        NicSelector::Id(id) => one_of(sysfs, selector, |device| {
            device.ids.is_some_and(|ids| (ids.vendor, ids.device) == (id.vendor, id.device))
        })
        .map(found),
        NicSelector::Class(class) => one_of(sysfs, selector, |device| {
            device.ids.is_some_and(|ids| class.contains(ids.class))
        })
        .map(found),
        NicSelector::Usb(id) => resolve_usb(sysfs, selector, *id),
    }
}

fn one_of(
    sysfs: &Sysfs,
    selector: &NicSelector,
    matches: impl Fn(&Device) -> bool,
) -> Result<Device, ResolveError> {
    let mut devices = pci_devices(sysfs);
    devices.retain(matches);
    if devices.len() > 1 {
        return Err(ResolveError::SeveralMatches {
            selector: selector.clone(),
            candidates: devices.iter().map(candidate).collect(),
        });
    }
    devices.pop().ok_or_else(|| ResolveError::NoMatch {
        selector: selector.clone(),
        candidates: candidates(sysfs),
    })
}

fn resolve_usb(
    sysfs: &Sysfs,
    selector: &NicSelector,
    id: VendorDevice,
) -> Result<Nic, ResolveError> {
    let mut devices = usb::devices(sysfs);
    devices.retain(|device| !device.is_root_hub());
    let suggestion = |device: &usb::UsbDevice| match device.controller(sysfs) {
        Some(DeviceName::Pci(pci)) => format!("pci = \"{pci}\"  # host of {}", device.describe()),
        _ => device.describe(),
    };
    let matching: Vec<&usb::UsbDevice> = devices.iter().filter(|d| d.id == id).collect();
    let nic = match matching.as_slice() {
        [nic] => *nic,
        [] => {
            let write = |d: &usb::UsbDevice| format!("usb = \"{}\"  # {}", d.id, d.describe());
            return Err(ResolveError::NoMatch {
                selector: selector.clone(),
                candidates: devices.iter().map(write).collect(),
            });
        }
        several => {
            return Err(ResolveError::SeveralMatches {
                selector: selector.clone(),
                candidates: several.iter().map(|d| suggestion(d)).collect(),
            });
        }
    };
    let controller =
        nic.controller(sysfs).ok_or_else(|| ResolveError::NoController { usb: nic.describe() })?;
    let others = devices
        .iter()
        .filter(|other| other.name != nic.name)
        .filter(|other| other.controller(sysfs).as_ref() == Some(&controller))
        .map(usb::UsbDevice::describe)
        .collect();
    Ok(Nic {
        selector: selector.clone(),
        device: Device::read(sysfs, &controller)?,
        usb: Some(UsbNic { nic: nic.describe(), others }),
    })
}

/// Finds every declared NIC; all errors are returned, not the first only.
///
/// # Errors
///
/// Every [`ResolveError`] of a selector, and [`ResolveError::Twice`] for two selectors of one
/// device.
pub fn resolve_all(
    sysfs: &Sysfs,
    selectors: &[NicSelector],
) -> Result<Vec<Nic>, Vec<ResolveError>> {
    let mut nics: Vec<Nic> = Vec::new();
    let mut errors = Vec::new();
    for selector in selectors {
        match resolve(sysfs, selector) {
            Ok(nic) => match nics.iter().find(|n| n.device.name == nic.device.name) {
                Some(first) => errors.push(ResolveError::Twice {
                    first: first.selector.clone(),
                    second: nic.selector,
                    device: nic.device.name,
                }),
                None => nics.push(nic),
            },
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(nics) } else { Err(errors) }
}
