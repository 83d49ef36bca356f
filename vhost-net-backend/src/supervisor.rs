//! The control channel: a connected stream socket to the process that started the link.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::report::LinkReport;

/// The one request there is.
const REPORT: &[u8] = b"report";
/// Longest line taken.
const LINE_LIMIT: usize = 256;
/// How long the supervisor may take to read a report.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The channel and the line that is being received.
#[derive(Debug)]
pub struct Supervisor {
    stream: UnixStream,
    line: Vec<u8>,
}

/// What became of the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisorEvent {
    /// It is open.
    Open,
    /// The supervisor closed it, or it failed: the link shall end.
    Closed,
}

impl Supervisor {
    /// Takes a connected socket.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, line: Vec::new() })
    }

    /// Answers every request that has come, without waiting for more.
    pub fn serve(&mut self, report: impl Fn() -> LinkReport) -> SupervisorEvent {
        loop {
            let mut bytes = [0; LINE_LIMIT];
            let count = match recv(&self.stream, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return SupervisorEvent::Closed,
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return SupervisorEvent::Open,
                Err(Errno::INTR) => continue,
                Err(_) => return SupervisorEvent::Closed,
            };
            for byte in bytes.iter().take(count) {
                if *byte != b'\n' {
                    if self.line.len() < LINE_LIMIT {
                        self.line.push(*byte);
                    }
                    continue;
                }
                let answer = if self.line == REPORT {
                    serde_json::to_string(&report()).unwrap_or_default()
                } else {
                    r#"{"error":"unknown request; the one request is: report"}"#.to_owned()
                };
                self.line.clear();
                if self.answer(&answer).is_err() {
                    return SupervisorEvent::Closed;
                }
            }
        }
    }

    fn answer(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
