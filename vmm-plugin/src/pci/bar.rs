//! Base address registers (PCI 3.0, 6.2.5.1): what they are, and where the guest put them.

use super::header;
use super::index::BARS;
use super::passed::Passed;
use super::register::{Effect, Register, Registers};
use crate::vfio::{RegionInfo, VfioError};
use crate::vmm::{GuestRange, Space};

const IO: u32 = 1;
const TYPE_64: u32 = 0b10 << 1;
const TYPE_MASK: u32 = 0b11 << 1;
const PREFETCHABLE: u32 = 1 << 3;
/// Larger ones do not fit beside a guest's memory.
const LARGEST: u64 = 1 << 46;
const SMALLEST_MEMORY: u64 = 16;
const SMALLEST_IO: u64 = 4;

/// What kind of addresses a BAR takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports, 16 bits.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes the next BAR's register too.
    Memory64,
}

/// A BAR that the function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its number, 0 to 5.
    pub index: u8,
    /// What addresses it takes.
    pub kind: BarKind,
    /// Reads have no effects, writes may be merged.
    pub prefetchable: bool,
    /// Length in bytes: a power of two, and what its address is a multiple of.
    pub size: u64,
}

impl Bar {
    /// What the device has: its registers say the kind, the kernel's region the size. Those that
    /// cannot be are left out.
    pub(super) fn list(device: &Passed, regions: &[RegionInfo]) -> Result<Vec<Self>, VfioError> {
        let mut bars: Vec<Self> = Vec::new();
        for (index, region) in (0..BARS).zip(regions) {
            let upper = bars
                .last()
                .is_some_and(|bar| bar.kind == BarKind::Memory64 && bar.index + 1 == index);
            if region.size == 0 || region.size > LARGEST || upper {
                continue;
            }
            let register = device.read(header::bar(index), 4)?;
            let kind = match register {
                _ if register & IO != 0 => BarKind::Io,
                _ if register & TYPE_MASK == TYPE_64 => BarKind::Memory64,
                _ => BarKind::Memory32,
            };
            let (smallest, largest) = match kind {
                BarKind::Io => (SMALLEST_IO, 1 << 16),
                BarKind::Memory32 => (SMALLEST_MEMORY, 1 << 31),
                BarKind::Memory64 => (SMALLEST_MEMORY, LARGEST),
            };
            let size = region.size.next_power_of_two().max(smallest);
            let last = index + 1 == BARS && kind == BarKind::Memory64;
            if size <= largest && !last {
                let prefetchable = kind != BarKind::Io && register & PREFETCHABLE != 0;
                bars.push(Self { index, kind, prefetchable, size });
            }
        }
        Ok(bars)
    }

    fn offset(&self) -> u16 {
        header::bar(self.index)
    }

    /// The low bits, which say the kind.
    fn flags(&self) -> u32 {
        let prefetchable = if self.prefetchable { PREFETCHABLE } else { 0 };
        match self.kind {
            BarKind::Io => IO,
            BarKind::Memory32 => prefetchable,
            BarKind::Memory64 => TYPE_64 | prefetchable,
        }
    }

    /// Address bits that the guest may write: those that do not lie within the BAR.
    fn mask(&self) -> u64 {
        let width = match self.kind {
            BarKind::Io => 0xffff,
            BarKind::Memory32 => u32::MAX.into(),
            BarKind::Memory64 => u64::MAX,
        };
        !(self.size - 1) & width
    }

    /// The registers, in place of the empty ones that are there.
    pub(super) fn registers(&self) -> Vec<Register> {
        let [low, high] = halves(self.mask());
        let effect = Some(Effect::Bar);
        let mut registers = vec![Register::kept(self.offset(), 4, self.flags(), low, effect)];
        if self.kind == BarKind::Memory64 {
            registers.push(Register::kept(self.offset() + 4, 4, 0, high, effect));
        }
        registers
    }

    /// Where the guest has put it.
    pub(super) fn address(&self, registers: &Registers) -> u64 {
        let low = u64::from(registers.value(self.offset()));
        let high = match self.kind {
            BarKind::Memory64 => u64::from(registers.value(self.offset() + 4)) << 32,
            _ => 0,
        };
        (high | low) & self.mask()
    }

    /// Puts it at `address`; false when that is no address for it.
    pub(super) fn assign(&self, registers: &mut Registers, address: u64) -> bool {
        if address & !self.mask() != 0 {
            return false;
        }
        let [low, high] = halves(address);
        registers.set(self.offset(), low | self.flags());
        if self.kind == BarKind::Memory64 {
            registers.set(self.offset() + 4, high);
        }
        true
    }

    pub(super) fn space(&self) -> Space {
        if self.kind == BarKind::Io { Space::Pio } else { Space::Mmio }
    }

    /// Its range at `address`; `None` when it would wrap.
    pub(super) fn range(&self, address: u64) -> Option<GuestRange> {
        address.checked_add(self.size)?;
        Some(GuestRange { space: self.space(), base: address, size: self.size })
    }
}

fn halves(value: u64) -> [u32; 2] {
    let bytes = value.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
