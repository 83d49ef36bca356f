//! The processes that `netvm up` runs: started, watched through a pidfd, their words relayed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::lines::{Lines, printable};
use super::sys::die_with_parent;

/// How many of its last lines are kept to explain why a process ended.
const TAIL_LINES: usize = 20;

/// User and group that a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    /// What it is called in messages, such as `link browser`.
    pub name: String,
    child: Child,
    pidfd: OwnedFd,
    stderr: Option<ChildStderr>,
    lines: Lines,
    tail: VecDeque<String>,
}

impl Process {
    /// Starts `argv` with `fds` as file descriptors 3, 4, ... and nothing else inherited but stderr.
    pub fn start(
        name: impl Into<String>,
        argv: &[OsString],
        identity: Option<Identity>,
        fds: Vec<OwnedFd>,
    ) -> io::Result<Self> {
        let (program, arguments) =
            argv.split_first().ok_or_else(|| io::Error::other("Empty command line"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A terminal's ctrl-C is for `netvm up`, which then ends the others in order.
        command.process_group(0);
        if let Some(Identity { uid, gid }) = identity {
            command.uid(uid).gid(gid);
        }
        die_with_parent(&mut command);
        let mappings =
            (3..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
        let mut child = command.spawn()?;
        let stderr = child.stderr.take();
        if let Some(stderr) = &stderr {
            fcntl_setfl(stderr, fcntl_getfl(stderr)? | OFlags::NONBLOCK)?;
        }
        let pidfd = pidfd_open(pid(&child)?, PidfdFlags::empty())?;
        Ok(Self {
            name: name.into(),
            child,
            pidfd,
            stderr,
            lines: Lines::new(1024),
            tail: VecDeque::new(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when the process has said something, until its end.
    pub fn stderr(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().map(|stderr| stderr.as_fd())
    }

    /// Relays what the process has said to our stderr; `false` at the end of it.
    pub fn relay(&mut self) -> bool {
        let Some(stderr) = &mut self.stderr else { return false };
        let (name, tail) = (&self.name, &mut self.tail);
        let open = self.lines.read(stderr, |line| {
            let line = printable(line);
            eprintln!("{name}: {line}");
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        });
        matches!(open, Ok(true))
    }

    /// Its last lines.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it: SIGTERM, and SIGKILL after `patience`. Returns when it is gone.
    pub fn end(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(pid(&self.child)?, Signal::TERM)?;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => self.child.kill()?,
                _ => {}
            }
            self.relay();
            return self.child.wait();
        }
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("Not a process id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn start_missing_binary_says_not_found() {
        let error = Process::start("x", &argv(&["/nonexistent/vmm"]), None, vec![]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn end_of_a_process_that_ignores_sigterm_kills_it() {
        let script = "trap '' TERM; echo ready >&2; while :; do sleep 1; done";
        let mut process = Process::start("x", &argv(&["sh", "-c", script]), None, vec![]).unwrap();
        while process.tail().next().is_none() {
            std::thread::sleep(Duration::from_millis(10));
            process.relay();
        }
        let status = process.end(Duration::from_millis(50)).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn start_passes_fds_from_three_up() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut process =
            Process::start("x", &argv(&["sh", "-c", "echo hello >&3"]), None, vec![theirs.into()])
                .unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut { ours }, &mut said).unwrap();
        assert_eq!(said, "hello\n");
        assert!(process.end(Duration::from_secs(5)).unwrap().success());
    }
}
