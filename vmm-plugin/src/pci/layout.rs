//! A guest's view of a function's configuration space, built from what the device has.

use super::bar::Bar;
use super::capability::{self, Capability, EXTENDED, id};
use super::express;
use super::header;
use super::msi::MsiShape;
use super::msix::MsixShape;
use super::passed::Passed;
use super::policy::Policy;
use super::register::{Register, Registers};
use crate::vfio::VfioError;

/// What the rest of the device bounds: only interrupts that the kernel has are offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub policy: Policy,
    /// The device can be reset, so function-level reset is offered.
    pub resettable: bool,
    /// The function has INTx, and the VMM a line for it.
    pub line: bool,
    /// Messages of MSI that the kernel has.
    pub msi: u32,
    /// Vectors of MSI-X that the kernel has.
    pub msix: u32,
    pub bars: &'a [Bar],
    /// Length in bytes of each BAR's region, 0 when the device has none.
    pub sizes: &'a [u64],
}

/// The registers, and where in them the capabilities with effects are.
#[derive(Debug)]
pub(super) struct Layout {
    pub registers: Registers,
    pub power: Option<u16>,
    pub express: Option<u16>,
    pub advanced_features: Option<u16>,
    /// The device's own: what the guest is shown may come to a reset of another kind.
    pub function_level_reset: bool,
    pub msi: Option<MsiShape>,
    pub msix: Option<MsixShape>,
}

impl Layout {
    pub fn of(device: &Passed, facts: Facts<'_>) -> Result<Self, VfioError> {
        let mut layout = Self {
            registers: Registers::new(device.size()),
            power: None,
            express: None,
            advanced_features: None,
            function_level_reset: false,
            msi: None,
            msix: None,
        };
        layout.registers.add(&header::registers(device, facts.line)?);
        for bar in facts.bars {
            layout.registers.add(&bar.registers());
        }
        let mut shown = Vec::new();
        for found in capability::list(device)? {
            layout.function_level_reset |= express::function_level_reset(device, found)?;
            if layout.add_capability(device, found, facts)? {
                shown.push(found);
            }
        }
        layout.link(&shown, capability::POINTER);
        if !shown.is_empty() {
            layout.registers.set(header::STATUS, header::STATUS_CAPABILITIES);
        }
        // Only PCIe has more than 256 bytes.
        if layout.express.is_some() {
            layout.add_extended(device)?;
        }
        Ok(layout)
    }

    /// Adds the registers of `found` when the allow-list has it; says whether it did.
    fn add_capability(
        &mut self,
        device: &Passed,
        found: Capability,
        facts: Facts<'_>,
    ) -> Result<bool, VfioError> {
        let Ok(id) = u8::try_from(found.id) else { return Ok(false) };
        // Each once, as the specifications have it, but for the vendor's.
        match id {
            id::POWER_MANAGEMENT if self.power.is_none() => {
                let added = self.add(found, express::power(found));
                self.power = added.then_some(found.offset);
                Ok(added)
            }
            id::EXPRESS if self.express.is_none() => {
                let resettable = facts.resettable;
                let registers = express::express(device, found, facts.policy, resettable)?;
                let added = self.add(found, registers);
                self.express = added.then_some(found.offset);
                Ok(added)
            }
            id::ADVANCED_FEATURES if self.advanced_features.is_none() => {
                let registers = express::advanced_features(found, facts.resettable);
                let added = self.add(found, registers);
                self.advanced_features = added.then_some(found.offset);
                Ok(added)
            }
            id::MSI if self.msi.is_none() => {
                let shape = MsiShape::read(device, found, facts.msi)?;
                let added = self.add(found, shape.map(|shape| shape.registers()));
                self.msi = shape.filter(|_| added);
                Ok(added)
            }
            id::MSIX if self.msix.is_none() => {
                let shape = MsixShape::read(device, found, facts.msix, facts.sizes)?;
                let added = self.add(found, shape.map(|shape| shape.registers()));
                self.msix = shape.filter(|_| added);
                Ok(added)
            }
            id::VITAL_PRODUCT_DATA if facts.policy.vital_product_data => {
                Ok(self.add(found, express::vital_product_data(found)))
            }
            id::VENDOR => {
                let length = device.read(found.offset + 2, 1)?;
                let length = u16::try_from(length).unwrap_or(0).min(found.room);
                let passed = facts.policy.vendor_writes;
                Ok(self.add(found, (length >= 4).then(|| raw(found.offset, 2, length, passed))))
            }
            _ => Ok(false),
        }
    }

    /// Adds a capability's header, which [`Layout::link`] completes, and `registers`.
    fn add(&mut self, found: Capability, registers: Option<Vec<Register>>) -> bool {
        let Some(mut registers) = registers else { return false };
        registers.push(Register::fixed(found.offset, 2, found.id.into()));
        self.registers.add(&registers)
    }

    /// Chains `shown`, in the device's order and at the device's offsets: drivers know those.
    fn link(&mut self, shown: &[Capability], pointer: u16) {
        let mut next = 0;
        for found in shown.iter().rev() {
            self.registers.set(found.offset, u32::from(found.id) | u32::from(next) << 8);
            next = found.offset;
        }
        self.registers.set(pointer, next.into());
    }

    fn add_extended(&mut self, device: &Passed) -> Result<(), VfioError> {
        let mut shown = Vec::new();
        for found in capability::extended_list(device)? {
            let length = match found.id {
                id::SERIAL_NUMBER => 12,
                // Length in bits 20 to 31 of the second double word (PCIe 5.0, 7.9.5.2).
                id::EXTENDED_VENDOR if found.room >= 8 => {
                    u16::try_from(device.read(found.offset + 4, 4)? >> 20).unwrap_or(0)
                }
                _ => continue,
            };
            let length = length.min(found.room);
            if length < 8 {
                continue;
            }
            let version = device.read(found.offset, 4)? & 0x000f_0000;
            let header = Register::fixed(found.offset, 4, u32::from(found.id) | version);
            let mut registers = raw(found.offset, 4, length, false);
            registers.push(header);
            if self.registers.add(&registers) {
                shown.push(found);
            }
        }
        // The list starts at 0x100, with an empty capability when the device's first is hidden.
        if shown.first().is_some_and(|first| first.offset != EXTENDED)
            && self.registers.add(&[Register::fixed(EXTENDED, 4, 0)])
        {
            shown.insert(0, Capability { id: 0, offset: EXTENDED, room: 4 });
        }
        let mut next = 0;
        for found in shown.iter().rev() {
            let header = self.registers.value(found.offset) & 0x000f_ffff;
            self.registers.set(found.offset, header | u32::from(next) << 20);
            next = found.offset;
        }
        Ok(())
    }
}

/// The device's own bytes from `from` to `length` of the capability at `offset`, as wide as they
/// are aligned.
fn raw(offset: u16, from: u16, length: u16, passed: bool) -> Vec<Register> {
    let mut registers = Vec::new();
    let (mut at, end) = (offset + from, offset + length);
    while at < end {
        let width = match (at % 4, end - at) {
            (0, 4..) => 4,
            (0 | 2, 2..) => 2,
            _ => 1,
        };
        let write = if passed { u32::MAX } else { 0 };
        registers.push(Register { write, ..Register::shown(at, width) });
        at += u16::from(width);
    }
    registers
}
