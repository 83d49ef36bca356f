//! A function while it is attached: its state, and what changes it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::express::{ADVANCED_CONTROL, DEVICE_CONTROL, POWER_CONTROL, control};
use super::header::{self, command};
use super::interrupting::{Around, Interrupting};
use super::msix::MsixShape;
use super::options::Options;
use super::passed::Passed;
use super::place::PlacedBar;
use super::register::{Effect, Registers};
use super::report::{Report, Reports, chain};
use super::reset::{self, ResetError, ResetScope};
use super::trap::BarTrap;
use crate::vfio::VfioError;
use crate::vmm::{Seam, Space};

/// D3hot, and the field it is in (PCI Power Management 1.2, 3.2.4).
const D3: u32 = 0b11;

/// A function's parts, shared with the traps of its BARs.
#[derive(Debug)]
pub(super) struct Live {
    pub passed: Passed,
    pub seam: Seam,
    pub options: Options,
    pub reports: Reports,
    pub counters: Counting,
    /// The same as [`Interrupting::msix`] has, for traps to look at without the lock.
    pub msix: Option<MsixShape>,
    /// Gone or detached: nothing reaches the device any more.
    pub dead: AtomicBool,
    state: Mutex<State>,
}

/// Counts since the function was attached.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub bar_reads: AtomicU64,
    pub bar_writes: AtomicU64,
    pub config_reads: AtomicU64,
    pub config_writes: AtomicU64,
}

/// What the guest can change.
#[derive(Debug)]
pub(super) struct State {
    pub registers: Registers,
    /// Every register's value after a reset.
    pub initial: Vec<(u16, u32)>,
    pub bars: Vec<PlacedBar>,
    pub interrupting: Interrupting,
    /// Offsets of the capabilities with effects.
    pub power: Option<u16>,
    pub express: Option<u16>,
    pub advanced_features: Option<u16>,
    /// The device has function-level reset.
    pub function_level_reset: bool,
    /// In D3: only configuration space answers.
    pub asleep: bool,
    pub attached: bool,
}

