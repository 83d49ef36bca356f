//! The journal: what was changed on the host, written down before it was changed.
//!
//! A file of JSON lines, appended to and fsynced before every change it announces, and renamed
//! away only when everything in it is undone. It outlives the process, not the boot: device
//! bindings do not survive a reboot either.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::address::DeviceName;
use super::config_space::Identity;
use super::effects::{Effects, sync_directory};
use super::preflight::Override;
use super::sysfs::Sysfs;

/// The format this code writes.
const VERSION: u32 = 1;
/// Longest journal read, in bytes: thousands of records.
const LIMIT: u64 = 4 << 20;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// The first line.
    Start {
        /// Format of the lines that follow.
        version: u32,
        /// `/proc/sys/kernel/random/boot_id`; another boot has nothing to undo.
        boot: Option<String>,
        /// The process that writes.
        pid: u32,
    },
    /// Nothing to undo: what a later reader should know.
    Note {
        /// Free text.
        text: String,
        /// Refusals the operator overrode.
        overrides: Vec<Override>,
    },
    /// A device is about to leave its host driver for VFIO's.
    Device {
        /// Which one.
        name: DeviceName,
        /// The driver it has to get back; `None` when it had none.
        driver: Option<String>,
        /// The `driver_override` it has to get back.
        driver_override: Option<String>,
        /// What it said it was; `None` when configuration space could not be read.
        identity: Option<Identity>,
    },
    /// A file below `/sys` or `/proc/sys` is about to be written.
    FileWrite {
        /// As the kernel shows it, without an injected root.
        path: PathBuf,
        /// What is written.
        value: String,
        /// What it held before.
        previous: String,
    },
    /// A device file below `/dev` is about to change its owner.
    Owner {
        /// As the kernel shows it, without an injected root.
        path: PathBuf,
        /// New user.
        uid: u32,
        /// New group.
        gid: u32,
        /// User before.
        previous_uid: u32,
        /// Group before.
        previous_gid: u32,
    },
    /// Something else is about to be changed by the caller, and this program undoes it.
    Command {
        /// What it is about, for reports.
        why: String,
        /// Program and arguments; must succeed when there is nothing (left) to undo.
        undo: Vec<String>,
    },
    /// The change announced by an earlier line is undone.
    Undone {
        /// Index of that line, the first being 0.
        index: usize,
    },
}

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is one already.
    #[error("{path} exists: an earlier run did not give everything back. Run `netvm recover`")]
    Exists {
        /// The journal.
        path: PathBuf,
    },
    /// A living process has it.
    #[error("{path} is in use by process {pid}: stop that one first (`netvm down`)")]
    InUse {
        /// The journal.
        path: PathBuf,
        /// Who started it; 0 when the first line is not there yet.
        pid: u32,
    },
    /// Somebody else could have written it.
    #[error(
        "{path} is not trusted: it must be a regular file that only this user (uid {uid}) can \
         write. Undo by hand what it lists, then remove it"
    )]
    NotTrusted {
        /// The journal.
        path: PathBuf,
        /// The user this program runs as.
        uid: u32,
    },
    /// A line other than the last cannot be understood; no crash explains that.
    #[error(
        "{path}, line {line}: {reason}. Undo by hand what the lines say, last first, then remove \
         the file"
    )]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why it is not a record.
        reason: String,
    },
    /// The file system said no.
    #[error("Cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The journal.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// An open journal. It is locked (`flock`) while this value lives.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
}

