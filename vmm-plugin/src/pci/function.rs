//! A PCI function in a guest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::bar::Bar;
use super::header::{self, command};
use super::index::{self, BARS};
use super::interrupting::Interrupting;
use super::layout::{Facts, Layout};
use super::live::{Live, State};
use super::msix::Msix;
use super::options::Options;
use super::passed::Passed;
use super::place::PlacedBar;
use super::report::{Report, Reports};
use super::reset::ResetError;
use crate::vfio::{Device, DeviceKind, InterruptInfo, RegionInfo, VfioError};
use crate::vmm::{GuestRange, Seam};

/// A function of the host's that a guest has.
///
/// Every method can be called from any thread. Dropping it is [`Function::detach`].
#[derive(Debug)]
pub struct Function {
    live: Arc<Live>,
    errors: EventFd,
    requests: EventFd,
    /// Interrupt indexes other than the guest's that have a trigger.
    noticed: Vec<u32>,
}

/// Why a function was not attached. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A device of a device tree.
    #[error("this is no PCI device")]
    NotPci,
    /// A bridge, or a header that is not known.
    #[error("this is no endpoint: only functions with a type 0 header are passed through")]
    NotEndpoint,
    /// Its vendor ID reads as ones.
    #[error("the device is gone: its configuration space reads as ones")]
    Gone,
    /// VFIO refused.
    #[error(transparent)]
    Vfio(#[from] VfioError),
    /// No eventfd.
    #[error("no eventfd can be had: {0}; raise the limit of open files")]
    Event(std::io::Error),
}

/// How often the guest left to this function, since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads of BARs that were trapped.
    pub bar_reads: u64,
    /// Writes to BARs that were trapped.
    pub bar_writes: u64,
    /// Reads of configuration space.
    pub config_reads: u64,
    /// Writes to configuration space.
    pub config_writes: u64,
}

impl Function {
    /// Puts `device` behind `seam`. The guest finds it with decoding and bus mastering off.
    ///
    /// # Errors
    /// The device is no endpoint, gone, or VFIO refuses to describe it.
    pub fn attach(
        device: Arc<dyn Device>,
        seam: Seam,
        options: Options,
    ) -> Result<Self, AttachError> {
        let info = device.info();
        if info.kind != DeviceKind::Pci || info.regions <= index::CONFIG {
            return Err(AttachError::NotPci);
        }
        let reports = Reports::new().map_err(AttachError::Event)?;
        let event = || EventFd::new(EFD_NONBLOCK).map_err(AttachError::Event);
        let (errors, requests) = (event()?, event()?);
        let passed = Passed::new(device.clone())?;
        if passed.gone() {
            return Err(AttachError::Gone);
        }
        if !header::is_endpoint(&passed)? {
            return Err(AttachError::NotEndpoint);
        }
        let regions = (0..BARS)
            .map(|bar| device.region(bar.into()))
            .collect::<Result<Vec<RegionInfo>, _>>()?;
        let mut bars = Bar::list(&passed, &regions)?;
        if options.windows.ports.is_none() {
            bars.retain(|bar| bar.space() == crate::vmm::Space::Mmio);
        }
        // Kinds of interrupt that the kernel does not know do not exist.
        let interrupt = |index| {
            let known = (index < info.interrupts).then(|| device.interrupt(index).ok());
            known.flatten().unwrap_or_default()
        };
        let usable = |info: InterruptInfo| if info.eventfd { info.count } else { 0 };
        let msix = interrupt(index::MSIX);
        let line = options.line.filter(|_| usable(interrupt(index::INTX)) > 0);
        let mut sizes = [0; BARS as usize];
        for bar in &bars {
            let at = usize::from(bar.index);
            sizes[at] = regions[at].size;
        }
        let layout = Layout::of(
            &passed,
            Facts {
                policy: options.policy,
                resettable: info.resettable,
                line: line.is_some(),
                msi: usable(interrupt(index::MSI)),
                msix: usable(msix),
                bars: &bars,
                sizes: &sizes,
            },
        )?;
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let shape = layout.msix;
        let bars = bars.into_iter().map(|bar| {
            let trapped = shape.map_or_else(Vec::new, |shape| shape.trapped(bar.index));
            let region = &regions[usize::from(bar.index)];
            PlacedBar::new(bar, region, &trapped, page, device.as_ref(), &reports)
        });
        let state = State {
            bars: bars.collect(),
            interrupting: Interrupting::new(
                line,
                layout.msi,
                shape.map(|shape| Msix::new(shape, msix.no_resize)),
            ),
            power: layout.power,
            express: layout.express,
            advanced_features: layout.advanced_features,
            function_level_reset: layout.function_level_reset,
            initial: layout.registers.values(),
            registers: layout.registers,
            asleep: false,
            attached: true,
        };
        let live = Arc::new(Live::new(passed, seam, options, reports, shape, state));
        let mut function = Self { live, errors, requests, noticed: Vec::new() };
        function.notice(index::ERROR, usable(interrupt(index::ERROR)));
        function.notice(index::REQUEST, usable(interrupt(index::REQUEST)));
        let mut state = function.live.state();
        function.live.pass_command(&state);
        function.live.update_interrupts(&mut state);
        drop(state);
        Ok(function)
    }

