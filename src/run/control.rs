//! How `netvm status` and `netvm down` reach the running `netvm up`: one JSON line each way over
//! `control.sock` in the run directory, which only root may open.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::paths::RunDir;
use crate::status::Status;

/// What is asked of a running `netvm up`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Answer with a [`Status`].
    Status,
    /// Undo everything and end; the connection is closed when that has begun.
    Down,
}

/// Why a running `netvm up` could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("netvm is not running")]
    NotRunning,
    /// An earlier run was killed.
    #[error("netvm is not running, but an earlier run left changes behind; run `netvm recover`")]
    NeedsRecovery,
    /// It listens but the exchange failed.
    #[error("Cannot talk to netvm over {path}")]
    Io {
        /// The socket.
        path: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// The longest status that is believed: some kilobytes a link, hundreds of links.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

fn connect(run: &RunDir) -> Result<UnixStream, ControlError> {
    let path = run.control();
    UnixStream::connect(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused if run.journal().exists() => {
            ControlError::NeedsRecovery
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning,
        _ => ControlError::Io { path: path.display().to_string(), source },
    })
}

fn exchange(mut stream: &UnixStream, request: Request, patience: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut answer)?;
    Ok(answer)
}

/// Asks for the status.
pub fn status(run: &RunDir) -> Result<Status, ControlError> {
    let stream = connect(run)?;
    exchange(&stream, Request::Status, Duration::from_secs(10))
        .and_then(|answer| Ok(serde_json::from_str(&answer)?))
        .map_err(|source| io_error(&run.control(), source))
}

/// Asks it to end, and waits until everything is undone: its lock is free again. Returns whether all of
/// it was undone; if not, the journal is still there.
pub fn down(run: &RunDir, patience: Duration) -> Result<bool, ControlError> {
    let stream = connect(run)?;
    let failed = |source| io_error(&run.control(), source);
    exchange(&stream, Request::Down, patience).map_err(failed)?;
    let deadline = Instant::now() + patience;
    while Lock::is_held(&run.lock()) {
        if Instant::now() > deadline {
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "Still undoing")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(!run.journal().exists())
}

fn io_error(path: &Path, source: io::Error) -> ControlError {
    ControlError::Io { path: path.display().to_string(), source }
}
