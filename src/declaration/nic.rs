//! The `[[nic]]` tables: which cards move into netvm.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::at::At;
use super::check::{Check, Field};
use super::error::Problem;
use super::netvm::Netvm;
use super::raw::RawNic;
use crate::vmm::Vmm;

/// A network card as it is declared; which device it is depends on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nic {
    /// The PCI function at an address.
    Pci(PciAddress),
    /// The PCI functions with this vendor and device.
    Id(VendorDevice),
    /// The PCI functions of a class.
    Class(PciClass),
    /// A USB device, by vendor and product; its host controller is what moves.
    Usb(VendorDevice),
    /// The platform device with this name below `/sys/bus/platform/devices`.
    Platform(String),
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nic::Pci(address) => write!(f, "PCI {address}"),
            Nic::Id(id) => write!(f, "PCI device {id}"),
            Nic::Class(class) => write!(f, "PCI class {class}"),
            Nic::Usb(id) => write!(f, "USB device {id}"),
            Nic::Platform(name) => write!(f, "platform device {name}"),
        }
    }
}

/// A PCI function: domain, bus, device and function (PCI 3.0 3.2.2.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// PCI segment group.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

/// Why a text does not name a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not written as {0}")]
pub struct NicSyntaxError(&'static str);

/// A hex number of exactly `digits` digits.
fn hex(text: &str, digits: usize) -> Option<u32> {
    if text.len() != digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(text, 16).ok()
}

impl FromStr for PciAddress {
    type Err = NicSyntaxError;

    fn from_str(text: &str) -> Result<Self, NicSyntaxError> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            Some(PciAddress {
                domain: u16::try_from(hex(domain, 4)?).ok()?,
                bus: u8::try_from(hex(bus, 2)?).ok()?,
                device: u8::try_from(hex(device, 2)?).ok().filter(|device| *device < 32)?,
                function: u8::try_from(hex(function, 1)?).ok().filter(|function| *function < 8)?,
            })
        };
        parse().ok_or(NicSyntaxError("domain:bus:device.function in hex"))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Vendor and device (PCI) or vendor and product (USB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VendorDevice {
    /// Given out by PCI-SIG or USB-IF.
    pub vendor: u16,
    /// Given out by the vendor.
    pub device: u16,
}

impl FromStr for VendorDevice {
    type Err = NicSyntaxError;

    fn from_str(text: &str) -> Result<Self, NicSyntaxError> {
        let parse = || {
            let (vendor, device) = text.split_once(':')?;
            Some(VendorDevice {
                vendor: u16::try_from(hex(vendor, 4)?).ok()?,
                device: u16::try_from(hex(device, 4)?).ok()?,
            })
        };
        parse().ok_or(NicSyntaxError("two numbers of four hex digits with a colon between them"))
    }
}

impl fmt::Display for VendorDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl Serialize for VendorDevice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A set of 24-bit PCI class codes (PCI 3.0 6.2.1: base class, sub-class, programming interface).
///
/// ```
/// use netvm::declaration::PciClass;
/// let wifi: PciClass = "wifi".parse().unwrap();
/// assert!(wifi.matches(0x028000));
/// assert!(!wifi.matches(0x020000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciClass {
    /// The bits that count, others zero.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

impl PciClass {
    /// Whether `code`, as in sysfs `class`, is in the set.
    pub fn matches(self, code: u32) -> bool {
        code & self.mask == self.value
    }

    /// Base class 02, network controllers.
    fn is_network(self) -> bool {
        self.mask >= 0xff_0000 && self.value >> 16 == 0x02
    }
}

impl FromStr for PciClass {
    type Err = NicSyntaxError;

    fn from_str(text: &str) -> Result<Self, NicSyntaxError> {
        let (digits, length) = match text {
            "network" => (Some(0x02), 2),
            "ethernet" => (Some(0x0200), 4),
            "wifi" => (Some(0x0280), 4),
            _ => match text.len() {
                2 | 4 | 6 => (hex(text, text.len()), text.len()),
                _ => (None, 0),
            },
        };
        let digits = digits.ok_or(NicSyntaxError(
            "\"network\", \"ethernet\", \"wifi\" or two, four or six hex digits",
        ))?;
        let shift = 24 - 4 * length;
        Ok(PciClass { value: digits << shift, mask: 0xff_ffff << shift & 0xff_ffff })
    }
}

impl fmt::Display for PciClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask {
            0xff_0000 => write!(f, "{:02x}", self.value >> 16),
            0xff_ff00 => write!(f, "{:04x}", self.value >> 8),
            _ => write!(f, "{:06x}", self.value),
        }
    }
}