    /// Asks to be told about interrupt `index`, if there is such a thing.
    fn notice(&mut self, index: u32, count: u32) {
        if count == 0 {
            return;
        }
        let event = if index == index::ERROR { &self.errors } else { &self.requests };
        match self.live.passed.device().set_triggers(index, 0, &[Some(event)]) {
            Ok(()) => self.noticed.push(index),
            Err(error) => self.live.reports.push(Report::refused(&error)),
        }
    }

    /// The BARs that it has, in order; each power of two is also the alignment of its address.
    #[must_use]
    pub fn bars(&self) -> Vec<Bar> {
        self.live.state().bars.iter().map(|placed| placed.bar).collect()
    }

    /// Gives BAR `bar` the address that it has after every reset, as firmware would. It is placed
    /// there once the guest switches decoding on, and moves if the guest says so.
    ///
    /// Returns false when there is no such BAR, or the address is not a multiple of its size or
    /// too large for it.
    pub fn assign_bar(&self, bar: u8, address: u64) -> bool {
        let mut state = self.live.state();
        let found = state.bars.iter().map(|placed| placed.bar).find(|found| found.index == bar);
        let Some(found) = found else { return false };
        if !found.assign(&mut state.registers, address) {
            return false;
        }
        let now = state.registers.values();
        let first = header::bar(0);
        let bars = first..header::bar(BARS);
        for (initial, now) in state.initial.iter_mut().zip(now) {
            if bars.contains(&now.0) {
                *initial = now;
            }
        }
        self.live.place(&mut state);
        true
    }

    /// Where BAR `bar` is now; `None` when it is nowhere.
    #[must_use]
    pub fn placed(&self, bar: u8) -> Option<GuestRange> {
        let state = self.live.state();
        state.bars.iter().find(|placed| placed.bar.index == bar)?.range()
    }

