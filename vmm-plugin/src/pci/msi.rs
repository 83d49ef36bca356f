//! MSI (PCI 3.0, 6.8.1): up to 32 messages, all of one address.

use super::capability::Capability;
use super::index;
use super::passed::Passed;
use super::register::{Effect, Register, Registers};
use super::report::{Report, Reports};
use super::vector::Vector;
use crate::vfio::{Device, VfioError};
use crate::vmm::{Interrupts, Message};

const CONTROL_ENABLE: u32 = 1 << 0;
const CONTROL_ENABLED_COUNT: u32 = 0b111 << 4;
const CONTROL_64_BIT: u32 = 1 << 7;
const CONTROL_MASKABLE: u32 = 1 << 8;
/// 32 messages are the most that there can be.
const MOST: u32 = 5;

/// Where the capability is and what it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct MsiShape {
    offset: u16,
    /// Message control as the guest finds it after a reset.
    control: u32,
}

impl MsiShape {
    /// `None` when nothing can be offered: the kernel has no messages, or the capability does
    /// not fit where it is.
    pub fn read(
        device: &Passed,
        found: Capability,
        kernel: u32,
    ) -> Result<Option<Self>, VfioError> {
        let control = device.read(found.offset + 2, 2)?;
        let Some(kernel) = kernel.checked_ilog2() else { return Ok(None) };
        let count = (control >> 1 & 0b111).min(MOST).min(kernel);
        let control = control & (CONTROL_64_BIT | CONTROL_MASKABLE) | count << 1;
        let shape = Self { offset: found.offset, control };
        Ok((shape.length() <= found.room).then_some(shape))
    }

    fn has(&self, bit: u32) -> bool {
        self.control & bit != 0
    }

    fn data(&self) -> u16 {
        self.offset + if self.has(CONTROL_64_BIT) { 12 } else { 8 }
    }

    /// Where the mask bits are.
    fn mask(&self) -> Option<u16> {
        self.has(CONTROL_MASKABLE).then(|| self.data() + 4)
    }

    /// Where the pending bits are.
    pub fn pending(&self) -> Option<u16> {
        self.mask().map(|mask| mask + 4)
    }

    fn length(&self) -> u16 {
        self.data() + if self.has(CONTROL_MASKABLE) { 12 } else { 2 } - self.offset
    }

    /// Messages that the guest may enable.
    fn count(&self) -> u32 {
        1 << (self.control >> 1 & 0b111)
    }

    pub fn registers(&self) -> Vec<Register> {
        let effect = Some(Effect::Msi);
        let writable = CONTROL_ENABLE | CONTROL_ENABLED_COUNT;
        let mut registers = vec![
            Register::kept(self.offset + 2, 2, self.control, writable, effect),
            Register::kept(self.offset + 4, 4, 0, !0b11, effect),
            Register::kept(self.data(), 2, 0, 0xffff, effect),
        ];
        if self.has(CONTROL_64_BIT) {
            registers.push(Register::kept(self.offset + 8, 4, 0, u32::MAX, effect));
        }
        if let (Some(mask), Some(pending)) = (self.mask(), self.pending()) {
            let implemented = u32::MAX >> (32 - self.count());
            registers.push(Register::kept(mask, 4, 0, implemented, effect));
            registers.push(Register::fixed(pending, 4, 0));
        }
        registers
    }

    /// What the guest wrote.
    fn state(&self, registers: &Registers) -> State {
        let control = registers.value(self.offset + 2);
        let high = if self.has(CONTROL_64_BIT) { registers.value(self.offset + 8) } else { 0 };
        State {
            enabled: control & CONTROL_ENABLE != 0,
            count: 1 << (control >> 4 & 0b111).min(self.count().ilog2()),
            address: u64::from(high) << 32 | u64::from(registers.value(self.offset + 4)),
            data: registers.value(self.data()),
            masked: self.mask().map_or(0, |mask| registers.value(mask)),
        }
    }

    /// The guest wants MSI.
    pub fn enabled(&self, registers: &Registers) -> bool {
        self.state(registers).enabled
    }
}

struct State {
    enabled: bool,
    /// Messages that the guest asked for.
    count: u32,
    address: u64,
    data: u32,
    /// A bit for each masked message.
    masked: u32,
}

impl State {
    /// What message `n` is now; `None`: masked.
    fn message(&self, n: u32) -> Option<Message> {
        // The function changes as many low bits of the data as it takes to count (6.8.1.6).
        let data = self.data & !(self.count - 1) | n;
        (self.masked >> n & 1 == 0).then_some(Message { address: self.address, data })
    }
}

/// MSI while it is enabled.
#[derive(Debug)]
pub(super) struct Msi {
    shape: MsiShape,
    vectors: Vec<Vector>,
    /// What the guest asked for when it was enabled.
    count: u32,
    /// The device has the triggers.
    armed: bool,
}

impl Msi {
    /// Begins to deliver what the device sends.
    ///
    /// Every message gets a trigger at once: the kernel cannot add any later.
    pub fn enable(
        shape: MsiShape,
        registers: &Registers,
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        reports: &Reports,
    ) -> Self {
        let state = shape.state(registers);
        let mut msi = Self { shape, vectors: Vec::new(), count: state.count, armed: false };
        for n in 0..state.count {
            match Vector::new(interrupts, state.message(n)) {
                Ok(vector) => msi.vectors.push(vector),
                Err(error) => {
                    reports.push(Report::interrupt("MSI", n, &error));
                    break;
                }
            }
        }
        msi.armed = msi.arm(device, reports);
        msi
    }

    /// Takes the messages away from the device, then from the guest.
    pub fn disable(self, device: &dyn Device, reports: &Reports) {
        if self.armed
            && let Err(error) = device.disable(index::MSI)
        {
            reports.push(Report::interrupt("MSI", 0, &error));
        }
    }

    /// Gives the device its triggers. A kernel that has fewer messages free than the guest asked
    /// for gives the first: some devices use that one for everything then.
    fn arm(&self, device: &dyn Device, reports: &Reports) -> bool {
        let mut triggers: Vec<_> =
            self.vectors.iter().map(|vector| Some(vector.trigger())).collect();
        while !triggers.is_empty() {
            match device.set_triggers(index::MSI, 0, &triggers) {
                Ok(()) => return true,
                Err(error) => reports.push(Report::interrupt("MSI", 0, &error)),
            }
            let fewer = if triggers.len() > 1 { 1 } else { 0 };
            triggers.truncate(fewer);
        }
        false
    }

    /// Follows what the guest wrote. `false`: it wants another number of messages.
    pub fn update(&mut self, registers: &Registers, reports: &Reports) -> bool {
        let state = self.shape.state(registers);
        for (vector, n) in self.vectors.iter_mut().zip(0..) {
            if let Err(error) = vector.set(state.message(n)) {
                reports.push(Report::interrupt("MSI", n, &error));
            }
        }
        state.count == self.count
    }

    /// The pending bits.
    pub fn pending(&self) -> u32 {
        let bits = self.vectors.iter().zip(0..);
        bits.fold(0, |bits, (vector, n)| bits | u32::from(vector.pending()) << n)
    }
}
