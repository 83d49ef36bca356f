//! The control socket: a datagram is a command, and another one its answer.
//!
//! A subscriber of the event loop can neither add nor remove another one, so a command waits for
//! whoever owns the loop: `main` takes it between two rounds.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::fs::Mode;

/// Longest command and longest answer in bytes.
const LONGEST: usize = 16384;
/// How long a command may take: pinning a guest's memory is most of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What an answer of a command that failed begins with.
const FAILED: &str = "failed: ";

/// A command, and who waits for its answer.
#[derive(Debug)]
pub struct Request {
    /// Words with blanks between them.
    pub command: String,
    from: Option<(Arc<UnixDatagram>, SocketAddr)>,
}

impl Request {
    /// One of the machine's own.
    pub fn new(command: String) -> Self {
        Self { command, from: None }
    }

    /// Says what came of it.
    pub fn answer(self, result: Result<String>) {
        let text = result.unwrap_or_else(|error| format!("{FAILED}{}", crate::in_full(&error)));
        match self.from {
            // Who is gone has no answer.
            Some((socket, from)) => drop(socket.send_to_addr(text.as_bytes(), &from)),
            None if text.is_empty() => {}
            None => eprintln!("minivmm: {}: {text}", self.command),
        }
    }
}

/// The socket.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    socket: Arc<UnixDatagram>,
    requests: Sender<Request>,
}

impl Control {
    /// Listens at `path`, for this user alone; `requests` is where commands go.
    pub fn listen(path: &Path, requests: Sender<Request>) -> Result<Self> {
        let before = rustix::process::umask(Mode::from_raw_mode(0o077));
        let socket = UnixDatagram::bind(path);
        rustix::process::umask(before);
        let socket = socket.with_context(|| {
            format!("Cannot listen at {}; remove what another minivmm left there", path.display())
        })?;
        socket.set_nonblocking(true)?;
        Ok(Self { path: path.to_owned(), socket: Arc::new(socket), requests })
    }
}

impl MutEventSubscriber for Control {
    fn init(&mut self, ops: &mut EventOps) {
        // It was just made: nobody else waits for it.
        let _ = ops.add(Events::new(&*self.socket, EventSet::IN));
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let mut bytes = [0; LONGEST];
        let Ok((length, from)) = self.socket.recv_from(&mut bytes) else { return };
        let command = String::from_utf8_lossy(&bytes[..length]).into_owned();
        // Whoever would take it is ending the machine.
        let _ = self.requests.send(Request { command, from: Some((self.socket.clone(), from)) });
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The other side: says `command` to the minivmm at `path`, and prints the answer.
pub fn tell(path: &Path, command: &str) -> Result<String> {
    let name = format!("minivmm-tell-{}", process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    // From now on nobody else's answer is heard.
    socket.connect(path).with_context(|| format!("No minivmm listens at {}", path.display()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(command.as_bytes())?;
    let mut bytes = [0; LONGEST];
    let length = socket.recv(&mut bytes).context("The answer did not come")?;
    let answer = String::from_utf8_lossy(&bytes[..length]).into_owned();
    match answer.strip_prefix(FAILED) {
        Some(why) => bail!("{why}"),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use event_manager::{EventManager, SubscriberOps as _};

    use super::*;

    #[test]
    fn command_has_its_answer() {
        let path = std::env::temp_dir().join(format!("minivmm-{}.sock", process::id()));
        let (sender, requests) = channel();
        let mut events = EventManager::new().unwrap();
        events.add_subscriber(Control::listen(&path, sender).unwrap());
        for answer in [Ok("17".to_owned()), Err(anyhow::anyhow!("no such thing"))] {
            let socket = path.clone();
            let told = thread::spawn(move || tell(&socket, "attach me").map_err(|e| e.to_string()));
            events.run().unwrap();
            let request = requests.try_recv().unwrap();
            assert_eq!(request.command, "attach me");
            let expected = answer.as_ref().map(String::clone).map_err(ToString::to_string);
            request.answer(answer);
            assert_eq!(told.join().unwrap(), expected);
        }
        drop(events);
        assert!(!path.exists());
    }
}
