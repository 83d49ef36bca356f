//! Names of devices: PCI addresses and platform device names.
//!
//! Both end up as path components below `/sys/bus`, so their syntax is checked when they are
//! made and nothing later has to look at them again.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A PCI function: domain, bus, device and function (the "BDF").
///
/// Written `0000:00:03.0`. The domain has 4 to 8 hexadecimal digits (Intel VMD uses domains
/// above `ffff`), the device is 0 to 1f, the function 0 to 7.
///
/// ```
/// use vmm_plugin::host::PciAddress;
///
/// let nic: PciAddress = "0000:3B:00.1".parse().unwrap();
/// assert_eq!(nic.to_string(), "0000:3b:00.1");
/// assert!("../../0000:3b:00.1".parse::<PciAddress>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl PciAddress {
    /// The address made of these numbers; `None` when the device is above 31 or the function
    /// above 7.
    #[must_use]
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self { domain, bus, device, function })
    }

    /// Domain, bus, device and function.
    #[must_use]
    pub fn numbers(&self) -> (u32, u8, u8, u8) {
        (self.domain, self.bus, self.device, self.function)
    }

    /// Whether `other` is a function of the same card: it differs at most in the function.
    #[must_use]
    pub fn same_slot(&self, other: &Self) -> bool {
        (self.domain, self.bus, self.device) == (other.domain, other.bus, other.device)
    }

    /// Whether `other` is on the same bus.
    #[must_use]
    pub fn same_bus(&self, other: &Self) -> bool {
        (self.domain, self.bus) == (other.domain, other.bus)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// The text is not a PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a PCI address: write domain, bus, device and function in hexadecimal, as \
     `lspci -D` prints them, for example 0000:00:03.0"
)]
pub struct PciAddressError {
    text: String,
}

/// A number of between `least` and `most` hexadecimal digits and nothing else (no sign, no
/// blank, which `from_str_radix` would partly accept).
pub(crate) fn hexadecimal(text: &str, least: usize, most: usize) -> Option<u32> {
    let digits = (least..=most).contains(&text.len());
    (digits && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

fn parse_pci(text: &str) -> Option<PciAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    PciAddress::new(
        hexadecimal(domain, 4, 8)?,
        u8::try_from(hexadecimal(bus, 2, 2)?).ok()?,
        u8::try_from(hexadecimal(device, 2, 2)?).ok()?,
        u8::try_from(hexadecimal(function, 1, 1)?).ok()?,
    )
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_pci(text).ok_or_else(|| PciAddressError { text: text.to_owned() })
    }
}

impl TryFrom<String> for PciAddress {
    type Error = PciAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// The name of a platform device, as in `/sys/bus/platform/devices`, for example
/// `fe300000.ethernet`.
///
/// Letters, digits and `.`, `_`, `-`, `:`, `@`, `,`, `+`; at most 255 bytes; begins with a
/// letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlatformName(String);

impl PlatformName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text cannot be the name of a platform device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a platform device name: write it as listed in /sys/bus/platform/devices, \
     for example fe300000.ethernet"
)]
pub struct PlatformNameError {
    text: String,
}

impl FromStr for PlatformName {
    type Err = PlatformNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:@,+".contains(&b));
        if begins && rest && text.len() <= 255 {
            Ok(Self(text.to_owned()))
        } else {
            Err(PlatformNameError { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for PlatformName {
    type Error = PlatformNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PlatformName> for String {
    fn from(name: PlatformName) -> Self {
        name.0
    }
}

/// A device VFIO can own, named on its bus. Serialised as its name on that bus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// A PCI function.
    Pci(PciAddress),
    /// A device of the platform bus (device tree).
    Platform(PlatformName),
}

impl DeviceName {
    /// The bus below `/sys/bus`: `pci` or `platform`.
    #[must_use]
    pub fn bus(&self) -> &'static str {
        match self {
            Self::Pci(_) => "pci",
            Self::Platform(_) => "platform",
        }
    }

    /// `/sys/bus/BUS/devices/NAME`.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/sys/bus/{}/devices/{self}", self.bus()))
    }

    /// The driver that hands a device of this bus to user space: `vfio-pci` or
    /// `vfio-platform`.
    #[must_use]
    pub fn vfio_driver(&self) -> &'static str {
        match self {
            Self::Pci(_) => "vfio-pci",
            Self::Platform(_) => "vfio-platform",
        }
    }

    /// The PCI address, when it is on that bus.
    #[must_use]
    pub fn pci(&self) -> Option<PciAddress> {
        match self {
            Self::Pci(address) => Some(*address),
            Self::Platform(_) => None,
        }
    }

    /// The device called `name` in a directory that mixes buses (an IOMMU group's members):
    /// a PCI address when it looks like one, a platform name otherwise.
    #[must_use]
    pub fn of_member(name: &str) -> Option<Self> {
        match name.parse::<PciAddress>() {
            Ok(address) => Some(Self::Pci(address)),
            Err(_) => name.parse().ok().map(Self::Platform),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(address) => address.fmt(f),
            Self::Platform(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pci_address_hostile_text_is_refused() {
        for text in [
            "",
            "00:03.0",
            "0000:00:03",
            "0000:00:03.8",
            "0000:00:20.0",
            "0000:00:+3.0",
            "0000:00:03.0/..",
            " 0000:00:03.0",
            "0000:00:03.0\n",
            "000000000:00:03.0",
            "0000:0g:03.0",
            "0000:00:03.0.0",
            "０000:00:03.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn platform_name_hostile_text_is_refused() {
        for text in ["", ".", "..", "../x", "a/b", "a b", "a\n", "-x", "a\0"] {
            assert!(text.parse::<PlatformName>().is_err(), "{text:?}");
        }
        assert!("fe300000.ethernet".parse::<PlatformName>().is_ok());
    }

    proptest! {
        #[test]
        fn pci_address_display_parses_back(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress::new(domain, bus, device, function).unwrap();
            prop_assert_eq!(address.to_string().parse::<PciAddress>(), Ok(address));
        }

        #[test]
        fn pci_address_any_accepted_text_is_one_path_component(text in "\\PC{0,16}") {
            if text.parse::<PciAddress>().is_ok() {
                prop_assert!(!text.contains('/'));
            }
        }
    }
}
