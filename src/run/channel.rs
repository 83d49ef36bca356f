//! What comes out of netvm: its kernel log and its state, through FIFOs, from somebody hostile.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, mknodat};

use super::lines::Lines;
use super::process::Identity;

/// How much of netvm's kernel log is kept, twice: the current part and the one before.
const LOG_BYTES: u64 = 512 * 1024;

/// The reading end of a FIFO that a VMM writes to.
#[derive(Debug)]
pub struct Channel {
    fifo: File,
    lines: Lines,
}

impl Channel {
    /// Makes a FIFO at `path` that `writer` may write to, and opens it. It is opened for writing as well,
    /// so that a VMM never blocks in open(2) and its end is not ours.
    pub fn create(path: &Path, writer: Option<Identity>, line_limit: usize) -> io::Result<Self> {
        mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        if let Some(Identity { uid, gid }) = writer {
            chown(path, Some(uid), Some(gid))?;
        }
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        Ok(Self { fifo, lines: Lines::new(line_limit) })
    }

    /// Hands each line that has arrived to `each`.
    pub fn read(&mut self, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.lines.read(&self.fifo, each).map(|_| ())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

/// A log of bounded size: when full it becomes `PATH.1` and a new one begins.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    written: u64,
}

impl BoundedLog {
    /// Begins a log at `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::create(path)?, written: 0 })
    }

    /// Adds a line; a newline is added to it.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        if self.written > LOG_BYTES {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = File::create(&self.path)?;
            self.written = 0;
        }
        self.written += u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        writeln!(self.file, "{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_survives_writers_that_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut channel = Channel::create(&path, None, 64).unwrap();
        let mut seen = Vec::new();
        for word in ["one", "two"] {
            std::fs::write(&path, format!("{word}\n")).unwrap();
            channel.read(|line| seen.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        }
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn bounded_log_keeps_two_parts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut log = BoundedLog::create(&path).unwrap();
        for _ in 0..40_000 {
            log.line(&"x".repeat(99)).unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) + size(&path.with_extension("log.1")) < 3 * LOG_BYTES);
    }
}
