//! Registers of configuration space as data: which bits are ours, which the guest may write.

use super::passed::Passed;
use crate::vfio::VfioError;

/// What else happens when a guest has written a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// COMMAND: decoding, bus mastering, INTx.
    Command,
    /// A base address register.
    Bar,
    /// The power state.
    Power,
    /// Anything of the MSI capability.
    Msi,
    /// MSI-X message control.
    Msix,
    /// PCIe device control.
    Express,
    /// Advanced features control.
    AdvancedFeatures,
}

/// 1, 2 or 4 bytes of configuration space.
///
/// A bit reads as ours where `emulated` has it, else as the device's. A bit that the guest
/// writes is dropped unless `write` has it; then it is kept (ours) or passed to the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Register {
    pub offset: u16,
    /// Bytes: 1, 2 or 4.
    pub width: u8,
    /// Bits that never come from the device.
    pub emulated: u32,
    /// Their value.
    pub value: u32,
    /// Bits that the guest may write.
    pub write: u32,
    /// Bits of the device's that must not be written back as they were read: those that a 1
    /// clears or starts something with.
    pub clear: u32,
    pub effect: Option<Effect>,
}

impl Register {
    /// All bits ours, none writable.
    pub fn fixed(offset: u16, width: u8, value: u32) -> Self {
        let emulated = ones(width);
        Self { offset, width, emulated, value, write: 0, clear: 0, effect: None }
    }

    /// All bits the device's, none writable.
    pub fn shown(offset: u16, width: u8) -> Self {
        Self { emulated: 0, ..Self::fixed(offset, width, 0) }
    }

    /// All bits ours, `write` of them writable, with an effect.
    pub fn kept(offset: u16, width: u8, value: u32, write: u32, effect: Option<Effect>) -> Self {
        Self { write, effect, ..Self::fixed(offset, width, value) }
    }

    fn end(&self) -> u16 {
        self.offset + u16::from(self.width)
    }

    /// Reads what a guest sees.
    fn read(&self, device: &Passed) -> Result<u32, VfioError> {
        let all = ones(self.width);
        let theirs =
            if self.emulated & all == all { 0 } else { device.read(self.offset, self.width)? };
        Ok((self.value & self.emulated | theirs & !self.emulated) & all)
    }

    /// Takes the bits of `value` that `touched` has.
    fn write(&mut self, device: &Passed, value: u32, touched: u32) -> Result<(), VfioError> {
        let kept = touched & self.write & self.emulated;
        self.value = self.value & !kept | value & kept;
        let passed = touched & self.write & !self.emulated;
        if passed == 0 {
            return Ok(());
        }
        let keep = ones(self.width) & !self.clear & !passed;
        // Nothing to keep, nothing to read: a read may have effects too.
        let theirs = if keep == 0 { 0 } else { device.read(self.offset, self.width)? };
        device.write(self.offset, self.width, theirs & keep | value & passed)
    }
}

/// As many low bits as `width` bytes have.
fn ones(width: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(width.clamp(1, 4)))
}

/// All registers of a configuration space. Bytes between them read as zeros and are not written;
/// bytes beyond the end read as ones.
#[derive(Debug)]
pub(super) struct Registers {
    /// In order of offset, not overlapping.
    list: Vec<Register>,
    /// Bytes of the space: 256 to 4096.
    size: u16,
}

impl Registers {
    pub fn new(size: u16) -> Self {
        Self { list: Vec::new(), size }
    }

    /// Adds `registers`, all or, when one of them is out of bounds or overlaps another, none.
    pub fn add(&mut self, registers: &[Register]) -> bool {
        let before = self.list.clone();
        for register in registers {
            let position = self.list.partition_point(|other| other.offset < register.offset);
            let after = self.list.get(position).is_none_or(|next| register.end() <= next.offset);
            let behind = position.checked_sub(1).and_then(|at| self.list.get(at));
            let free = after && behind.is_none_or(|other| other.end() <= register.offset);
            if !free || register.end() > self.size {
                self.list = before;
                return false;
            }
            self.list.insert(position, *register);
        }
        true
    }

    /// Our bits of the register that starts at `offset`; 0 when there is none.
    pub fn value(&self, offset: u16) -> u32 {
        self.position(offset).and_then(|at| self.list.get(at)).map_or(0, |found| found.value)
    }

    /// Changes our bits of the register that starts at `offset`.
    pub fn set(&mut self, offset: u16, value: u32) {
        if let Some(register) = self.position(offset).and_then(|at| self.list.get_mut(at)) {
            register.value = value;
        }
    }

    fn position(&self, offset: u16) -> Option<usize> {
        self.list.binary_search_by_key(&offset, |register| register.offset).ok()
    }

    /// Every register with its value, to put back with [`Registers::set`].
    pub fn values(&self) -> Vec<(u16, u32)> {
        self.list.iter().map(|register| (register.offset, register.value)).collect()
    }

    /// Registers that `length` bytes from `offset` touch.
    fn touched(&self, offset: u64, length: usize) -> std::ops::Range<usize> {
        let end = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let first = self.list.partition_point(|register| u64::from(register.end()) <= offset);
        let last = self.list.partition_point(|register| u64::from(register.offset) < end);
        first..last.max(first)
    }

    /// Reads any bytes. On an error all of `data` is ones.
    pub fn read(&self, device: &Passed, offset: u64, data: &mut [u8]) -> Result<(), VfioError> {
        let inside = usize::try_from(u64::from(self.size).saturating_sub(offset));
        let inside = inside.unwrap_or(usize::MAX).min(data.len());
        let (within, beyond) = data.split_at_mut(inside);
        within.fill(0);
        beyond.fill(0xff);
        for register in self.list.get(self.touched(offset, inside)).unwrap_or_default() {
            let value = match register.read(device) {
                Ok(value) => value,
                Err(error) => {
                    data.fill(0xff);
                    return Err(error);
                }
            };
            for (byte, at) in value.to_le_bytes().into_iter().zip(0..register.width) {
                if let Some(target) = target(register, at, offset, data.len()) {
                    data[target] = byte;
                }
            }
        }
        Ok(())
    }

    /// Writes any bytes; says which effects that has, in order, each once.
    ///
    /// An error of one register keeps no other from being written.
    pub fn write(
        &mut self,
        device: &Passed,
        offset: u64,
        data: &[u8],
    ) -> (Vec<Effect>, Result<(), VfioError>) {
        let mut effects = Vec::new();
        let mut result = Ok(());
        let touched = self.touched(offset, data.len());
        for register in self.list.get_mut(touched).unwrap_or_default() {
            let mut value = [0; 4];
            let mut mask = [0; 4];
            for at in 0..register.width {
                if let Some(source) = target(register, at, offset, data.len()) {
                    value[usize::from(at)] = data[source];
                    mask[usize::from(at)] = 0xff;
                }
            }
            let mask = u32::from_le_bytes(mask);
            let written = register.write(device, u32::from_le_bytes(value), mask);
            result = result.and(written);
            if let Some(effect) = register.effect
                && register.write & mask != 0
                && !effects.contains(&effect)
            {
                effects.push(effect);
            }
        }
        (effects, result)
    }
}

/// Where byte `at` of `register` is in `length` bytes from `offset`.
fn target(register: &Register, at: u8, offset: u64, length: usize) -> Option<usize> {
    let position = u64::from(register.offset) + u64::from(at);
    let index = usize::try_from(position.checked_sub(offset)?).ok()?;
    (index < length).then_some(index)
}
