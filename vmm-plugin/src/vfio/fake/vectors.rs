//! Message-signalled interrupts as VFIO has them.

use vmm_sys_util::eventfd::EventFd;

use super::invalid;
use crate::vfio::VfioError;

/// What became of a message that the device sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Its eventfd was signalled.
    Signalled,
    /// Masked in the device, which keeps it pending.
    Pending,
    /// The device had no interrupts of that kind: nobody will know.
    Lost,
}

/// MSI or MSI-X.
#[derive(Debug)]
pub(super) struct Vectors {
    /// Vectors that the device has.
    pub count: u32,
    /// Vectors can be added while others are there.
    pub grows: bool,
    /// Vectors that the host has left for it.
    pub available: u32,
    /// Masked ones stay pending in the device.
    pub keeps: bool,
    /// Those that it was given; none: disabled.
    given: Vec<Option<EventFd>>,
    pub pending: Vec<bool>,
}

impl Vectors {
    pub fn new(count: u32, grows: bool, available: u32, keeps: bool) -> Self {
        let pending = vec![false; usize::try_from(count).unwrap_or(0)];
        Self { count, grows, available, keeps, given: Vec::new(), pending }
    }

    pub fn enabled(&self) -> bool {
        !self.given.is_empty()
    }

    pub fn fds(&self) -> usize {
        self.given.iter().flatten().count()
    }

    /// Vectors that the kernel has for the device now.
    pub fn given(&self) -> usize {
        self.given.len()
    }

    pub fn set(&mut self, start: u32, triggers: Vec<Option<EventFd>>) -> Result<(), VfioError> {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let end = start.saturating_add(triggers.len());
        let limit = usize::try_from(self.count.min(self.available)).unwrap_or(0);
        if end > limit {
            return Err(invalid(format!("vector {end}: there are {limit}")));
        }
        if end > self.given.len() {
            if self.enabled() && !self.grows {
                return Err(invalid(format!("vector {end}: {} were set", self.given.len())));
            }
            self.given.resize_with(end, || None);
        }
        for (n, trigger) in (start..).zip(triggers) {
            if let (Some(trigger), Some(true)) = (&trigger, self.pending.get(n)) {
                let _ = trigger.write(1);
                self.pending[n] = false;
            }
            self.given[n] = trigger;
        }
        Ok(())
    }

    pub fn fire(&mut self, n: u32) -> Fired {
        let Ok(n) = usize::try_from(n) else { return Fired::Lost };
        if let Some(Some(trigger)) = self.given.get(n) {
            let _ = trigger.write(1);
            return Fired::Signalled;
        }
        match self.pending.get_mut(n) {
            Some(pending) if self.keeps && !self.given.is_empty() => {
                *pending = true;
                Fired::Pending
            }
            _ => Fired::Lost,
        }
    }

    /// Takes all away; what was pending is gone.
    pub fn clear(&mut self) {
        self.given.clear();
        self.pending.fill(false);
    }
}
