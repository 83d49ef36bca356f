//! PCI configuration space as sysfs shows it: the few registers preflight and release look at.
//!
//! Capability lists are written by the device, which is not trusted: every walk is bounded and
//! every offset checked.

use serde::{Deserialize, Serialize};

use super::address::DeviceName;
use super::sysfs::Sysfs;

/// PCIe capabilities of a port or endpoint (PCIe 5.0, 7.5.3.2, Device/Port Type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortType {
    /// An endpoint, or any type with no bearing on isolation.
    Other,
    /// Root port of a root complex.
    RootPort,
    /// Upstream port of a switch.
    Upstream,
    /// Downstream port of a switch.
    Downstream,
    /// PCIe to conventional PCI bridge.
    ToConventional,
}

/// Extended capability IDs (PCIe 5.0, 7.6.3).
pub mod extended {
    /// Access Control Services.
    pub const ACS: u16 = 0x000d;
    /// Address Translation Services.
    pub const ATS: u16 = 0x000f;
    /// Page Request Interface.
    pub const PRI: u16 = 0x0013;
    /// Process Address Space ID.
    pub const PASID: u16 = 0x001b;
}

/// ACS control bits that keep peer traffic from bypassing the IOMMU: source validation, P2P
/// request redirect, P2P completion redirect, upstream forwarding (PCIe 5.0, 7.7.7.3).
pub const ACS_ISOLATION: u16 = 0b1_1101;

const CAPABILITY_PCI_EXPRESS: u8 = 0x10;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Configuration space as read: 64 bytes without privilege, 256 or 4096 with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
}

impl ConfigSpace {
    /// Offset of the 16 bit COMMAND register.
    pub const COMMAND: u64 = 4;

    /// The function's configuration space; `None` when it cannot be read, is shorter than a
    /// header, or the device is no PCI function.
    #[must_use]
    pub fn read(sysfs: &Sysfs, device: &DeviceName) -> Option<Self> {
        device.pci()?;
        let directory = sysfs.device_directory(device).ok()?;
        Self::parse(sysfs.bytes(directory.join("config"), 4096)?)
    }

    /// Takes bytes from offset 0 on; `None` when they are fewer than a header's 64.
    #[must_use]
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= 64).then_some(Self { bytes })
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        self.bytes.get(offset).copied()
    }

    fn word(&self, offset: usize) -> Option<u16> {
        let bytes = self.bytes.get(offset..offset.checked_add(2)?)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    fn double(&self, offset: usize) -> Option<u32> {
        let bytes = self.bytes.get(offset..offset.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The COMMAND register.
    #[must_use]
    pub fn command(&self) -> u16 {
        self.word(4).unwrap_or(0xffff)
    }

    /// Whether the function may start DMA on its own (COMMAND bit 2). True as well for a
    /// function that answers all ones.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_BUS_MASTER != 0
    }

    /// COMMAND with bus mastering off, everything else as it is.
    #[must_use]
    pub fn command_without_bus_master(&self) -> u16 {
        self.command() & !COMMAND_BUS_MASTER
    }

    /// The header layout without the multifunction bit: 0 endpoint, 1 bridge, 2 CardBus.
    #[must_use]
    pub fn header_type(&self) -> u8 {
        self.byte(0x0e).unwrap_or(0xff) & 0x7f
    }

    /// Whether everything reads as ones: the function does not answer.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.word(0) == Some(0xffff)
    }

    /// The function's identity, to compare before and after it was in a guest's hands.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            vendor_device: self.double(0).unwrap_or(u32::MAX),
            class_revision: self.double(8).unwrap_or(u32::MAX),
            header_type: self.header_type(),
            subsystem: self.double(0x2c).unwrap_or(u32::MAX),
        }
    }

    /// Offset of a conventional capability.
    fn capability(&self, wanted: u8) -> Option<usize> {
        if self.word(6)? & STATUS_CAPABILITIES == 0 {
            return None;
        }
        let mut offset = usize::from(self.byte(0x34)? & !3);
        // 48 capabilities of 4 bytes fill what follows the header: longer is a loop.
        for _ in 0..48 {
            if offset < 0x40 {
                return None;
            }
            if self.byte(offset)? == wanted {
                return Some(offset);
            }
            offset = usize::from(self.byte(offset + 1)? & !3);
        }
        None
    }

    /// What kind of PCIe port the function is; `None` for conventional PCI, or when
    /// capabilities could not be read (they need privilege).
    #[must_use]
    pub fn port_type(&self) -> Option<PortType> {
        let offset = self.capability(CAPABILITY_PCI_EXPRESS)?;
        Some(match (self.word(offset + 2)? >> 4) & 0xf {
            4 => PortType::RootPort,
            5 => PortType::Upstream,
            6 => PortType::Downstream,
            7 => PortType::ToConventional,
            _ => PortType::Other,
        })
    }

    /// Whether extended capabilities were readable at all: without them absence proves nothing.
    #[must_use]
    pub fn has_extended(&self) -> bool {
        self.bytes.len() > 0x100
    }

    /// Offset of an extended capability.
    #[must_use]
    pub fn extended(&self, wanted: u16) -> Option<usize> {
        let mut offset = 0x100;
        // (4096 - 256) / 8 capabilities at most: longer is a loop.
        for _ in 0..480 {
            let header = self.double(offset)?;
            if header == 0 || header == u32::MAX {
                return None;
            }
            let [low, high, _, _] = header.to_le_bytes();
            if u16::from_le_bytes([low, high]) == wanted {
                return Some(offset);
            }
            offset = usize::try_from(header >> 20).ok()? & !3;
            if offset < 0x100 {
                return None;
            }
        }
        None
    }

    /// ACS control bits in force; `None` without the capability.
    #[must_use]
    pub fn acs_control(&self) -> Option<u16> {
        self.word(self.extended(extended::ACS)? + 6)
    }
}

/// The read-only words of a header that say what a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Vendor ID in bits 15..0, device ID in 31..16.
    pub vendor_device: u32,
    /// Revision in bits 7..0, class code in 31..8.
    pub class_revision: u32,
    /// Header layout, without the multifunction bit.
    pub header_type: u8,
    /// Subsystem vendor ID in bits 15..0, subsystem ID in 31..16.
    pub subsystem: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn capability_list_that_loops_ends() {
        let mut bytes = vec![0; 4096];
        bytes[6] = 1 << 4;
        bytes[0x34] = 0x40;
        bytes[0x40..0x42].copy_from_slice(&[0x05, 0x40]);
        bytes[0x100..0x104].copy_from_slice(&(0x100u32 << 20 | 0x0001).to_le_bytes());
        let config = ConfigSpace::parse(bytes).unwrap();
        assert_eq!(config.port_type(), None);
        assert_eq!(config.extended(extended::ACS), None);
    }

    proptest! {
        #[test]
        fn config_space_any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 64..4097)) {
            let config = ConfigSpace::parse(bytes).unwrap();
            let _ = config.port_type();
            let _ = config.acs_control();
            let _ = config.identity();
        }
    }
}