    /// Reads configuration space at `offset`: any number of bytes, aligned or not.
    ///
    /// Bytes beyond its end (256 or 4096) are ones, and so is everything of a device that is
    /// gone or detached.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        let live = &self.live;
        live.counters.config_reads.fetch_add(1, Ordering::Relaxed);
        if live.is_dead() {
            data.fill(0xff);
            return;
        }
        let mut state = live.state();
        let State { registers, interrupting, .. } = &mut *state;
        interrupting.show_pending(registers);
        let result = registers.read(&live.passed, offset, data);
        let inside = offset < live.passed.size().into();
        if result.is_ok() && inside && data.iter().all(|byte| *byte == 0xff) {
            live.check_gone();
        }
        live.note(result);
    }

    /// Writes configuration space at `offset`: any number of bytes, aligned or not.
    ///
    /// Bits that the guest may not write, and bytes beyond the end, are dropped.
    pub fn config_write(&self, offset: u64, data: &[u8]) {
        let live = &self.live;
        live.counters.config_writes.fetch_add(1, Ordering::Relaxed);
        if live.is_dead() {
            return;
        }
        let mut state = live.state();
        // Asked again under the lock: the function may have been detached meanwhile.
        if live.is_dead() {
            return;
        }
        let (effects, result) = state.registers.write(&live.passed, offset, data);
        live.note(result);
        for effect in effects {
            live.effect(&mut state, effect);
        }
    }

    /// Resets the device and all that the guest has set, for a new user of the device or a reboot
    /// of the guest: by function-level reset if the device has that, else with its bus if
    /// [`Options::reset`] covers everything on it, else by whatever the kernel has for it alone.
    /// Other functions of a bus that was reset have to be reset too.
    ///
    /// # Errors
    /// It cannot be reset; the guest's settings are back at their start all the same.
    pub fn reset(&self) -> Result<(), ResetError> {
        let live = &self.live;
        let mut state = live.state();
        if !state.attached {
            return Ok(());
        }
        live.reset(&mut state, &live.options.reset)
    }

    /// Lets a level-triggered interrupt that nobody heard come again; harmless at any time. For a
    /// VMM that restores or replaces its interrupt controller.
    pub fn unmask_line(&self) {
        let state = self.live.state();
        state.interrupting.unmask_line(self.live.passed.device().as_ref(), &self.live.reports);
    }

    /// What there is to tell, and what was told before no longer.
    #[must_use]
    pub fn take_reports(&self) -> Vec<Report> {
        self.live.reports.take()
    }

    /// Signalled when [`Function::take_reports`] has something.
    #[must_use]
    pub fn reports_ready(&self) -> &EventFd {
        self.live.reports.ready()
    }

    /// Signalled when the host has seen an uncorrectable error of the device (AER): reset or
    /// detach it.
    #[must_use]
    pub fn errors(&self) -> &EventFd {
        &self.errors
    }

    /// Signalled when the host wants the device back: detach it.
    #[must_use]
    pub fn requests(&self) -> &EventFd {
        &self.requests
    }

    /// How often the guest left.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counters = &self.live.counters;
        Counters {
            bar_reads: counters.bar_reads.load(Ordering::Relaxed),
            bar_writes: counters.bar_writes.load(Ordering::Relaxed),
            config_reads: counters.config_reads.load(Ordering::Relaxed),
            config_writes: counters.config_writes.load(Ordering::Relaxed),
        }
    }

    /// Takes the function from the guest: DMA first, then interrupts and BARs. It reads as ones
    /// from then on. What could not be undone is in [`Function::take_reports`].
    pub fn detach(&self) {
        let live = &self.live;
        let mut state = live.state();
        if !state.attached {
            return;
        }
        state.attached = false;
        let device = live.passed.device().as_ref();
        // A device that is gone is not written any more; all else is to be given back.
        let gone = live.is_dead();
        state.registers.set(header::COMMAND, command::INTX_DISABLE);
        if !gone {
            live.pass_command(&state);
        }
        live.dead.store(true, Ordering::Release);
        state.interrupting.stop(device, &live.reports);
        for placed in &mut state.bars {
            placed.remove(&live.seam, &live.reports);
        }
        // Not before: an access of the guest's to a BAR that is there and does not decode is an
        // error that ends a virtual processor, not one that reads ones.
        if !gone {
            live.note(live.passed.write(header::COMMAND, 2, command::INTX_DISABLE));
        }
        state.bars.iter_mut().for_each(PlacedBar::forget);
        for index in &self.noticed {
            if let Err(error) = device.disable(*index) {
                live.reports.push(Report::refused(&error));
            }
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.detach();
    }
}