impl Live {
    pub fn new(
        passed: Passed,
        seam: Seam,
        options: Options,
        reports: Reports,
        msix: Option<MsixShape>,
        state: State,
    ) -> Self {
        Self {
            passed,
            seam,
            options,
            reports,
            counters: Counting::default(),
            msix,
            dead: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Reports an error of the device's, or that it is gone.
    pub fn note(&self, result: Result<(), VfioError>) {
        if let Err(error) = result
            && !self.check_gone()
        {
            self.reports.push(Report::refused(&error));
        }
    }

    /// Looks whether the device is still there, and reports once when it is not.
    pub fn check_gone(&self) -> bool {
        if !self.passed.gone() {
            return false;
        }
        if !self.dead.swap(true, Ordering::AcqRel) {
            self.reports.push(Report::Gone);
        }
        true
    }

    /// Carries out what a write to configuration space means.
    pub fn effect(self: &Arc<Self>, state: &mut State, effect: Effect) {
        match effect {
            Effect::Command => {
                self.place(state);
                self.pass_command(state);
                // A driver that is being loaded may have missed what came before it.
                state.interrupting.unmask_line(self.passed.device().as_ref(), &self.reports);
            }
            Effect::Bar => self.place(state),
            Effect::Power => self.change_power(state),
            Effect::Msi | Effect::Msix => self.update_interrupts(state),
            Effect::Express => self.change_express(state),
            Effect::AdvancedFeatures => {
                let Some(at) = state.advanced_features else { return };
                if state.registers.value(at + ADVANCED_CONTROL) & 1 != 0 {
                    self.reset_by_guest(state);
                }
            }
        }
    }

    pub fn update_interrupts(&self, state: &mut State) {
        state.interrupting.update(Around {
            registers: &state.registers,
            device: self.passed.device().as_ref(),
            interrupts: self.seam.interrupts.as_ref(),
            reports: &self.reports,
        });
    }

    /// Puts BARs where the guest wants them, and nowhere when their decoding is off.
    pub fn place(self: &Arc<Self>, state: &mut State) {
        let decoding = state.registers.value(header::COMMAND);
        let mut wanted = Vec::new();
        for placed in &mut state.bars {
            let bar = placed.bar;
            let bit = if bar.space() == Space::Pio { command::IO } else { command::MEMORY };
            let on = state.attached && !state.asleep && decoding & bit != 0;
            let address = bar.address(&state.registers);
            let range = bar.range(address).filter(|range| self.options.windows.contain(*range));
            if on && range.is_none() {
                placed.report(address, "it is in no window for BARs".into(), &self.reports);
            }
            wanted.push(range.filter(|_| on));
        }
        // All that move leave first: they may change places.
        for (placed, wanted) in state.bars.iter_mut().zip(&wanted) {
            if placed.range() != *wanted {
                placed.remove(&self.seam, &self.reports);
            }
        }
        for (placed, wanted) in state.bars.iter_mut().zip(wanted) {
            let Some(range) = wanted.filter(|_| placed.range().is_none()) else { continue };
            let index = placed.bar.index;
            let trap = BarTrap { live: self.clone(), bar: index, size: placed.region_size() };
            placed.place(range, Arc::new(trap), &self.seam, &self.reports);
        }
    }

    /// COMMAND as the device has it. Its decoding is always on, so that no access of ours or the
    /// guest's finds it off; the guest's decoding bits say where BARs are placed.
    pub fn pass_command(&self, state: &State) {
        let mut value = state.registers.value(header::COMMAND) & command::WRITABLE;
        value &= !(command::IO | command::MEMORY);
        for placed in &state.bars {
            value |= match placed.bar.space() {
                Space::Pio => command::IO,
                Space::Mmio => command::MEMORY,
            };
        }
        self.note(self.passed.write(header::COMMAND, 2, value));
    }

    fn change_power(self: &Arc<Self>, state: &mut State) {
        let Some(at) = state.power.map(|power| power + POWER_CONTROL) else { return };
        let wanted = state.registers.value(at) & D3;
        let asleep = wanted == D3;
        if !asleep {
            // D1 and D2 are not offered, so they are not entered.
            state.registers.set(at, 0);
        }
        if asleep == state.asleep {
            return;
        }
        state.asleep = asleep;
        if asleep {
            // Nothing may reach memory that does not answer.
            self.place(state);
            self.note(self.passed.write(at, 2, D3));
        } else {
            self.note(self.passed.write(at, 2, 0));
            self.pass_command(state);
            self.place(state);
        }
    }

    fn change_express(self: &Arc<Self>, state: &mut State) {
        let Some(at) = state.express.map(|express| express + DEVICE_CONTROL) else { return };
        let value = state.registers.value(at);
        if value & control::RESET != 0 {
            state.registers.set(at, value & !control::RESET);
            if self.passed.device().info().resettable {
                self.reset_by_guest(state);
            }
            return;
        }
        let passed = self.passed.read(at, 2).and_then(|theirs| {
            let value = theirs & !(control::PASSED | control::RESET) | value & control::PASSED;
            self.passed.write(at, 2, value)
        });
        self.note(passed);
    }

    /// The guest's reset: of this function and no other.
    fn reset_by_guest(self: &Arc<Self>, state: &mut State) {
        if let Err(error) = self.reset(state, &ResetScope::default())
            && !self.check_gone()
        {
            self.reports.push(Report::Reset { why: chain(&error) });
        }
    }

    /// Resets the device, then everything that the guest wrote.
    pub fn reset(
        self: &Arc<Self>,
        state: &mut State,
        scope: &ResetScope,
    ) -> Result<(), ResetError> {
        let device = self.passed.device().as_ref();
        state.interrupting.stop(device, &self.reports);
        for placed in &mut state.bars {
            placed.remove(&self.seam, &self.reports);
        }
        let result = reset::reset(device, scope, state.function_level_reset);
        for (offset, value) in &state.initial {
            state.registers.set(*offset, *value);
        }
        if let Some(msix) = &mut state.interrupting.msix {
            msix.clear();
        }
        if state.asleep
            && let Some(power) = state.power
        {
            self.note(self.passed.write(power + POWER_CONTROL, 2, 0));
        }
        state.asleep = false;
        self.pass_command(state);
        self.update_interrupts(state);
        result
    }
}

/// What traps ask for.
impl Live {
    pub fn read_bar(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if self.is_dead() {
            return;
        }
        let result = self.passed.device().read(bar.into(), offset, data);
        if result.is_err() {
            data.fill(0xff);
        }
        let ones = data.len() > 1 && data.iter().all(|byte| *byte == 0xff);
        if result.is_ok() && ones {
            self.check_gone();
        }
        self.note(result);
    }

    pub fn write_bar(&self, bar: u8, offset: u64, data: &[u8]) {
        if !self.is_dead() {
            self.note(self.passed.device().write(bar.into(), offset, data));
        }
    }

    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        if let Some(msix) = &self.state().interrupting.msix {
            msix.read_table(offset, data);
        }
    }

    pub fn write_table(&self, offset: u64, data: &[u8]) {
        let device = self.passed.device().as_ref();
        let mut state = self.state();
        if !state.attached {
            return;
        }
        if let Some(msix) = &mut state.interrupting.msix {
            msix.write_table(offset, data, device, self.seam.interrupts.as_ref(), &self.reports);
        }
    }

    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        if let Some(msix) = &self.state().interrupting.msix {
            msix.read_pending(offset, data, self.passed.device().as_ref());
        }
    }
}
