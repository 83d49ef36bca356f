//! A level-triggered interrupt as VFIO has it.

use vmm_sys_util::eventfd::EventFd;

/// Masks itself each time it comes, until somebody unmasks it.
#[derive(Debug, Default)]
pub(super) struct Line {
    trigger: Option<EventFd>,
    resample: Option<EventFd>,
    /// The device asserts.
    pub asserted: bool,
    pub masked: bool,
    /// COMMAND says that the line is not driven.
    pub disabled: bool,
}

impl Line {
    pub fn set_trigger(&mut self, trigger: Option<EventFd>) {
        self.trigger = trigger;
        self.evaluate();
    }

    pub fn set_resample(&mut self, resample: Option<EventFd>) {
        self.resample = resample;
        self.settle();
    }

    /// Eventfds that it has.
    pub fn fds(&self) -> usize {
        usize::from(self.trigger.is_some()) + usize::from(self.resample.is_some())
    }

    pub fn has_trigger(&self) -> bool {
        self.trigger.is_some()
    }

    pub fn set_masked(&mut self, masked: bool) {
        self.masked = masked;
        self.evaluate();
    }

    pub fn set_disabled(&mut self, disabled: bool) {
        self.disabled = disabled;
        self.evaluate();
    }

    pub fn assert(&mut self, asserted: bool) {
        self.asserted = asserted;
        self.evaluate();
    }

    /// Unmasks if the VMM has signalled that the guest acknowledged.
    pub fn settle(&mut self) {
        if self.resample.as_ref().is_some_and(|resample| resample.read().is_ok()) {
            self.set_masked(false);
        }
    }

    fn evaluate(&mut self) {
        if self.asserted
            && !self.masked
            && !self.disabled
            && let Some(trigger) = &self.trigger
        {
            self.masked = true;
            let _ = trigger.write(1);
        }
    }

    /// Takes everything away, as disabling does; the mask goes too.
    pub fn clear(&mut self) {
        let Self { asserted, disabled, .. } = *self;
        *self = Self { asserted, disabled, ..Self::default() };
    }
}
