//! Asks every link for its counters, and waits for all of them together no longer than a moment.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vhost_net_backend::report::LinkReport;

use crate::run::machine::LinkProcess;

/// How long all links together have to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// The longest answer that is believed.
const ANSWER_BYTES: usize = 64 * 1024;

/// The report of each link, in order; none for a link that is down or does not answer.
pub fn ask(links: &mut [LinkProcess]) -> Vec<Option<LinkReport>> {
    let deadline = Instant::now() + PATIENCE;
    let asked: Vec<bool> = links.iter_mut().map(|link| request(link).is_ok()).collect();
    links
        .iter_mut()
        .zip(asked)
        .map(|(link, asked)| {
            let line = asked.then(|| answer(link, deadline).ok()).flatten();
            if line.is_none() {
                // What arrives later would be taken for the answer to the next question.
                drain(link);
            }
            serde_json::from_slice(&line?).ok()
        })
        .collect()
}

fn request(link: &mut LinkProcess) -> io::Result<()> {
    drain(link);
    let Some(control) = &mut link.control else { return Err(io::ErrorKind::NotConnected.into()) };
    control.write_all(b"report\n")
}

fn answer(link: &mut LinkProcess, deadline: Instant) -> io::Result<Vec<u8>> {
    let Some(control) = &mut link.control else { return Err(io::ErrorKind::NotConnected.into()) };
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while answer.len() < ANSWER_BYTES {
        match control.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
                if poll(&mut [PollFd::new(&*control, PollFlags::IN)], Some(&timeout))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
        if answer.last() == Some(&b'\n') {
            return Ok(answer);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Reads away what is there, at most one answer.
fn drain(link: &mut LinkProcess) {
    if let Some(control) = &mut link.control {
        let mut chunk = [0; ANSWER_BYTES];
        let _ = control.read(&mut chunk);
    }
}
