//! The three things that a device asks of a VMM, together.

use std::sync::Arc;

use super::{Bus, Interrupts, Slots};

/// What a VMM gives to each device that it attaches.
#[derive(Clone, Debug)]
pub struct Seam {
    /// Where trapped accesses come from.
    pub bus: Arc<dyn Bus>,
    /// Maps registers into the guest.
    pub slots: Arc<dyn Slots>,
    /// Routes interrupts.
    pub interrupts: Arc<dyn Interrupts>,
}
