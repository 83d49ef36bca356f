//! MSI-X (PCI 3.0, 6.8.2): up to 2048 vectors, in a table and a pending bit array that are ours.
//!
//! The device's own table is the host kernel's, which lets nobody write it. A guest's entry says
//! where the vector's route in the VMM leads; a masked vector has none, and what comes meanwhile
//! stays in its eventfd. A vector that was never unmasked has no eventfd: it is masked in the
//! device, and pending there.

use super::capability::Capability;
use super::index;
use super::passed::Passed;
use super::register::{Effect, Register, Registers};
use super::report::{Report, Reports};
use super::vector::Vector;
use crate::vfio::{Area, Device, VfioError};
use crate::vmm::{Interrupts, Message};

const CONTROL_ENABLE: u32 = 1 << 15;
const CONTROL_MASK: u32 = 1 << 14;
const CONTROL_SIZE: u32 = 0x7ff;
/// Bytes of a table entry: address, data, vector control.
const ENTRY: u64 = 16;
/// Vector control: masked.
const MASKED: u32 = 1;

/// Where table and pending bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsixShape {
    offset: u16,
    /// Vectors, 1 to 2048.
    pub count: u16,
    pub table_bar: u8,
    pub table: Area,
    pub pending_bar: u8,
    pub pending: Area,
}

impl MsixShape {
    /// `None` when nothing can be offered: the kernel has no vectors, or the table or the pending
    /// bits do not lie within a BAR, or lie over each other.
    pub fn read(
        device: &Passed,
        found: Capability,
        kernel: u32,
        bars: &[u64],
    ) -> Result<Option<Self>, VfioError> {
        if found.room < 12 || kernel == 0 {
            return Ok(None);
        }
        let size = (device.read(found.offset + 2, 2)? & CONTROL_SIZE) + 1;
        let Ok(count) = u16::try_from(size.min(kernel)) else { return Ok(None) };
        // The low three bits of both name the BAR.
        let table = device.read(found.offset + 4, 4)?;
        let pending = device.read(found.offset + 8, 4)?;
        let area = |register: u32, size| Area { offset: u64::from(register & !0b111), size };
        let bar = |register: u32| u8::try_from(register & 0b111).unwrap_or(u8::MAX);
        let shape = Self {
            offset: found.offset,
            count,
            table_bar: bar(table),
            table: area(table, u64::from(count) * ENTRY),
            pending_bar: bar(pending),
            pending: area(pending, u64::from(count).div_ceil(64) * 8),
        };
        let within = |bar: u8, area: Area| {
            bars.get(usize::from(bar)).is_some_and(|size| area.offset + area.size <= *size)
        };
        let over = shape.table_bar == shape.pending_bar
            && shape.table.offset < shape.pending.offset + shape.pending.size
            && shape.pending.offset < shape.table.offset + shape.table.size;
        let fits = within(shape.table_bar, shape.table) && within(shape.pending_bar, shape.pending);
        Ok((fits && !over).then_some(shape))
    }

    pub fn registers(&self) -> Vec<Register> {
        let pointer = |bar: u8, area: Area| {
            // From a 32 bit register, so it fits.
            u32::try_from(area.offset).unwrap_or(0) | u32::from(bar)
        };
        vec![
            Register::kept(
                self.offset + 2,
                2,
                u32::from(self.count) - 1,
                CONTROL_ENABLE | CONTROL_MASK,
                Some(Effect::Msix),
            ),
            Register::fixed(self.offset + 4, 4, pointer(self.table_bar, self.table)),
            Register::fixed(self.offset + 8, 4, pointer(self.pending_bar, self.pending)),
        ]
    }

    /// The guest wants MSI-X.
    pub fn enabled(&self, registers: &Registers) -> bool {
        registers.value(self.offset + 2) & CONTROL_ENABLE != 0
    }

    fn masked(&self, registers: &Registers) -> bool {
        registers.value(self.offset + 2) & CONTROL_MASK != 0
    }

    /// What of BAR `bar` is trapped.
    pub fn trapped(&self, bar: u8) -> Vec<Area> {
        let areas = [(self.table_bar, self.table), (self.pending_bar, self.pending)];
        areas.into_iter().filter(|(of, _)| *of == bar).map(|(_, area)| area).collect()
    }
}