impl Journal {
    /// Starts a journal at `path`, whose directory exists and belongs to this user.
    ///
    /// # Errors
    ///
    /// [`JournalError::Exists`] when there is one: it has to be recovered first.
    pub fn create(
        sysfs: &Sysfs,
        effects: &mut dyn Effects,
        path: &Path,
    ) -> Result<Self, JournalError> {
        let io_error =
            |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(JournalError::Exists { path: path.to_owned() });
            }
            opened => opened.map_err(io_error("create"))?,
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| io_error("lock")(e.into()))?;
        sync_directory(path).map_err(io_error("sync the directory of"))?;
        let mut journal = Self { path: path.to_owned(), file, records: Vec::new() };
        journal.append(
            effects,
            Record::Start { version: VERSION, boot: boot(sysfs), pid: std::process::id() },
        )?;
        Ok(journal)
    }

    /// Opens what an earlier run left; `None` when there is nothing.
    ///
    /// A last line without its end was never acted on: it is cut off.
    ///
    /// # Errors
    ///
    /// [`JournalError::InUse`] while the writer lives, [`JournalError::NotTrusted`] and
    /// [`JournalError::Corrupt`] when its lines must not be followed.
    pub fn open(path: &Path) -> Result<Option<Self>, JournalError> {
        let path = path.to_owned();
        let io_error = |action| {
            let path = path.clone();
            move |source| JournalError::Io { action, path, source }
        };
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = match rustix::fs::open(&path, flags | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(io_error("open")(error.into())),
        };
        check_trust(&path, &file)?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let mut bytes = Vec::new();
        (&mut file).take(LIMIT).read_to_end(&mut bytes).map_err(io_error("read"))?;
        let (records, kept) = parse(&path, &bytes)?;
        match locked {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = match records.first() {
                    Some(Record::Start { pid, .. }) => *pid,
                    _ => 0,
                };
                return Err(JournalError::InUse { path, pid });
            }
            Err(error) => return Err(io_error("lock")(error.into())),
        }
        if kept < bytes.len() {
            tracing::warn!(path = %path.display(), "last line is torn: cut off");
            let kept = u64::try_from(kept).unwrap_or(u64::MAX);
            file.set_len(kept).map_err(io_error("cut"))?;
        }
        Ok(Some(Self { path, file, records }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every line so far.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Lines whose change is not yet undone, with their index, in the order written.
    #[must_use]
    pub fn pending(&self) -> Vec<(usize, Record)> {
        let undone: Vec<usize> = self
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Undone { index } => Some(*index),
                _ => None,
            })
            .collect();
        let change = |record: &Record| {
            !matches!(record, Record::Start { .. } | Record::Note { .. } | Record::Undone { .. })
        };
        self.records
            .iter()
            .enumerate()
            .filter(|(index, record)| change(record) && !undone.contains(index))
            .map(|(index, record)| (index, record.clone()))
            .collect()
    }

    /// Whether it was begun in an earlier boot, so that nothing it announces still stands.
    #[must_use]
    pub fn of_another_boot(&self, sysfs: &Sysfs) -> bool {
        match (self.records.first(), boot(sysfs)) {
            (Some(Record::Start { boot: Some(then), .. }), Some(now)) => *then != now,
            _ => false,
        }
    }

    /// Announces a change. Only when this returns may the change be made.
    ///
    /// # Errors
    ///
    /// [`JournalError::Io`]: the change must not be made.
    pub fn append(
        &mut self,
        effects: &mut dyn Effects,
        record: Record,
    ) -> Result<(), JournalError> {
        let written = serde_json::to_vec(&record).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            effects.append(&mut self.file, &line)
        });
        written.map_err(|source| JournalError::Io {
            action: "append to",
            path: self.path.clone(),
            source,
        })?;
        self.records.push(record);
        Ok(())
    }

    /// Renames the journal to the same name with `.last` behind it: all is undone.
    ///
    /// # Errors
    ///
    /// [`JournalError::Io`]; recovering once more is harmless.
    pub fn retire(self, effects: &mut dyn Effects) -> Result<(), JournalError> {
        let mut last = self.path.clone().into_os_string();
        last.push(".last");
        effects.retire(&self.path, Path::new(&last)).map_err(|source| JournalError::Io {
            action: "rename",
            path: self.path,
            source,
        })
    }
}

fn boot(sysfs: &Sysfs) -> Option<String> {
    sysfs.text("/proc/sys/kernel/random/boot_id")
}

/// Its lines are run as this user: nobody else may have written them.
fn check_trust(path: &Path, file: &File) -> Result<(), JournalError> {
    let uid = geteuid();
    let stat = fstat(file).map_err(|e| JournalError::Io {
        action: "examine",
        path: path.to_owned(),
        source: e.into(),
    })?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    if regular && stat.st_uid == uid.as_raw() && stat.st_mode & 0o022 == 0 {
        Ok(())
    } else {
        Err(JournalError::NotTrusted { path: path.to_owned(), uid: uid.as_raw() })
    }
}

/// The records, and how many bytes of the file they take.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<Record>, usize), JournalError> {
    let mut records = Vec::new();
    let mut kept = 0;
    for (number, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let corrupt = |reason: String| JournalError::Corrupt {
            path: path.to_owned(),
            line: number + 1,
            reason,
        };
        let torn = kept + line.len() == bytes.len();
        match (line.last(), serde_json::from_slice::<Record>(line)) {
            (Some(b'\n'), Ok(record)) => {
                let start = matches!(record, Record::Start { version: VERSION, .. });
                if start != (number == 0) {
                    return Err(corrupt(format!(
                        "the first line, and no other, says version {VERSION}"
                    )));
                }
                records.push(record);
                kept += line.len();
            }
            _ if torn => break,
            (_, Err(error)) => return Err(corrupt(error.to_string())),
            (_, Ok(_)) => return Err(corrupt("no end of line".to_owned())),
        }
    }
    Ok((records, kept))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "{\"record\":\"start\",\"version\":1,\"boot\":null,\"pid\":7}\n\
        {\"record\":\"command\",\"why\":\"x\",\"undo\":[\"true\"]}\n\
        {\"record\":\"undone\",\"index\":1}\n";

    #[test]
    fn parse_cut_anywhere_keeps_every_whole_line() {
        for length in 0..=LINES.len() {
            let cut = &LINES.as_bytes()[..length];
            let (records, kept) = parse(Path::new("journal"), cut).unwrap();
            let whole = cut.iter().filter(|b| **b == b'\n').count();
            assert_eq!(records.len(), whole);
            assert!(kept == 0 || cut[kept - 1] == b'\n');
        }
    }

    proptest! {
        #[test]
        fn parse_of_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(Path::new("journal"), &bytes);
        }

        #[test]
        fn parse_of_damaged_lines_keeps_whole_lines_only(at in 0..LINES.len(), byte: u8) {
            let mut bytes = LINES.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok((_, kept)) = parse(Path::new("journal"), &bytes) {
                prop_assert!(kept == 0 || bytes[kept - 1] == b'\n');
            }
        }
    }
}
