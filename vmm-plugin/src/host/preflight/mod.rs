//! Whether giving a NIC away is safe on this host.
//!
//! One file for each family of checks. A check that cannot see the fact it needs answers as if
//! it were the unsafe one.

mod dma;
mod group;
mod in_use;
mod interrupts;
mod iommu;
mod limits;
mod path;
mod report;
mod reset;
mod shape;

pub use report::{Check, Finding, Override, Overrides, Report, Severity};

use super::environment::Environment;
use super::nic::Nic;
use super::sysfs::Sysfs;

/// Facts a check looks at.
#[derive(Clone, Copy)]
struct Facts<'a> {
    sysfs: &'a Sysfs,
    nics: &'a [Nic],
    environment: &'a Environment,
}

/// Makes every check on every NIC. Changes nothing.
///
/// Overrides turn the refusals they name into warnings that say so; the caller notes them in
/// the journal.
#[must_use]
pub fn run(
    sysfs: &Sysfs,
    nics: &[Nic],
    environment: &Environment,
    overrides: &Overrides,
) -> Report {
    let facts = Facts { sysfs, nics, environment };
    let mut report = Report::default();
    iommu::check(facts, &mut report);
    interrupts::check(facts, &mut report);
    group::check(facts, &mut report);
    in_use::check(facts, &mut report);
    shape::check(facts, &mut report);
    reset::check(facts, &mut report);
    path::check(facts, &mut report);
    dma::check(facts, &mut report);
    limits::check(facts, &mut report);
    report.findings.sort_by_key(|finding| finding.id);
    report.apply(overrides);
    report
}

/// Only whether the NICs' groups still hold nothing else: for a supervisor to repeat while a
/// guest has the devices, because a hot-plugged or re-bound sibling ends the isolation.
#[must_use]
pub fn isolation(sysfs: &Sysfs, nics: &[Nic]) -> Report {
    let mut report = Report::default();
    group::check_members(sysfs, nics, &mut report);
    report
}