/// The vector table, and the vectors while MSI-X is enabled.
#[derive(Debug)]
pub(super) struct Msix {
    pub shape: MsixShape,
    /// The table's bytes, little-endian.
    table: Vec<u8>,
    /// By number; `None` until unmasked for the first time.
    vectors: Vec<Option<Vector>>,
    enabled: bool,
    /// The whole function is masked.
    masked: bool,
    /// Vectors that the kernel has given the device.
    given: u32,
    /// The kernel adds no vectors later.
    fixed: bool,
}

impl Msix {
    pub fn new(shape: MsixShape, fixed: bool) -> Self {
        let mut msix = Self {
            shape,
            table: Vec::new(),
            vectors: Vec::new(),
            enabled: false,
            masked: false,
            given: 0,
            fixed,
        };
        msix.clear();
        msix
    }

    /// The table as after a reset: every vector masked. MSI-X is not enabled meanwhile.
    pub fn clear(&mut self) {
        let entry = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
        self.table = entry.repeat(self.shape.count.into());
    }

    /// What vector `n` delivers now; `None`: masked.
    fn message(&self, n: u16) -> Option<Message> {
        let start = usize::from(n) * 16;
        let entry = self.table.get(start..start + 16)?;
        let word = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?));
        let address = u64::from(word(4)?) << 32 | u64::from(word(0)? & !0b11);
        let open = self.enabled && !self.masked && word(12)? & MASKED == 0;
        Some(Message { address, data: word(8)? }).filter(|_| open)
    }

    /// Begins to deliver what the device sends.
    ///
    /// The device's MSI-X is enabled now, not with the first unmasked vector: some devices lay
    /// out their registers by it (virtio 1.2, 4.1.4.8), or tell their firmware.
    pub fn enable(
        &mut self,
        registers: &Registers,
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        reports: &Reports,
    ) {
        let count = u32::from(self.shape.count);
        // All that there are when the kernel cannot add any; else none costs anything yet.
        let first = if self.fixed { count } else { 1 };
        self.given = self.give(device, first);
        if self.given == 0 {
            self.given = self.give(device, 1);
        }
        if self.given == 0 {
            let error = VfioError::OutOfBounds { what: "the first vector".into() };
            reports.push(Report::interrupt("MSI-X", 0, &error));
        }
        self.vectors.resize_with(self.shape.count.into(), || None);
        self.enabled = true;
        self.update(registers, device, interrupts, reports);
    }

    /// Asks for `count` vectors, from the first on, and sets the triggers that there are.
    /// Returns `count`, or 0 when they are not to be had.
    fn give(&self, device: &dyn Device, count: u32) -> u32 {
        let length = usize::try_from(count).unwrap_or(0);
        let mut triggers: Vec<_> =
            self.vectors.iter().map(|vector| vector.as_ref().map(Vector::trigger)).collect();
        triggers.resize(length, None);
        device.set_triggers(index::MSIX, 0, &triggers).map_or(0, |()| count)
    }

    /// Ends delivery; the table stays.
    pub fn disable(&mut self, device: &dyn Device, reports: &Reports) {
        if !self.enabled {
            return;
        }
        // The device first, so that nothing is signalled into the void.
        if self.given > 0
            && let Err(error) = device.disable(index::MSIX)
        {
            reports.push(Report::interrupt("MSI-X", 0, &error));
        }
        self.vectors.clear();
        self.enabled = false;
        self.given = 0;
    }

    /// Follows message control.
    pub fn update(
        &mut self,
        registers: &Registers,
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        reports: &Reports,
    ) {
        self.masked = self.shape.masked(registers);
        for n in 0..self.shape.count {
            self.follow(n, device, interrupts, reports);
        }
    }

    /// Follows the table's entry `n`.
    fn follow(
        &mut self,
        n: u16,
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        reports: &Reports,
    ) {
        let message = self.message(n);
        let Some(slot) = self.vectors.get_mut(usize::from(n)) else { return };
        match (slot.as_mut(), message) {
            (Some(vector), message) => {
                if let Err(error) = vector.set(message) {
                    reports.push(Report::interrupt("MSI-X", n.into(), &error));
                }
            }
            (None, Some(_)) => match Vector::new(interrupts, message) {
                Ok(vector) => {
                    *slot = Some(vector);
                    if let Err(error) = self.arm(n.into(), device) {
                        reports.push(Report::interrupt("MSI-X", n.into(), &error));
                        // The next unmasking tries again.
                        self.vectors[usize::from(n)] = None;
                    }
                }
                Err(error) => reports.push(Report::interrupt("MSI-X", n.into(), &error)),
            },
            (None, None) => {}
        }
    }

    /// Gives the device the trigger of vector `n`, which is new.
    fn arm(&mut self, n: u32, device: &dyn Device) -> Result<(), VfioError> {
        if self.fixed && n >= self.given {
            return self.grow(n, device);
        }
        let new = usize::try_from(n).ok().and_then(|n| self.vectors.get(n)?.as_ref());
        device.set_triggers(index::MSIX, n, &[new.map(Vector::trigger)])
    }

    /// More vectors than the kernel gave, which it does only from the start. What came in between
    /// is unknown, so every vector that was there is signalled once: drivers look what there is
    /// to do, but wait for ever for an interrupt that was lost.
    fn grow(&mut self, n: u32, device: &dyn Device) -> Result<(), VfioError> {
        if self.given > 0 {
            device.disable(index::MSIX)?;
        }
        let before = self.given;
        let count = u32::from(self.shape.count);
        self.given = 0;
        for wanted in [(n + 1).next_power_of_two().min(count), n + 1, before] {
            if self.given == 0 && wanted > 0 {
                self.given = self.give(device, wanted);
            }
        }
        for vector in self.vectors.iter().flatten() {
            vector.signal();
        }
        if n < self.given {
            return Ok(());
        }
        let what = format!("vector {n}: the kernel has {} for the device", self.given);
        Err(VfioError::OutOfBounds { what })
    }

    /// Reads the table; bytes beyond it are ones.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        read(&self.table, offset, data);
    }

    /// Writes the table, any bytes of it (6.8.2.9 asks for 4 or 8, aligned).
    pub fn write_table(
        &mut self,
        offset: u64,
        data: &[u8],
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        reports: &Reports,
    ) {
        let mut touched = None;
        for (byte, at) in data.iter().zip(offset..) {
            let Some(place) = usize::try_from(at).ok().and_then(|at| self.table.get_mut(at)) else {
                break;
            };
            // Vector control has one bit; the others are reserved and read as zeros.
            *place = match at % ENTRY {
                12 => byte & 1,
                13..16 => 0,
                _ => *byte,
            };
            let entry = u16::try_from(at / ENTRY).unwrap_or(u16::MAX);
            if touched.replace(entry).is_some_and(|before| before != entry) {
                self.follow(entry - 1, device, interrupts, reports);
            }
        }
        if let Some(entry) = touched {
            self.follow(entry, device, interrupts, reports);
        }
    }

    /// Reads the pending bits; bytes beyond them are ones.
    pub fn read_pending(&self, offset: u64, data: &mut [u8], device: &dyn Device) {
        let Ok(size) = usize::try_from(self.shape.pending.size) else { return };
        // The device knows about those that it has no trigger for.
        let mut bits = vec![0; size];
        let place = self.shape.pending.offset;
        if self.enabled && device.read(self.shape.pending_bar.into(), place, &mut bits).is_err() {
            bits.fill(0);
        }
        for n in 0..usize::from(self.shape.count).max(size * 8) {
            let pending = match self.vectors.get(n) {
                Some(Some(vector)) => vector.pending(),
                Some(None) => continue,
                None => false,
            };
            if let Some(byte) = bits.get_mut(n / 8) {
                let bit = 1 << (n % 8);
                *byte = *byte & !bit | if pending { bit } else { 0 };
            }
        }
        read(&bits, offset, data);
    }
}

fn read(bytes: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = from.checked_add(at).and_then(|at| bytes.get(at)).copied().unwrap_or(0xff);
    }
}
