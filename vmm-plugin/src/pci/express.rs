//! Capabilities that have more to them than being shown: PCIe, power management, reset, VPD.

use super::capability::{Capability, id};
use super::passed::Passed;
use super::policy::Policy;
use super::register::{Effect, Register};
use crate::vfio::VfioError;

/// Bits of PCIe device control (PCIe 5.0, 7.5.3.4).
pub(super) mod control {
    /// Relaxed ordering, no snoop: about the function's own requests.
    pub const ORDERING: u32 = 1 << 4 | 1 << 11;
    /// Largest read request.
    pub const READ_REQUEST: u32 = 0b111 << 12;
    /// All that reaches the device.
    pub const PASSED: u32 = ORDERING | READ_REQUEST;
    /// Starts a function-level reset.
    pub const RESET: u32 = 1 << 15;
}

const CAPABILITIES_RESET: u32 = 1 << 28;
/// Largest payload, errors, error reporting and extended tags belong to the link: kept.
const CONTROL_KEPT: u32 = 0x01ef;
const TYPE_MASK: u32 = 0xf << 4;
const TYPE_ENDPOINT: u32 = 0;
const TYPE_LEGACY_ENDPOINT: u32 = 1 << 4;
const TYPE_INTEGRATED_ENDPOINT: u32 = 9 << 4;

/// PCIe (PCIe 5.0, 7.5.3). `None`: it is no endpoint.
pub(super) fn express(
    device: &Passed,
    found: Capability,
    policy: Policy,
    resettable: bool,
) -> Result<Option<Vec<Register>>, VfioError> {
    let at = found.offset;
    if found.room < 0x14 {
        return Ok(None);
    }
    let flags = device.read(at + 2, 2)?;
    let shown_type = match flags & TYPE_MASK {
        TYPE_ENDPOINT | TYPE_LEGACY_ENDPOINT if policy.below_root_port => flags & TYPE_MASK,
        TYPE_ENDPOINT | TYPE_LEGACY_ENDPOINT | TYPE_INTEGRATED_ENDPOINT => TYPE_INTEGRATED_ENDPOINT,
        _ => return Ok(None),
    };
    // A version 1 register set ends with the link, version 2 has a second set.
    let second = flags & 0xf >= 2 && found.room >= 0x3c;
    let version = if second { 2 } else { 1 };
    let reset = if resettable { CAPABILITIES_RESET } else { 0 };
    let control_value = device.read(at + 8, 2)? & (CONTROL_KEPT | control::PASSED);
    let mut registers = vec![
        // Slot implemented and interrupt message number are a port's.
        Register::fixed(at + 2, 2, shown_type | version),
        // Phantom functions are more requesters than one.
        Register {
            emulated: CAPABILITIES_RESET | 0b11 << 3,
            value: reset,
            ..Register::shown(at + 4, 4)
        },
        Register::kept(
            at + 8,
            2,
            control_value,
            CONTROL_KEPT | control::PASSED | control::RESET,
            Some(Effect::Express),
        ),
        // Errors are the host's; a guest waits for "transactions pending" before a reset.
        Register { emulated: !(1 << 5), ..Register::shown(at + 0xa, 2) },
    ];
    let link = shown_type != TYPE_INTEGRATED_ENDPOINT;
    if link {
        registers.push(Register::shown(at + 0xc, 4));
        // ASPM, common clock: of the link, kept.
        registers.push(Register::kept(at + 0x10, 2, device.read(at + 0x10, 2)?, 0x03fb, None));
        registers.push(Register { emulated: 0xc000, ..Register::shown(at + 0x12, 2) });
    } else {
        registers.push(Register::fixed(at + 0xc, 4, 0));
        registers.push(Register::fixed(at + 0x10, 4, 0));
    }
    if second {
        // Completion timeouts; nothing of LTR, OBFF, atomics, prefixes, large tags.
        registers.push(Register { emulated: !0x1f, ..Register::shown(at + 0x24, 4) });
        registers.push(Register::kept(at + 0x28, 2, 0, 0x1f, None));
        registers.push(Register::fixed(at + 0x2a, 2, 0));
        if link {
            registers.push(Register::shown(at + 0x2c, 4));
            registers.push(Register::kept(at + 0x30, 2, device.read(at + 0x30, 2)?, 0xffff, None));
            registers.push(Register::shown(at + 0x32, 2));
        }
        // The rest, up to 0x3c, is a port's and reads as zeros; no capability may lie there.
        registers.push(Register::fixed(at + 0x38, 4, 0));
    }
    Ok(Some(registers))
}

/// Power management (PCI Power Management 1.2, 3.2): D0 and D3, no power management events.
pub(super) fn power(found: Capability) -> Option<Vec<Register>> {
    let at = found.offset;
    (found.room >= 8).then(|| {
        vec![
            // PME support, D1, D2 and auxiliary current are not offered.
            Register { emulated: 0xffc0, ..Register::shown(at + 2, 2) },
            Register {
                // "No soft reset" is the device's.
                emulated: !(1 << 3),
                write: 0b11,
                effect: Some(Effect::Power),
                ..Register::shown(at + POWER_CONTROL, 2)
            },
            Register::fixed(at + 6, 2, 0),
        ]
    })
}

/// The device says in `found` that it has function-level reset (PCIe 5.0, 7.5.3.3; bit 1 of an
/// advanced features capability).
pub(super) fn function_level_reset(device: &Passed, found: Capability) -> Result<bool, VfioError> {
    let at = found.offset;
    Ok(match u8::try_from(found.id) {
        Ok(id::EXPRESS) if found.room >= 8 => device.read(at + 4, 4)? & CAPABILITIES_RESET != 0,
        Ok(id::ADVANCED_FEATURES) if found.room >= 6 => device.read(at + 3, 1)? & 0b10 != 0,
        _ => false,
    })
}

/// Where control and status are in the power management capability.
pub(super) const POWER_CONTROL: u16 = 4;
/// Where device control is in the PCIe capability.
pub(super) const DEVICE_CONTROL: u16 = 8;

/// Advanced features (PCI advanced capabilities ECN): function-level reset of a conventional
/// device; `None` when it cannot be reset.
pub(super) fn advanced_features(found: Capability, resettable: bool) -> Option<Vec<Register>> {
    let at = found.offset;
    (found.room >= 6 && resettable).then(|| {
        vec![
            // Length 6; transactions pending and function-level reset.
            Register::fixed(at + 2, 2, 0x0306),
            Register::kept(at + ADVANCED_CONTROL, 1, 0, 1, Some(Effect::AdvancedFeatures)),
            Register::shown(at + 5, 1),
        ]
    })
}

/// Where control is in the advanced features capability.
pub(super) const ADVANCED_CONTROL: u16 = 4;

/// Vital product data, to be read (PCI 3.0, I): the address is passed without the bit that starts
/// a write of the device's EEPROM.
pub(super) fn vital_product_data(found: Capability) -> Option<Vec<Register>> {
    let at = found.offset;
    (found.room >= 8).then(|| {
        vec![
            Register { write: 0x7fff, clear: 0x8000, ..Register::shown(at + 2, 2) },
            Register::shown(at + 4, 4),
        ]
    })
}
