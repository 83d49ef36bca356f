//! Watches everything that `netvm up` started, in one thread that sleeps until something happens.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use netvm_image::state::{Lease, State};

use super::channel::{BoundedLog, Channel};
use super::control::Request;
use super::lines::printable;
use super::machine::Machine;
use super::paths::RunDir;
use super::process::Process;
use crate::leases::{self, Pool};
use crate::status::{self, Fixed};

/// Why a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to.
    Asked,
    /// A part died or did not come up; the text says which and what it said.
    Died(String),
}

/// A link that dies this often within [`RESTART_WINDOW`] is not started again.
const RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// How long a client of the control socket has for its one line.
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Source {
    Signal,
    Control,
    State,
    Console,
    NetvmEnded,
    NetvmSays,
    DnsmasqEnded,
    DnsmasqSays,
    LinkEnded(usize),
    LinkSays(usize),
}

/// netvm's two channels.
#[derive(Debug)]
pub struct Channels {
    /// Its state.
    pub state: Channel,
    /// Its kernel log.
    pub console: Channel,
    /// Where the kernel log is kept.
    pub log: BoundedLog,
}

/// What netvm has said about itself; all of it untrusted.
#[derive(Debug, Default)]
pub struct Told {
    /// Its latest state.
    pub state: Option<(State, Option<Instant>)>,
    /// How many lines were not one.
    pub rejected: u64,
}

/// Everything that is watched.
#[derive(Debug)]
pub struct Supervisor {
    /// What was made and started.
    pub machine: Machine,
    /// What netvm said last.
    pub told: Told,
    /// Set when the run is to end.
    pub outcome: Option<Outcome>,
    fixed: Fixed,
    channels: Option<Channels>,
    control: UnixListener,
    signals: UnixStream,
    sources: HashMap<RawFd, Source>,
    deaths: Vec<Vec<Instant>>,
    saved_leases: Vec<Lease>,
    pool: Pool,
    run: RunDir,
}

impl Supervisor {
    /// Watches `machine`. `control` is the listening control socket, `signals` becomes readable when the
    /// process is told to end. `pool` and `run` say what links are told when they start again.
    pub fn new(
        machine: Machine,
        fixed: Fixed,
        channels: Option<Channels>,
        control: UnixListener,
        signals: UnixStream,
        pool: Pool,
        run: RunDir,
    ) -> Self {
        let deaths = vec![Vec::new(); machine.links.len()];
        Self {
            machine,
            told: Told::default(),
            outcome: None,
            fixed,
            channels,
            control,
            signals,
            sources: HashMap::new(),
            deaths,
            saved_leases: Vec::new(),
            pool,
            run,
        }
    }

    /// Writes netvm's leases to `path` if they have changed, for the next netvm.
    pub fn save_leases(&mut self, path: &Path) {
        let Some((state, _)) = &self.told.state else { return };
        if state.leases == self.saved_leases {
            return;
        }
        match leases::save(path, &state.leases) {
            Ok(()) => self.saved_leases.clone_from(&state.leases),
            Err(error) => tracing::warn!("cannot keep netvm's leases: {error}"),
        }
    }

    fn watch(&mut self, ops: &mut EventOps<'_>, fd: RawFd, source: Source) {
        self.sources.insert(fd, source);
        if let Err(error) = ops.add(Events::new_raw(fd, EventSet::IN)) {
            self.outcome = Some(Outcome::Died(format!("cannot watch {source:?}: {error}")));
        }
    }

    fn forget(&mut self, ops: &mut EventOps<'_>, fd: RawFd) {
        self.sources.remove(&fd);
        // It may be gone already.
        let _ = ops.remove(Events::empty_raw(fd));
    }

    fn watch_process(
        &mut self,
        ops: &mut EventOps<'_>,
        fds: Option<(RawFd, Option<RawFd>)>,
        ended: Source,
        says: Source,
    ) {
        let Some((pidfd, stderr)) = fds else { return };
        self.watch(ops, pidfd, ended);
        if let Some(stderr) = stderr {
            self.watch(ops, stderr, says);
        }
    }

    fn watch_link(&mut self, ops: &mut EventOps<'_>, index: usize) {
        let fds = self.machine.links[index].process.as_ref().map(fds);
        self.watch_process(ops, fds, Source::LinkEnded(index), Source::LinkSays(index));
    }

    fn link_ended(&mut self, ops: &mut EventOps<'_>, index: usize) {
        let link = &mut self.machine.links[index];
        let guest = link.guest.clone();
        let Some(mut process) = link.process.take() else { return };
        let (pidfd, stderr) = fds(&process);
        process.relay();
        let why = obituary(&mut process);
        self.forget(ops, pidfd);
        if let Some(stderr) = stderr {
            self.forget(ops, stderr);
        }
        drop(process);
        let now = Instant::now();
        let deaths = &mut self.deaths[index];
        deaths.retain(|death| now.duration_since(*death) < RESTART_WINDOW);
        deaths.push(now);
        if deaths.len() > RESTARTS {
            self.outcome = Some(Outcome::Died(format!("{why}, for the {}th time", deaths.len())));
            return;
        }
        tracing::warn!(guest, "{why}; starting it again");
        self.machine.links[index].restarts += 1;
        self.look_up_leases();
        match self.machine.start_link(index) {
            Ok(()) => self.watch_link(ops, index),
            Err(error) => {
                self.outcome =
                    Some(Outcome::Died(format!("{why}, and did not start again: {error}")));
            }
        }
    }

