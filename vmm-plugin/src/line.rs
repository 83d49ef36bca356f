//! One level-triggered interrupt of a device: INTx, or a platform device's.
//!
//! The kernel masks it each time it comes, and unmasks it when `resample` is signalled, which the
//! VMM does when the guest has acknowledged. An interrupt that comes before the guest can hear is
//! therefore the last one, unless the VMM keeps the line raised or somebody unmasks. So the route
//! is there before the device gets a trigger, and [`Line::unmask`] can be called at any time: if
//! the device still asserts, it signals again; if not, nothing happens.

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::vfio::{Device, VfioError};
use crate::vmm::{Interrupts, LineRoute, SeamError};

/// A routed line; its route ends when dropped, the device's triggers before that with
/// [`Line::quiet`].
#[derive(Debug)]
pub(crate) struct Line {
    _route: Box<dyn LineRoute>,
    index: u32,
    _trigger: EventFd,
    _resample: EventFd,
}

/// Why a line could not be routed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error(transparent)]
    Seam(#[from] SeamError),
    #[error(transparent)]
    Vfio(#[from] VfioError),
}

impl Line {
    /// Routes interrupt 0 of `index` to `line` of the VMM.
    pub fn route(
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        index: u32,
        line: u32,
    ) -> Result<Self, LineError> {
        let event = || {
            EventFd::new(EFD_NONBLOCK)
                .map_err(|error| SeamError::because("no eventfd can be had for a line", error))
        };
        let (trigger, resample) = (event()?, event()?);
        let route = interrupts.level(line, &trigger, &resample)?;
        device.set_triggers(index, 0, &[Some(&trigger)])?;
        // What the guest acknowledged in between is still in the eventfd, and counts.
        if let Err(error) = device.set_resample(index, 0, Some(&resample)) {
            // The device first; its refusal would say nothing new.
            let _ = device.disable(index);
            return Err(error.into());
        }
        Ok(Self { _route: route, index, _trigger: trigger, _resample: resample })
    }

    /// Lets the device signal again if it still asserts.
    pub fn unmask(&self, device: &dyn Device) -> Result<(), VfioError> {
        device.set_mask(self.index, 0, false)
    }

    /// Takes the interrupt away from the device, then ends the route.
    pub fn quiet(self, device: &dyn Device) -> Result<(), VfioError> {
        let resample = device.set_resample(self.index, 0, None);
        device.disable(self.index).and(resample)
    }
}
