//! The first 64 bytes of an endpoint (PCI 3.0, 6.1 and 6.2), register by register.

use super::passed::Passed;
use super::register::{Effect, Register};
use crate::vfio::VfioError;

pub(super) const COMMAND: u16 = 0x04;
pub(super) const STATUS: u16 = 0x06;
const HEADER_TYPE: u16 = 0x0e;
const INTERRUPT_PIN: u16 = 0x3d;

/// Bits of COMMAND (PCI 3.0, 6.2.2).
pub(super) mod command {
    /// I/O ports are decoded.
    pub const IO: u32 = 1 << 0;
    /// Memory is decoded.
    pub const MEMORY: u32 = 1 << 1;
    /// The function may start transactions: DMA and messages.
    pub const BUS_MASTER: u32 = 1 << 2;
    /// Parity error response and SERR#: what the guest may switch besides.
    pub const ERRORS: u32 = 1 << 6 | 1 << 8;
    /// INTx is not asserted.
    pub const INTX_DISABLE: u32 = 1 << 10;
    /// All that a guest may write.
    pub const WRITABLE: u32 = IO | MEMORY | BUS_MASTER | ERRORS | INTX_DISABLE;
}

/// STATUS: bits that a written 1 clears, and the capability list's.
const STATUS_CLEAR: u32 = 0xf900;
pub(super) const STATUS_CAPABILITIES: u32 = 1 << 4;

/// Where BAR `bar` is.
pub(super) const fn bar(bar: u8) -> u16 {
    // 6 of them: no overflow.
    0x10 + 4 * bar as u16
}

/// Everything of the header but the BARs; `pin` is shown when the function has INTx.
pub(super) fn registers(device: &Passed, pin: bool) -> Result<Vec<Register>, VfioError> {
    let cache_line_size = Register { write: 0xff, ..Register::shown(0x0c, 1) };
    let status = Register {
        emulated: STATUS_CAPABILITIES,
        write: STATUS_CLEAR,
        clear: STATUS_CLEAR,
        ..Register::shown(STATUS, 2)
    };
    // Multi-function or not is the VMM's to say, who knows what else is in the slot.
    let header_type = Register::fixed(HEADER_TYPE, 1, 0);
    Ok(vec![
        Register::shown(0x00, 4),
        Register::kept(COMMAND, 2, 0, command::WRITABLE, Some(Effect::Command)),
        status,
        // Revision and class.
        Register::shown(0x08, 4),
        cache_line_size,
        // Latency timer: about the bus, which is not the guest's.
        Register::kept(0x0d, 1, device.read(0x0d, 1)?, 0xff, None),
        header_type,
        // BIST: would stop the device for up to two seconds.
        Register::fixed(0x0f, 1, 0),
        // Subsystem.
        Register::shown(0x2c, 4),
        // Option ROM: code for the host's processor, written by nobody knows whom.
        Register::fixed(0x30, 4, 0),
        Register::fixed(super::capability::POINTER, 1, 0),
        // Interrupt line: a note that firmware leaves for the driver.
        Register::kept(0x3c, 1, 0xff, 0xff, None),
        Register::fixed(INTERRUPT_PIN, 1, pin.into()),
        Register::shown(0x3e, 2),
    ])
}

/// It is an endpoint, not a bridge.
pub(super) fn is_endpoint(device: &Passed) -> Result<bool, VfioError> {
    Ok(device.read(HEADER_TYPE, 1)? & 0x7f == 0)
}
