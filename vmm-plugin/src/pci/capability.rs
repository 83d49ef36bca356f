//! The two lists of capabilities (PCI 3.0, 6.7; PCIe 5.0, 7.6.3).
//!
//! A device writes them, so every walk is bounded and every offset checked.

use super::passed::Passed;
use crate::vfio::VfioError;

/// Capability IDs (PCI code and ID assignment specification 1.11, 2).
pub(super) mod id {
    pub const POWER_MANAGEMENT: u8 = 0x01;
    pub const VITAL_PRODUCT_DATA: u8 = 0x03;
    pub const MSI: u8 = 0x05;
    pub const VENDOR: u8 = 0x09;
    pub const EXPRESS: u8 = 0x10;
    pub const MSIX: u8 = 0x11;
    pub const ADVANCED_FEATURES: u8 = 0x13;
    /// Extended: a device's serial number.
    pub const SERIAL_NUMBER: u16 = 0x0003;
    /// Extended: whatever the vendor likes.
    pub const EXTENDED_VENDOR: u16 = 0x000b;
}

/// The pointer to the first capability (PCI 3.0, 6.7).
pub(super) const POINTER: u16 = 0x34;
/// The first extended capability, and the end of everything else (PCIe 5.0, 7.6).
pub(super) const EXTENDED: u16 = 0x100;
/// The end of the header; the first place of a capability.
const HEADER: u16 = 0x40;
const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES: u32 = 1 << 4;

/// A capability: where it starts and how far it can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capability {
    pub id: u16,
    pub offset: u16,
    /// Bytes until the next capability, or the end.
    pub room: u16,
}

/// The list in the first 256 bytes, in the device's order.
pub(super) fn list(device: &Passed) -> Result<Vec<Capability>, VfioError> {
    let mut found: Vec<Capability> = Vec::new();
    if device.read(STATUS, 2)? & STATUS_CAPABILITIES == 0 {
        return Ok(found);
    }
    let mut next = pointer(device.read(POINTER, 1)?);
    // A list that comes back to where it was has ended.
    while let Some(offset) = next.filter(|next| !found.iter().any(|old| old.offset == *next)) {
        let [id, after] = two_bytes(device.read(offset, 2)?);
        if id == 0xff {
            break;
        }
        found.push(Capability { id: id.into(), offset, room: 0 });
        next = pointer(after.into());
    }
    measure(&mut found, EXTENDED);
    Ok(found)
}

/// The list behind the first 256 bytes, in the device's order.
pub(super) fn extended_list(device: &Passed) -> Result<Vec<Capability>, VfioError> {
    let mut found: Vec<Capability> = Vec::new();
    let mut next = (device.size() > EXTENDED).then_some(EXTENDED);
    while let Some(offset) = next.filter(|next| !found.iter().any(|old| old.offset == *next)) {
        let header = device.read(offset, 4)?;
        if header == 0 || header == u32::MAX {
            break;
        }
        let [low, high, ..] = header.to_le_bytes();
        found.push(Capability { id: u16::from_le_bytes([low, high]), offset, room: 0 });
        // Version in bits 16 to 19, then the next one's offset.
        let after = u16::try_from(header >> 20).unwrap_or(0) & !3;
        next = (after >= EXTENDED).then_some(after);
    }
    measure(&mut found, device.size());
    Ok(found)
}

/// The two lowest bits of a pointer are reserved; one into the header ends the list.
fn pointer(value: u32) -> Option<u16> {
    let offset = u16::try_from(value & 0xfc).ok()?;
    (offset >= HEADER).then_some(offset)
}

fn two_bytes(value: u32) -> [u8; 2] {
    let [low, high, ..] = value.to_le_bytes();
    [low, high]
}

fn measure(found: &mut [Capability], end: u16) {
    let mut offsets: Vec<u16> = found.iter().map(|capability| capability.offset).collect();
    offsets.sort_unstable();
    for capability in found {
        let next = offsets.iter().find(|offset| **offset > capability.offset).unwrap_or(&end);
        capability.room = next - capability.offset;
    }
}
