//! One message-signalled vector: an eventfd between the device and a route into the guest.

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::vmm::{Interrupts, Message, MessageRoute, SeamError};

/// Exists from the vector's first unmasking until its mode is left.
#[derive(Debug)]
pub(super) struct Vector {
    // The route goes first: nobody may listen to a closed eventfd.
    route: Box<dyn MessageRoute>,
    trigger: EventFd,
    /// What the route delivers now; `None`: masked.
    message: Option<Message>,
}

impl Vector {
    /// A vector that delivers `message` from the start, or is masked.
    pub fn new(interrupts: &dyn Interrupts, message: Option<Message>) -> Result<Self, SeamError> {
        let trigger = event()?;
        let route = interrupts.message(&trigger)?;
        let mut vector = Self { route, trigger, message: None };
        vector.set(message)?;
        Ok(vector)
    }

    /// Delivers `message` from now on, and what came while it was masked; `None` masks.
    pub fn set(&mut self, message: Option<Message>) -> Result<(), SeamError> {
        if self.message != message {
            self.route.set(message)?;
            self.message = message;
        }
        Ok(())
    }

    pub fn masked(&self) -> bool {
        self.message.is_none()
    }

    /// The device has signalled and nobody has listened: what the pending bit says.
    pub fn pending(&self) -> bool {
        // Nobody else reads while the vector is masked: what is put back was never missed.
        self.masked() && self.trigger.read().is_ok_and(|count| self.trigger.write(count).is_ok())
    }

    /// Signals once as the device would.
    pub fn signal(&self) {
        // Full means signalled, and there is no other error.
        let _ = self.trigger.write(1);
    }

    pub fn trigger(&self) -> &EventFd {
        &self.trigger
    }
}

/// An eventfd that never blocks.
pub(super) fn event() -> Result<EventFd, SeamError> {
    EventFd::new(EFD_NONBLOCK)
        .map_err(|error| SeamError::because("no eventfd can be had for an interrupt", error))
}
