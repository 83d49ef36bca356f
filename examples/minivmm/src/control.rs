//! The control socket: a connection is one line with a command, and its answer.
//!
//! A subscriber of the event loop can neither add nor remove another one, so a command waits for
//! whoever owns the loop: `main` takes it between two rounds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::fs::Mode;

/// Longest command in bytes.
const LONGEST: usize = 256;

/// A command, and who waits for its answer.
#[derive(Debug)]
pub struct Request {
    /// Its words.
    pub command: Vec<String>,
    from: UnixStream,
}

impl Request {
    /// Says what came of it, which ends the connection.
    pub fn answer(mut self, result: Result<String>) {
        let text = result.unwrap_or_else(|error| format!("failed: {}\n", crate::in_full(&error)));
        // Who is gone or does not read has no answer.
        let _ = self.from.write_all(text.as_bytes());
    }
}

/// The socket and its connections.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
    connections: BTreeMap<RawFd, UnixStream>,
    requests: Sender<Request>,
}

impl Control {
    /// Listens at `path`, for this user alone; `requests` is where commands go.
    pub fn listen(path: &Path, requests: Sender<Request>) -> Result<Self> {
        let before = rustix::process::umask(Mode::from_raw_mode(0o077));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener.with_context(|| {
            format!("Cannot listen at {}; remove what another minivmm left there", path.display())
        })?;
        listener.set_nonblocking(true)?;
        Ok(Self { path: path.to_owned(), listener, connections: BTreeMap::new(), requests })
    }

    fn accept(&mut self, ops: &mut EventOps) -> io::Result<()> {
        let (connection, _) = self.listener.accept()?;
        connection.set_nonblocking(true)?;
        let number = connection.as_raw_fd();
        if ops.add(Events::new(&connection, EventSet::IN)).is_ok() {
            self.connections.insert(number, connection);
        }
        Ok(())
    }

    /// What came first is the command, all of it.
    fn take(&self, mut from: UnixStream) {
        let mut bytes = [0; LONGEST];
        let Ok(length) = from.read(&mut bytes) else { return };
        let line = str::from_utf8(&bytes[..length]).ok().and_then(|text| text.strip_suffix('\n'));
        let Some(line) = line else { return };
        let command = line.split_whitespace().map(str::to_owned).collect();
        // Whoever would take it is ending the machine.
        let _ = self.requests.send(Request { command, from });
    }
}

impl MutEventSubscriber for Control {
    fn init(&mut self, ops: &mut EventOps) {
        // It was just made: nobody else waits for it.
        let _ = ops.add(Events::new(&self.listener, EventSet::IN));
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match self.connections.remove(&events.fd()) {
            Some(connection) => {
                let _ = ops.remove(events);
                self.take(connection);
            }
            // A client that went away meanwhile is no loss.
            None => drop(self.accept(ops)),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The other side: says `command` to the minivmm at `path`, and prints the answer.
pub fn tell(path: &Path, command: &[String]) -> Result<()> {
    let mut stream = UnixStream::connect(path)
        .with_context(|| format!("No minivmm listens at {}", path.display()))?;
    stream.write_all(format!("{}\n", command.join(" ")).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let answer = io::read_to_string(stream).context("The answer did not come")?;
    match answer.strip_prefix("failed: ") {
        Some(why) => anyhow::bail!("{}", why.trim_end()),
        None => print!("{answer}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use event_manager::{EventManager, SubscriberOps as _};

    use super::*;

    #[test]
    fn command_has_one_answer() {
        let path = std::env::temp_dir().join(format!("minivmm-{}.sock", std::process::id()));
        let (sender, requests) = channel();
        let mut events = EventManager::new().unwrap();
        events.add_subscriber(Control::listen(&path, sender).unwrap());
        let socket = path.clone();
        let words = ["counters", "please"].map(str::to_owned);
        let told = thread::spawn(move || tell(&socket, &words).unwrap_err().to_string());
        let request = loop {
            events.run().unwrap();
            if let Ok(request) = requests.try_recv() {
                break request;
            }
        };
        assert_eq!(request.command, ["counters", "please"]);
        request.answer(Err(anyhow::anyhow!("no")));
        assert_eq!(told.join().unwrap(), "no");
        drop(events);
        assert!(!path.exists());
    }
}