impl Serialize for PciClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Validates all `[[nic]]` tables; `None` if one is wrong.
pub(super) fn check_nics(
    check: &mut Check,
    raw: &[At<RawNic>],
    netvm: Option<&Netvm>,
) -> Option<Vec<Nic>> {
    let mut nics: Vec<At<Nic>> = Vec::new();
    for raw in raw {
        let Some(nic) = check_nic(check, raw) else { continue };
        if let Some(netvm) = netvm
            && matches!(nic.value, Nic::Platform(_))
            && netvm.vmm != Vmm::Crosvm
        {
            check.report(
                Problem::error(
                    "netvm::nic::vmm",
                    nic.span.clone(),
                    format!("{} cannot give a platform device to a guest", netvm.vmm),
                    "a platform device",
                )
                .help("set `vmm = \"crosvm\"` in [netvm], or declare a PCI or USB card"),
            );
        }
        if let Some(first) = nics.iter().find(|first| first.value == nic.value) {
            check.report(
                Problem::error(
                    "netvm::nic::duplicate",
                    nic.span.clone(),
                    format!("{} is declared twice", nic.value),
                    "again here",
                )
                .also(first.span.clone(), "first here")
                .help("remove one of the two [[nic]] tables"),
            );
        }
        nics.push(nic);
    }
    (nics.len() == raw.len()).then(|| nics.into_iter().map(|nic| nic.value).collect())
}

fn check_nic(check: &mut Check, raw: &At<RawNic>) -> Option<At<Nic>> {
    let At { span, value: raw } = raw;
    let written: Vec<(&str, &At<String>)> = [
        ("pci", &raw.pci),
        ("id", &raw.id),
        ("class", &raw.class),
        ("usb", &raw.usb),
        ("platform", &raw.platform),
    ]
    .into_iter()
    .filter_map(|(key, at)| Some((key, at.as_ref()?)))
    .collect();
    let (key, at) = match written[..] {
        [one] => one,
        [] => {
            let dropped = ["pci", "id", "class", "usb", "platform"]
                .into_iter()
                .any(|key| check.was_dropped(span, key));
            if !dropped {
                check.report(
                    Problem::error(
                        "netvm::nic::unnamed",
                        span.clone(),
                        "This [[nic]] does not say which card it is",
                        "missing here",
                    )
                    .help("write one of `pci`, `id`, `class`, `usb` and `platform`"),
                );
            }
            return None;
        }
        [(first_key, first), (key, second), ..] => {
            check.report(
                Problem::error(
                    "netvm::nic::ambiguous",
                    second.span.clone(),
                    format!("This [[nic]] is named both by `{first_key}` and by `{key}`"),
                    "second name",
                )
                .also(first.span.clone(), "first name")
                .help("keep exactly one of them; write another [[nic]] for another card"),
            );
            return None;
        }
    };
    parse_nic(check, span, key, at)
}

fn parse_nic(
    check: &mut Check,
    table: &std::ops::Range<usize>,
    key: &str,
    at: &At<String>,
) -> Option<At<Nic>> {
    let code = "netvm::nic::syntax";
    let place = at.span.clone();
    let nic = match key {
        "pci" => {
            let fix = "write it as lspci -D shows it, such as \"0000:00:03.0\"";
            let field = check.parsed(table, key, Some(at), (code, "a PCI address", fix));
            Nic::Pci(field.optional()??)
        }
        "class" => {
            let fix = "write \"network\", \"ethernet\", \"wifi\", or hex digits such as \"0280\"";
            let field = check.parsed(table, key, Some(at), (code, "a PCI class", fix));
            let class: PciClass = field.optional()??;
            if !class.is_network() {
                check.report(
                    Problem::error(
                        "netvm::nic::class",
                        place,
                        format!("PCI class {class} is not one of network cards"),
                        "not a network class",
                    )
                    .help("write \"network\", or a class that begins with 02"),
                );
                return None;
            }
            Nic::Class(class)
        }
        "id" | "usb" => {
            let (what, fix) = if key == "id" {
                ("a PCI vendor and device", "write it as lspci -n shows it, such as \"8086:10d3\"")
            } else {
                ("a USB vendor and product", "write it as lsusb shows it, such as \"0bda:8153\"")
            };
            let field: Field<VendorDevice> = check.parsed(table, key, Some(at), (code, what, fix));
            let id = field.optional()??;
            if key == "id" { Nic::Id(id) } else { Nic::Usb(id) }
        }
        _ => Nic::Platform(check_platform(check, at)?),
    };
    Some(At { span: place, value: nic })
}

/// A name in one directory of sysfs, and nothing that leads out of it.
fn check_platform(check: &mut Check, at: &At<String>) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._:@+-".contains(c);
    let name = &at.value;
    if name.is_empty()
        || name.len() > 255
        || name.starts_with(['.', '-'])
        || !name.chars().all(fits)
    {
        check.report(
            Problem::error(
                "netvm::nic::syntax",
                at.span.clone(),
                format!("\"{name}\" is not the name of a platform device"),
                "this value",
            )
            .help("write it as /sys/bus/platform/devices shows it, such as \"6800000.ethernet\""),
        );
        return None;
    }
    Some(name.clone())
}
