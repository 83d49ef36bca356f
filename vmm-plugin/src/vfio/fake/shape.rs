//! What a fake PCI function has.

use super::capability;
use crate::pci::BarKind;
use crate::vfio::Area;

/// A base address register and the memory behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeBar {
    /// What addresses it takes.
    pub kind: BarKind,
    /// The prefetchable bit.
    pub prefetchable: bool,
    /// Length in bytes.
    pub size: u64,
    /// What the kernel lets map.
    pub mappable: Vec<Area>,
}

impl FakeBar {
    /// Memory below 4 GiB, mappable if it has a page.
    #[must_use]
    pub fn memory(size: u64) -> Self {
        let whole = Area { offset: 0, size };
        let mappable = if size >= 0x1000 { vec![whole] } else { Vec::new() };
        Self { kind: BarKind::Memory32, prefetchable: false, size, mappable }
    }

    /// Prefetchable memory anywhere.
    #[must_use]
    pub fn memory_64(size: u64) -> Self {
        Self { kind: BarKind::Memory64, prefetchable: true, ..Self::memory(size) }
    }

    /// I/O ports.
    #[must_use]
    pub fn ports(size: u64) -> Self {
        Self { kind: BarKind::Io, prefetchable: false, size, mappable: Vec::new() }
    }

    pub(super) fn register(&self) -> u32 {
        let prefetchable = if self.prefetchable { 8 } else { 0 };
        match self.kind {
            BarKind::Io => 1,
            BarKind::Memory32 => prefetchable,
            BarKind::Memory64 => 4 | prefetchable,
        }
    }
}

/// A PCI function, to be varied with `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Vendor and device ID.
    pub id: (u16, u16),
    /// Class, subclass, programming interface.
    pub class: [u8; 3],
    /// BARs; the one behind a 64 bit one stays `None`.
    pub bars: [Option<FakeBar>; 6],
    /// Capabilities by ID, without their header, placed from 0x40 on in this order.
    pub capabilities: Vec<(u8, Vec<u8>)>,
    /// Extended capabilities, ID and bytes without their header, placed from 0x100 on.
    pub extended: Vec<(u16, Vec<u8>)>,
    /// It has INTx.
    pub intx: bool,
    /// The kernel can reset it alone.
    pub resettable: bool,
    /// The kernel can add MSI-X vectors while others are there (Linux 6.5 and later).
    pub msix_grows: bool,
    /// Interrupt vectors that the host has left.
    pub available_vectors: u32,
}

impl Shape {
    /// Something like an Intel 82574L: registers in BAR 0, ports in BAR 2, MSI-X in BAR 3.
    #[must_use]
    pub fn nic() -> Self {
        Self {
            id: (0x8086, 0x10d3),
            class: [2, 0, 0],
            bars: [
                Some(FakeBar::memory(0x2_0000)),
                None,
                Some(FakeBar::ports(0x20)),
                Some(FakeBar::memory(0x4000)),
                None,
                None,
            ],
            capabilities: vec![
                capability::power(),
                capability::msi(0, true),
                capability::express(),
                capability::msix(5, (3, 0), (3, 0x2000)),
            ],
            extended: vec![
                // Advanced error reporting.
                (0x0001, vec![0; 0x44]),
                // A serial number.
                (0x0003, vec![1, 2, 3, 4, 5, 6, 7, 8]),
            ],
            intx: true,
            resettable: true,
            msix_grows: false,
            available_vectors: 2048,
        }
    }
}
