//! Changes to the host other than binding a device: single files, owners of device files, and
//! whatever the caller knows to undo by a command.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::binding::DEADLINE;
use super::effects::Effects;
use super::journal::{Journal, JournalError, Record};
use super::recovery::Failure;
use super::sysfs::Sysfs;

/// A change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Not a file this program changes.
    #[error("{path} is outside {allowed}: it is not changed")]
    Outside {
        /// The file.
        path: PathBuf,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The kernel said no.
    #[error("Cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

const KERNEL_FILES: &str = "/sys and /proc/sys";
const DEVICE_FILES: &str = "/dev";

/// A journal's path is followed as root: it stays where this code writes.
fn confined(path: &Path, below: &[&str]) -> bool {
    below.iter().any(|root| path.starts_with(root))
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// Writes `value` to a file below `/sys` or `/proc/sys`, journaled. Nothing happens when it
/// holds that already.
///
/// # Errors
///
/// [`ChangeError`].
pub fn write_file(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    journal: &mut Journal,
    path: &Path,
    value: &str,
) -> Result<(), ChangeError> {
    if !confined(path, &["/sys", "/proc/sys"]) {
        return Err(ChangeError::Outside { path: path.to_owned(), allowed: KERNEL_FILES });
    }
    let io_error = |action| move |source| ChangeError::Io { action, path: path.to_owned(), source };
    let previous = fs::read_to_string(sysfs.path(path)).map_err(io_error("read"))?;
    let previous = previous.trim().to_owned();
    if previous == value.trim() {
        return Ok(());
    }
    let record =
        Record::FileWrite { path: path.to_owned(), value: value.trim().to_owned(), previous };
    journal.append(effects, record)?;
    effects.write(&sysfs.path(path), value, DEADLINE).map_err(io_error("write"))
}

/// Gives a device file below `/dev` (`/dev/vfio/GROUP`) to another user, journaled.
///
/// # Errors
///
/// [`ChangeError`].
pub fn change_owner(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    journal: &mut Journal,
    path: &Path,
    (uid, gid): (u32, u32),
) -> Result<(), ChangeError> {
    if !confined(path, &["/dev"]) {
        return Err(ChangeError::Outside { path: path.to_owned(), allowed: DEVICE_FILES });
    }
    let io_error = |action| move |source| ChangeError::Io { action, path: path.to_owned(), source };
    let before = fs::symlink_metadata(sysfs.path(path)).map_err(io_error("examine"))?;
    let record = Record::Owner {
        path: path.to_owned(),
        uid,
        gid,
        previous_uid: before.uid(),
        previous_gid: before.gid(),
    };
    journal.append(effects, record)?;
    effects.chown(&sysfs.path(path), uid, gid).map_err(io_error("change the owner of"))
}

/// Undoes a change of this module; what was done in words, or what is in the way.
pub(crate) fn undo(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    record: &Record,
) -> Result<String, Failure> {
    let retry = "Run `netvm recover` again, or reboot";
    let failure = |subject: String, why: String, action: &str| Failure {
        subject,
        why,
        action: action.to_owned(),
    };
    match record {
        Record::FileWrite { path, value, previous } => {
            let subject = path.display().to_string();
            if !confined(path, &["/sys", "/proc/sys"]) {
                let why = format!("outside {KERNEL_FILES}");
                return Err(failure(subject, why, "Remove the line by hand"));
            }
            match sysfs.text(path) {
                None => Ok(format!("{subject}: no longer there")),
                Some(now) if now == *previous => Ok(format!("{subject}: {previous}, as before")),
                Some(now) if now != *value => {
                    Ok(format!("{subject}: left at {now}, which somebody else wrote"))
                }
                Some(_) => match effects.write(&sysfs.path(path), previous, DEADLINE) {
                    Ok(()) => Ok(format!("{subject}: back to {previous}")),
                    Err(error) => Err(failure(subject, error.to_string(), retry)),
                },
            }
        }
        Record::Owner { path, uid, gid, previous_uid, previous_gid } => {
            let subject = path.display().to_string();
            if !confined(path, &["/dev"]) {
                let why = format!("outside {DEVICE_FILES}");
                return Err(failure(subject, why, "Remove the line by hand"));
            }
            let real = sysfs.path(path);
            match fs::symlink_metadata(&real) {
                Ok(now) if (now.uid(), now.gid()) == (*uid, *gid) => {
                    match effects.chown(&real, *previous_uid, *previous_gid) {
                        Ok(()) => Ok(format!("{subject}: back to user {previous_uid}")),
                        Err(error) => Err(failure(subject, error.to_string(), retry)),
                    }
                }
                // A group's file vanishes with its last device and comes back as root's.
                _ => Ok(format!("{subject}: no longer given away")),
            }
        }
        Record::Command { why, undo } => match effects.run(undo) {
            Ok(()) => Ok(why.clone()),
            Err(error) => Err(failure(why.clone(), error.to_string(), retry)),
        },
        other => Err(failure(format!("{other:?}"), "not a change".to_owned(), "Report this")),
    }
}
