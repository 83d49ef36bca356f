//! A device's own news, and a function's, as subscribers of event-manager.

use std::fmt;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vfio_bindings::bindings::vfio::{VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::pci::{Function, Report};
use crate::vfio::{Device, DeviceKind, VfioError};

/// What a device, or the host about it, has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum News {
    /// PCI Express reported an uncorrectable error (`VFIO_PCI_ERR_IRQ_INDEX`): the device may
    /// hang or lie until it is reset.
    Error,
    /// The host wants the device back (`VFIO_PCI_REQ_IRQ_INDEX`), for example to unbind or unplug
    /// it; said again every few seconds until the device is closed.
    Wanted,
}

/// What a [`Function`] has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionNews {
    /// What its device says, or the host about it. The function should leave the guest, or, after an
    /// error, be reset.
    Device(News),
    /// Something that is worth a line in a log.
    Report(Report),
}

/// Waits for a function's [`FunctionNews`], and passes them on.
#[derive(Debug)]
pub struct FunctionWatch<F> {
    function: Arc<Function>,
    tell: F,
}

impl<F: FnMut(FunctionNews)> FunctionWatch<F> {
    /// Calls `tell` on the event manager's thread for each of `function`'s news. Remove it from
    /// the event manager when the function is detached.
    pub fn new(function: Arc<Function>, tell: F) -> Self {
        Self { function, tell }
    }
}

impl<F: FnMut(FunctionNews)> MutEventSubscriber for FunctionWatch<F> {
    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        let (event, news) = match events.data() {
            0 => {
                for report in self.function.take_reports() {
                    (self.tell)(FunctionNews::Report(report));
                }
                return;
            }
            1 => (self.function.errors(), News::Error),
            _ => (self.function.requests(), News::Wanted),
        };
        // How often it was said does not matter.
        if event.read().is_ok() {
            (self.tell)(FunctionNews::Device(news));
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let Self { function, .. } = self;
        let sources = [function.reports_ready(), function.errors(), function.requests()];
        for (source, data) in sources.into_iter().zip(0..) {
            if let Err(error) = ops.add(Events::with_data(source, data, EventSet::IN)) {
                tracing::error!(?error, "nobody waits for a function's news");
            }
        }
    }
}

/// Waits for the [`News`] of a device without a [`Function`], and passes them on.
pub struct NewsOf<F> {
    device: Arc<dyn Device>,
    sources: Vec<(News, u32, EventFd)>,
    tell: F,
}

impl<F: FnMut(News)> NewsOf<F> {
    /// Calls `tell` on the event manager's thread for each of `device`'s news. A device that
    /// has no such interrupts never has any.
    ///
    /// # Errors
    /// The kernel refuses, or no eventfd is left.
    pub fn new(device: Arc<dyn Device>, tell: F) -> Result<Self, VfioError> {
        let mut news = Self { device, sources: Vec::new(), tell };
        let info = news.device.info();
        let both = [(News::Error, VFIO_PCI_ERR_IRQ_INDEX), (News::Wanted, VFIO_PCI_REQ_IRQ_INDEX)];
        for (kind, index) in both {
            let has = info.kind == DeviceKind::Pci
                && index < info.interrupts
                && news.device.interrupt(index)?.count > 0;
            if !has {
                continue;
            }
            let eventfd =
                EventFd::new(EFD_NONBLOCK).map_err(VfioError::refused("making an eventfd"))?;
            news.device.set_triggers(index, 0, &[Some(&eventfd)])?;
            news.sources.push((kind, index, eventfd));
        }
        Ok(news)
    }
}

impl<F> MutEventSubscriber for NewsOf<F>
where
    F: FnMut(News),
{
    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        let position = usize::try_from(events.data()).ok();
        let Some((news, _, eventfd)) = position.and_then(|at| self.sources.get(at)) else {
            return;
        };
        // How often it was said does not matter; nothing to read is a wake-up of somebody else's.
        if eventfd.read().is_ok() {
            (self.tell)(*news);
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        for ((news, _, eventfd), at) in self.sources.iter().zip(0..) {
            if let Err(error) = ops.add(Events::with_data(eventfd, at, EventSet::IN)) {
                tracing::error!(?news, ?error, device = ?self.device, "nobody waits for news");
            }
        }
    }
}

impl<F> Drop for NewsOf<F> {
    fn drop(&mut self) {
        for (_, index, _) in &self.sources {
            // A device that is gone has nothing to take away from.
            if let Err(error) = self.device.disable(*index) {
                tracing::debug!(%error, index, "a device keeps an eventfd");
            }
        }
    }
}

impl<F> fmt::Debug for NewsOf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewsOf").field("device", &self.device).finish_non_exhaustive()
    }
}
