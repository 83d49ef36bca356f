//! One `netvm up` or `netvm recover` at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock; let go when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("Another netvm is running (pid {pid}); stop it with `netvm down`")]
    Held {
        /// The process that wrote its pid into the lock.
        pid: String,
    },
    /// The lock file cannot be used.
    #[error("Cannot lock {path}: are you root?")]
    Io {
        /// The lock file.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock at `path` and writes this process's pid into it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.display().to_string(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                (&file).take(16).read_to_string(&mut pid).map_err(failed)?;
                return Err(LockError::Held { pid: pid.trim().to_owned() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Whether somebody holds the lock at `path` now.
    pub fn is_held(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_while_held_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(Lock::is_held(&path));
        drop(held);
        assert!(!Lock::is_held(&path));
        Lock::take(&path).unwrap();
    }
}
