//! What a VMM decides about a function before the guest sees it.

use std::ops::RangeInclusive;

use super::policy::Policy;
use super::reset::ResetScope;
use crate::vmm::{GuestRange, Space};

/// Guest addresses that BARs may have: what the guest's firmware tables say of the host bridge.
///
/// A guest that puts a BAR elsewhere does not have it anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Guest physical addresses, first and last of each window.
    pub memory: Vec<RangeInclusive<u64>>,
    /// I/O ports, first and last; `None` where the guest has no ports.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Windows {
    /// `range` lies in a window.
    #[must_use]
    pub fn contain(&self, range: GuestRange) -> bool {
        let Some(last) = range.base.checked_add(range.size.saturating_sub(1)) else { return false };
        let holds = |first: u64, end: u64| first <= range.base && last <= end;
        match range.space {
            Space::Mmio => self.memory.iter().any(|window| holds(*window.start(), *window.end())),
            Space::Pio => self
                .ports
                .as_ref()
                .is_some_and(|window| holds((*window.start()).into(), (*window.end()).into())),
        }
    }
}

/// Everything that [`Function::attach`](super::Function::attach) wants to know besides the device.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where BARs may be. Empty by default: nothing is placed anywhere.
    pub windows: Windows,
    /// Number of the interrupt line that INTx raises, as [`Interrupts::level`] takes it. `None`:
    /// the guest is told that the function has no INTx.
    ///
    /// [`Interrupts::level`]: crate::vmm::Interrupts::level
    pub line: Option<u32>,
    /// What the guest is shown.
    pub policy: Policy,
    /// What a reset of the bus may reset; nothing by default.
    pub reset: ResetScope,
}
