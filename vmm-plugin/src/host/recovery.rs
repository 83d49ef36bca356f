//! Undoing a journal: at the end of an orderly run, and after a crash.

use std::path::Path;

use serde::Serialize;

use super::binding::{DeviceState, give_back};
use super::change;
use super::effects::Effects;
use super::journal::{Journal, JournalError, Record};
use super::sysfs::Sysfs;

/// What undoing a journal came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// What was undone, in order, in words.
    pub undone: Vec<String>,
    /// What is still in the way. When not empty the journal is kept.
    pub failed: Vec<Failure>,
}

/// A change that could not be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The device or file.
    pub subject: String,
    /// What is in the way.
    pub why: String,
    /// What to do about it.
    pub action: String,
}

impl Recovery {
    /// Whether the host is as it was.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Undoes what an earlier run left, if it left something. Harmless when repeated.
///
/// # Errors
///
/// [`JournalError`] when the journal is in use by a living process, not trusted or corrupt.
pub fn recover(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    journal: &Path,
) -> Result<Recovery, JournalError> {
    let Some(journal) = Journal::open(journal)? else {
        return Ok(Recovery::default());
    };
    if journal.of_another_boot(sysfs) {
        journal.retire(effects)?;
        return Ok(Recovery {
            undone: vec!["The journal is from before a reboot, which undid everything".to_owned()],
            failed: Vec::new(),
        });
    }
    undo_all(sysfs, effects, journal)
}

/// Consecutive device records are undone together: members of one group have to leave VFIO's
/// driver before any of them goes back to a host driver.
enum Unit {
    Devices(Vec<(usize, DeviceState)>),
    Other(usize, Record),
}

fn units(pending: Vec<(usize, Record)>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for (index, record) in pending.into_iter().rev() {
        match record {
            Record::Device { name, driver, driver_override, identity } => {
                let state = DeviceState { name, driver, driver_override, identity };
                match units.last_mut() {
                    Some(Unit::Devices(devices)) => devices.push((index, state)),
                    _ => units.push(Unit::Devices(vec![(index, state)])),
                }
            }
            other => units.push(Unit::Other(index, other)),
        }
    }
    units
}

/// Undoes every pending record, last first, and retires the journal when none is left.
pub(crate) fn undo_all(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    mut journal: Journal,
) -> Result<Recovery, JournalError> {
    let mut recovery = Recovery::default();
    for unit in units(journal.pending()) {
        let (indices, outcomes) = match unit {
            Unit::Devices(devices) => {
                let (indices, states): (Vec<_>, Vec<_>) = devices.into_iter().unzip();
                (indices, give_back(sysfs, effects, &states))
            }
            Unit::Other(index, record) => {
                (vec![index], vec![change::undo(sysfs, effects, &record)])
            }
        };
        for (index, outcome) in indices.into_iter().zip(outcomes) {
            match outcome {
                Ok(text) => {
                    journal.append(effects, Record::Undone { index })?;
                    recovery.undone.push(text);
                }
                Err(failure) => recovery.failed.push(failure),
            }
        }
    }
    if recovery.complete() {
        journal.retire(effects)?;
    }
    Ok(recovery)
}