    /// What links that start now are told.
    fn look_up_leases(&mut self) {
        self.machine.leases = match &self.told.state {
            Some((state, _)) => self.pool.reported(&state.leases),
            None => self.pool.known(&self.run),
        };
    }

    fn read_state(&mut self) -> io::Result<()> {
        let Some(channels) = &mut self.channels else { return Ok(()) };
        let told = &mut self.told;
        channels.state.read(|line| match State::parse(line) {
            Ok(state) => told.state = Some((state, Some(Instant::now()))),
            Err(error) => {
                told.rejected += 1;
                if told.rejected == 1 {
                    tracing::warn!("netvm's state is not understood: {error}; counting the rest");
                }
            }
        })
    }

    fn read_console(&mut self) -> io::Result<()> {
        let Some(Channels { console, log, .. }) = &mut self.channels else { return Ok(()) };
        console.read(|line| {
            let line = printable(line);
            tracing::debug!(target: "netvm::console", "{line}");
            // A full /run is no reason to take the network from the guests.
            let _ = log.line(&line);
        })
    }

    fn answer(&mut self) -> io::Result<()> {
        let (client, _) = self.control.accept()?;
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(CLIENT_PATIENCE))?;
        client.set_write_timeout(Some(CLIENT_PATIENCE))?;
        let mut line = String::new();
        BufReader::new((&client).take(1024)).read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            Request::Status => {
                let status = status::collect(&self.fixed, &mut self.machine, &self.told);
                let mut answer = serde_json::to_vec(&status)?;
                answer.push(b'\n');
                (&client).write_all(&answer)
            }
            Request::Down => {
                self.outcome = Some(Outcome::Asked);
                (&client).write_all(b"{}\n")
            }
        }
    }

    fn event(&mut self, ops: &mut EventOps<'_>, fd: RawFd, source: Source) -> io::Result<()> {
        match source {
            Source::Signal => self.outcome = Some(Outcome::Asked),
            Source::Control => {
                // A client that misbehaves is a client's problem.
                if let Err(error) = self.answer() {
                    tracing::debug!("control socket: {error}");
                }
            }
            Source::State => self.read_state()?,
            Source::Console => self.read_console()?,
            Source::NetvmEnded | Source::DnsmasqEnded => {
                let process = match source {
                    Source::NetvmEnded => &mut self.machine.netvm,
                    _ => &mut self.machine.dnsmasq,
                };
                if let Some(process) = process {
                    process.relay();
                    self.outcome = Some(Outcome::Died(obituary(process)));
                }
                self.forget(ops, fd);
            }
            Source::LinkEnded(index) => self.link_ended(ops, index),
            Source::NetvmSays | Source::DnsmasqSays | Source::LinkSays(_) => {
                let process = match source {
                    Source::NetvmSays => &mut self.machine.netvm,
                    Source::DnsmasqSays => &mut self.machine.dnsmasq,
                    Source::LinkSays(index) => &mut self.machine.links[index].process,
                    _ => return Ok(()),
                };
                if !process.as_mut().is_some_and(Process::relay) {
                    self.forget(ops, fd);
                }
            }
        }
        Ok(())
    }
}

impl MutEventSubscriber for Supervisor {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let fd = events.fd();
        // An event of something that another event in this batch has ended.
        let Some(source) = self.sources.get(&fd).copied() else { return };
        if let Err(error) = self.event(ops, fd, source) {
            self.outcome = Some(Outcome::Died(format!("{source:?}: {error}")));
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        self.watch(ops, self.signals.as_raw_fd(), Source::Signal);
        self.watch(ops, self.control.as_raw_fd(), Source::Control);
        if let Some(channels) = &self.channels {
            let (state, console) = (raw(&channels.state), raw(&channels.console));
            self.watch(ops, state, Source::State);
            self.watch(ops, console, Source::Console);
        }
        let netvm = self.machine.netvm.as_ref().map(fds);
        self.watch_process(ops, netvm, Source::NetvmEnded, Source::NetvmSays);
        let dnsmasq = self.machine.dnsmasq.as_ref().map(fds);
        self.watch_process(ops, dnsmasq, Source::DnsmasqEnded, Source::DnsmasqSays);
        for index in 0..self.machine.links.len() {
            self.watch_link(ops, index);
        }
    }
}

fn raw(fd: &impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

fn fds(process: &Process) -> (RawFd, Option<RawFd>) {
    (process.pidfd().as_raw_fd(), process.stderr().map(|fd| fd.as_raw_fd()))
}

/// How a process ended and the last that it said.
fn obituary(process: &mut Process) -> String {
    let how = match process.ended() {
        Ok(Some(status)) => status.to_string(),
        Ok(None) => "still running".into(),
        Err(error) => error.to_string(),
    };
    let tail: Vec<_> = process.tail().collect();
    let said = if tail.is_empty() {
        "; it said nothing".to_owned()
    } else {
        format!("; its last words:\n    {}", tail.join("\n    "))
    };
    format!("{} ended ({how}){said}", process.name)
}
