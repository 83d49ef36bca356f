//! Which of its three kinds of interrupt a function uses, and the change between them.
//!
//! A function has one kind at a time, and so has VFIO: the old one ends before the new begins.

use super::index;
use super::msi::{Msi, MsiShape};
use super::msix::Msix;
use super::register::Registers;
use super::report::{Report, Reports};
use crate::line::Line;
use crate::vfio::Device;
use crate::vmm::Interrupts;

/// Everything that a function's interrupts touch.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub registers: &'a Registers,
    pub device: &'a dyn Device,
    pub interrupts: &'a dyn Interrupts,
    pub reports: &'a Reports,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    None,
    Line,
    Msi,
    Msix,
}

/// A function's interrupts.
#[derive(Debug)]
pub(super) struct Interrupting {
    kind: Kind,
    /// The VMM's number of INTx's line; `None` when the function has no INTx.
    number: Option<u32>,
    line: Option<Line>,
    msi_shape: Option<MsiShape>,
    msi: Option<Msi>,
    pub msix: Option<Msix>,
}

impl Interrupting {
    pub fn new(number: Option<u32>, msi: Option<MsiShape>, msix: Option<Msix>) -> Self {
        Self { kind: Kind::None, number, line: None, msi_shape: msi, msi: None, msix }
    }

    /// Follows what the guest wrote: the kind it wants, and what that kind delivers.
    pub fn update(&mut self, around: Around<'_>) {
        let registers = around.registers;
        // MSI-X and MSI both on is undefined (6.8.2); here MSI-X wins.
        let wanted = if self.msix.as_ref().is_some_and(|msix| msix.shape.enabled(registers)) {
            Kind::Msix
        } else if self.msi_shape.is_some_and(|shape| shape.enabled(registers)) {
            Kind::Msi
        } else if self.number.is_some() {
            Kind::Line
        } else {
            Kind::None
        };
        if wanted != self.kind {
            self.stop(around.device, around.reports);
            self.start(wanted, around);
            return;
        }
        if let Some(msix) = self.msix.as_mut().filter(|_| wanted == Kind::Msix) {
            msix.update(registers, around.device, around.interrupts, around.reports);
        }
        if self.msi.as_mut().is_some_and(|msi| !msi.update(registers, around.reports)) {
            self.stop(around.device, around.reports);
            self.start(wanted, around);
        }
    }

    fn start(&mut self, kind: Kind, around: Around<'_>) {
        let Around { registers, device, interrupts, reports } = around;
        self.kind = kind;
        match kind {
            Kind::None => {}
            Kind::Line => {
                let Some(number) = self.number else { return };
                match Line::level(device, interrupts, index::INTX, number) {
                    Ok(line) => self.line = Some(line),
                    Err(error) => reports.push(Report::interrupt("INTx", 0, &error)),
                }
            }
            Kind::Msi => {
                let Some(shape) = self.msi_shape else { return };
                self.msi = Some(Msi::enable(shape, registers, device, interrupts, reports));
            }
            Kind::Msix => {
                let Some(msix) = self.msix.as_mut() else { return };
                msix.enable(registers, device, interrupts, reports);
            }
        }
    }

    /// Takes all interrupts away from the device, then from the guest.
    pub fn stop(&mut self, device: &dyn Device, reports: &Reports) {
        if let Some(line) = self.line.take()
            && let Err(error) = line.quiet(device)
        {
            reports.push(Report::interrupt("INTx", 0, &error));
        }
        if let Some(msi) = self.msi.take() {
            msi.disable(device, reports);
        }
        if let Some(msix) = self.msix.as_mut() {
            msix.disable(device, reports);
        }
        self.kind = Kind::None;
    }

    /// Lets a level-triggered interrupt that nobody heard come again.
    pub fn unmask_line(&self, device: &dyn Device, reports: &Reports) {
        if let Some(line) = &self.line
            && let Err(error) = line.unmask(device)
        {
            reports.push(Report::interrupt("INTx", 0, &error));
        }
    }

    /// Puts MSI's pending bits where the guest reads them.
    pub fn show_pending(&self, registers: &mut Registers) {
        if let (Some(shape), Some(msi)) = (self.msi_shape, &self.msi)
            && let Some(place) = shape.pending()
        {
            registers.set(place, msi.pending());
        }
    }
}
