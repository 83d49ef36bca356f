//! One interrupt of a device with a line of its own: INTx, or a platform device's.
//!
//! When it is level-triggered, the kernel masks it each time it comes, and unmasks it when `resample` is signalled, which the
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
    /// `None`: edge-triggered.
    resample: Option<EventFd>,
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
    /// Routes interrupt 0 of `index`, which is level-triggered, to `line` of the VMM.
    pub fn level(
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        index: u32,
        line: u32,
    ) -> Result<Self, LineError> {
        let (trigger, resample) = (event()?, event()?);
        let route = interrupts.level(line, &trigger, &resample)?;
        device.set_triggers(index, 0, &[Some(&trigger)])?;
        // What the guest acknowledged in between is still in the eventfd, and counts.
        if let Err(error) = device.set_resample(index, 0, Some(&resample)) {
            // The device first; its refusal would say nothing new.
            let _ = device.disable(index);
            return Err(error.into());
        }
        Ok(Self { _route: route, index, _trigger: trigger, resample: Some(resample) })
    }

    /// Routes interrupt 0 of `index`, which is edge-triggered, to `line` of the VMM.
    pub fn edge(
        device: &dyn Device,
        interrupts: &dyn Interrupts,
        index: u32,
        line: u32,
    ) -> Result<Self, LineError> {
        let trigger = event()?;
        let route = interrupts.edge(line, &trigger)?;
        device.set_triggers(index, 0, &[Some(&trigger)])?;
        Ok(Self { _route: route, index, _trigger: trigger, resample: None })
    }

    /// Lets the device signal again if it still asserts.
    pub fn unmask(&self, device: &dyn Device) -> Result<(), VfioError> {
        match self.resample {
            Some(_) => device.set_mask(self.index, 0, false),
            None => Ok(()),
        }
    }

    /// Takes the interrupt away from the device, then ends the route.
    pub fn quiet(self, device: &dyn Device) -> Result<(), VfioError> {
        let resample = match self.resample {
            Some(_) => device.set_resample(self.index, 0, None),
            None => Ok(()),
        };
        device.disable(self.index).and(resample)
    }
}

fn event() -> Result<EventFd, SeamError> {
    EventFd::new(EFD_NONBLOCK)
        .map_err(|error| SeamError::because("no eventfd can be had for a line", error))
}
