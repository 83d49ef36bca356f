//! Numbers that VFIO gives to a PCI function's regions and interrupts (`VFIO_PCI_*_INDEX`).

/// Expansion ROM: region 6, right behind the BARs 0 to 5.
pub const ROM: u32 = 6;
/// Configuration space.
pub const CONFIG: u32 = 7;
/// INTx: one level-triggered interrupt.
pub const INTX: u32 = 0;
/// MSI: up to 32 messages.
pub const MSI: u32 = 1;
/// MSI-X: up to 2048 vectors.
pub const MSIX: u32 = 2;
/// An uncorrectable error was reported for the device (AER).
pub const ERROR: u32 = 3;
/// The host wants the device back.
pub const REQUEST: u32 = 4;

/// Base address registers of a function (PCI 3.0, 6.2.5.1).
pub const BARS: u8 = 6;
