//! Every change to the host, behind one small trait.
//!
//! A test replaces it to let the program die after any single change, which is how the crash
//! points of binding, release and recovery are enumerated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};

/// What the host side does to the machine. Paths are real ones: the root is already in front.
pub trait Effects {
    /// Writes `value` to an existing file in one call, giving up after `deadline`.
    ///
    /// # Errors
    ///
    /// The kernel's error; [`io::ErrorKind::TimedOut`] when the write did not return in time
    /// (a driver's remove function hangs, or VFIO waits for a VMM to let go). It may then
    /// still take effect later.
    fn write(&mut self, path: &Path, value: &str, deadline: Duration) -> io::Result<()>;

    /// Writes `bytes` at `offset` of an existing file (a PCI function's `config`).
    ///
    /// # Errors
    ///
    /// The kernel's error.
    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Changes a file's owner and group, following no link.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    fn chown(&mut self, path: &Path, uid: u32, gid: u32) -> io::Result<()>;

    /// Runs a program to its end; no shell is involved.
    ///
    /// # Errors
    ///
    /// When it cannot be started, is killed, or ends with a code other than 0.
    fn run(&mut self, argv: &[String]) -> io::Result<()>;

    /// Appends `line` to the journal in one call and waits until it is on the disk.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    fn append(&mut self, journal: &mut File, line: &[u8]) -> io::Result<()>;

    /// Renames the journal and waits until its directory is on the disk.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    fn retire(&mut self, journal: &Path, to: &Path) -> io::Result<()>;

    /// Lets time pass between two looks at the same fact.
    fn pause(&mut self, time: Duration);
}

/// The machine this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveHost;

impl Effects for LiveHost {
    fn write(&mut self, path: &Path, value: &str, deadline: Duration) -> io::Result<()> {
        // A write to `unbind` can block in the kernel for as long as a driver likes. The
        // thread is given up on, not joined: nothing can interrupt it.
        let (done, result) = channel();
        let (path, value) = (path.to_owned(), value.to_owned());
        thread::Builder::new().name("sysfs-write".to_owned()).spawn(move || {
            let write = || {
                let mut file = OpenOptions::new().write(true).open(&path)?;
                file.write_all(value.as_bytes())
            };
            // The receiver is gone after a timeout; nobody is left to tell.
            let _ = done.send(write());
        })?;
        match result.recv_timeout(deadline) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the kernel did not answer within {} s", deadline.as_secs()),
            )),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the write was aborted")),
        }
    }

    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(bytes, offset)
    }

    fn chown(&mut self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn run(&mut self, argv: &[String]) -> io::Result<()> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(io::Error::other("no program named"));
        };
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{program}: {}: {}", output.status, said.trim())))
    }

    fn append(&mut self, journal: &mut File, line: &[u8]) -> io::Result<()> {
        journal.write_all(line)?;
        journal.sync_all()
    }

    fn retire(&mut self, journal: &Path, to: &Path) -> io::Result<()> {
        fs::rename(journal, to)?;
        sync_directory(journal)
    }

    fn pause(&mut self, time: Duration) {
        thread::sleep(time);
    }
}

/// Waits until the directory that holds `path` is on the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_that_blocks_times_out() {
        // Opening a FIFO for writing blocks until somebody reads it.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unbind");
        rustix::fs::mknodat(
            CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let error = LiveHost.write(&path, "0000:00:03.0", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn run_that_fails_reports_code_and_stderr() {
        let argv = ["sh", "-c", "echo broken >&2; exit 3"].map(str::to_owned);
        let error = LiveHost.run(&argv).unwrap_err().to_string();
        assert!(error.contains("exit status: 3: broken"), "{error}");
    }
}
