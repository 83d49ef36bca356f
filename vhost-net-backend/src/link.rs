//! A whole link: two ends, the packet worker, and the channel to the supervisor.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::control::listener::{AcceptError, EndListener};
use crate::control::placement::Placement;
use crate::control::rules::EndConfig;
use crate::control::session::{Endpoint, Session};
use crate::datapath::EndId;
use crate::datapath::command::{MAX_PAIRS, command_channel};
use crate::datapath::counters::Counters;
use crate::datapath::drop_reason::DropReason;
use crate::datapath::filter::{Filter, Lease, Rules};
use crate::datapath::rate::Limits;
use crate::datapath::worker::Worker;
use crate::end::End;
use crate::end::tap::TapEnd;
use crate::end::vhost_user::VhostUserEnd;
use crate::link_state::LinkState;
use crate::mac::MacAddr;
use crate::report::{EndKind, EndReport, LinkReport};
use crate::supervisor::{Supervisor, SupervisorEvent};

/// A vhost-user end to be.
#[derive(Debug)]
pub struct VhostUserConfig {
    /// Where the frontend connects.
    pub listener: EndListener,
    /// Whether to take memory that is not sealed against shrinking.
    pub unsealed: bool,
}

/// What the netvm end shall be.
#[derive(Debug)]
pub enum NetvmConfig {
    /// The card of netvm.
    VhostUser(VhostUserConfig),
    /// A TAP.
    Tap(TapEnd),
}

/// Everything a link needs to know.
#[derive(Debug)]
pub struct LinkConfig {
    /// The guest's name.
    pub name: String,
    /// MAC of the guest's card.
    pub guest_mac: MacAddr,
    /// MAC that the guest knows as its gateway: netvm's bridge.
    pub netvm_mac: MacAddr,
    /// MAC of netvm's card at this link.
    pub card_mac: MacAddr,
    /// IP MTU of both cards, bytes.
    pub mtu: u16,
    /// Queue pairs each card can have, from 1 to
    /// [`MAX_PAIRS`].
    pub queue_pairs: usize,
    /// Addresses that the guest may use for good.
    pub addresses: Vec<IpAddr>,
    /// Whether the guest may use the IPv4 address that netvm leases it.
    pub dynamic: bool,
    /// What netvm has leased it already.
    pub lease: Option<Lease>,
    /// What may pass in a second from the guest and to it.
    pub limits: [Limits; 2],
    /// The guest's end.
    pub guest: VhostUserConfig,
    /// netvm's end.
    pub netvm: NetvmConfig,
    /// What the sandbox lacks, for the report.
    pub sandbox_missing: Vec<String>,
}

/// Why a link cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A descriptor or thread could not be made.
    #[error("Cannot set up the link's {what}")]
    Setup {
        /// What could not be made.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Waiting failed.
    #[error("Cannot wait for events")]
    Wait(#[source] rustix::io::Errno),
    /// The worker ended although nobody asked it to.
    #[error("The packet worker ended; see the log above")]
    Worker,
}

/// A vhost-user end and its session, if one is live.
#[derive(Debug)]
struct VhostUserPort {
    endpoint: Arc<Endpoint>,
    listener: EndListener,
    session: Option<Session>,
}

/// A running link.
#[derive(Debug)]
pub struct Link {
    name: String,
    guest: VhostUserPort,
    /// None when the netvm end is a TAP.
    netvm: Option<VhostUserPort>,
    counters: Arc<Counters>,
    state: Arc<LinkState>,
    workers: Vec<JoinHandle<()>>,
    sandbox_missing: Vec<String>,
}

impl Link {
    /// Starts the workers. Frontends can connect once [`Link::run`] runs.
    pub fn start(config: LinkConfig) -> Result<Self, LinkError> {
        let setup = |what| {
            move |source: rustix::io::Errno| LinkError::Setup { what, source: source.into() }
        };
        let counters = Arc::new(Counters::default());
        let state = Arc::new(LinkState::new().map_err(setup("state eventfd"))?);
        let LinkConfig { guest_mac, netvm_mac, card_mac, mtu, queue_pairs, .. } = config;
        let queue_pairs = queue_pairs.clamp(1, MAX_PAIRS);
        // A TAP has one queue, so there is nothing to spread over several workers; and a limit
        // counts at one.
        let is_tap = matches!(config.netvm, NetvmConfig::Tap(_));
        let is_limited = config.limits.iter().any(Limits::is_limited);
        let workers = if is_tap || is_limited { 1 } else { queue_pairs };
        let channels = std::iter::repeat_with(command_channel)
            .take(workers)
            .collect::<Result<Vec<_>, _>>()
            .map_err(setup("command eventfd"))?;
        let (handles, requests): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let placement = Arc::new(Placement::new(handles));
        let port = |id, mac, VhostUserConfig { listener, unsealed }| VhostUserPort {
            endpoint: Arc::new(Endpoint::new(
                id,
                EndConfig { unsealed, mac, mtu, queue_pairs },
                Arc::clone(&placement),
                Arc::clone(&counters),
                Arc::clone(&state),
            )),
            listener,
            session: None,
        };
        let guest = port(EndId::Guest, guest_mac, config.guest);
        let (netvm, mut tap) = match config.netvm {
            NetvmConfig::VhostUser(end) => (Some(port(EndId::Netvm, card_mac, end)), None),
            NetvmConfig::Tap(tap) => (None, Some(End::Tap(tap))),
        };
        let rules = Rules {
            guest: guest_mac,
            netvm: netvm_mac,
            mtu,
            addresses: config.addresses,
            dynamic: config.dynamic,
            lease: config.lease,
        };
        let no_frontend = || End::VhostUser(VhostUserEnd::default());
        let filter = Filter::new(&rules, 0);
        let start = Instant::now();
        let mut workers = Vec::with_capacity(requests.len());
        for (number, requests) in requests.into_iter().enumerate() {
            let worker = Worker::new(
                number,
                (no_frontend(), tap.take().unwrap_or_else(no_frontend)),
                (filter.clone(), start),
                &config.limits,
                Arc::clone(&counters),
                Arc::clone(&state),
                requests,
            )
            .map_err(setup("packet worker"))?;
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker.run())
                .map_err(|source| LinkError::Setup { what: "worker thread", source })?;
            workers.push(thread);
        }
        Ok(Self {
            name: config.name,
            guest,
            netvm,
            counters,
            state,
            workers,
            sandbox_missing: config.sandbox_missing,
        })
    }

    /// Accepts frontends and answers the supervisor until the supervisor hangs up. Without a
    /// supervisor it runs until the process is killed.
    pub fn run(mut self, supervisor: Option<UnixStream>) -> Result<(), LinkError> {
        let mut supervisor = supervisor
            .map(Supervisor::new)
            .transpose()
            .map_err(|source| LinkError::Setup { what: "control channel", source })?;
        loop {
            self.wait(supervisor.as_ref())?;
            if self.workers.iter().any(JoinHandle::is_finished) {
                return Err(LinkError::Worker);
            }
            self.state.acknowledge();
            for port in self.ports() {
                port.reap();
                port.endpoint.announce_link();
                port.accept();
            }
            if let Some(channel) = &mut supervisor
                && channel.serve(|| self.report()) == SupervisorEvent::Closed
            {
                tracing::info!("the supervisor closed the control channel");
                self.stop();
                return Ok(());
            }
        }
    }

    /// Ends both sessions and the workers.
    fn stop(self) {
        let Self { guest, netvm, workers, .. } = self;
        drop(guest);
        drop(netvm);
        // With the endpoints the last command handles are gone, which ends the workers.
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("a packet worker panicked");
            }
        }
    }

    fn wait(&self, supervisor: Option<&Supervisor>) -> Result<(), LinkError> {
        let listeners = [Some(&self.guest), self.netvm.as_ref()].into_iter().flatten();
        let mut fds: Vec<PollFd<'_>> = listeners
            .map(|port| port.listener.fd())
            .chain([self.state.fd()])
            .chain(supervisor.map(AsFd::as_fd))
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(LinkError::Wait(error)),
        }
    }

    fn ports(&mut self) -> impl Iterator<Item = &mut VhostUserPort> {
        [Some(&mut self.guest), self.netvm.as_mut()].into_iter().flatten()
    }

    /// State and counters now.
    pub fn report(&self) -> LinkReport {
        let guest = self.guest.report(&self.counters);
        let netvm = match &self.netvm {
            Some(port) => port.report(&self.counters),
            None => self.tap_report(),
        };
        let mut drops = guest.drops.clone();
        for (reason, count) in &netvm.drops {
            *drops.entry(reason.clone()).or_default() += count;
        }
        LinkReport {
            name: self.name.clone(),
            guest,
            netvm,
            drops,
            busy_ns: u64::try_from(self.counters.busy().as_nanos()).unwrap_or(u64::MAX),
            sandbox_missing: self.sandbox_missing.clone(),
        }
    }

    fn tap_report(&self) -> EndReport {
        let report = traffic(EndId::Netvm, &self.counters);
        EndReport { kind: EndKind::Tap, connected: report.up, ..report }
    }
}

impl VhostUserPort {
    /// Forgets a session that is over.
    fn reap(&mut self) {
        if let Some(session) = self.session.take_if(|session| session.is_done()) {
            session.finish();
        }
    }

    /// Accepts a frontend, if one waits and none is live.
    fn accept(&mut self) {
        let end = self.endpoint.id.name();
        let socket = match self.listener.accept() {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            Err(error @ AcceptError::Peer { .. }) => {
                self.endpoint.refused.fetch_add(1, Relaxed);
                tracing::warn!(end, %error, "connection refused");
                return;
            }
            Err(error) => {
                tracing::error!(end, %error, "cannot accept");
                // Most likely out of descriptors: the connection stays pending, so do not spin.
                std::thread::sleep(Duration::from_millis(100));
                return;
            }
        };
        self.admit(socket);
    }

    fn admit(&mut self, socket: OwnedFd) {
        let end = self.endpoint.id.name();
        // A frontend that comes back at once may find its old session about to end.
        if let Some(session) = self.session.take_if(|session| session.is_hung_up()) {
            session.finish();
        }
        if self.session.is_some() {
            self.endpoint.refused.fetch_add(1, Relaxed);
            tracing::warn!(
                end,
                "connection refused: a frontend is connected already, and an end has one frontend"
            );
            return;
        }
        match self.endpoint.start(socket) {
            Ok(session) => self.session = Some(session),
            Err(error) => tracing::error!(end, %error, "cannot start a session"),
        }
    }

    fn report(&self, counters: &Counters) -> EndReport {
        let endpoint = &self.endpoint;
        let last_error = endpoint.last_error.lock();
        EndReport {
            connected: self.session.as_ref().is_some_and(|session| !session.is_done()),
            features: endpoint.features.load(Relaxed),
            reconnects: endpoint.sessions.load(Relaxed).saturating_sub(1),
            refused: endpoint.refused.load(Relaxed),
            last_error: last_error.map(|error| error.clone()).unwrap_or_default(),
            ..traffic(endpoint.id, counters)
        }
    }
}

/// The part of a report that the worker's counters fill.
fn traffic(end: EndId, counters: &Counters) -> EndReport {
    let traffic = counters.end(end);
    let drops = DropReason::ALL.iter().filter_map(|reason| {
        let count = counters.drops(end, *reason);
        (count > 0).then(|| (reason.name().to_owned(), count))
    });
    EndReport {
        kind: EndKind::VhostUser,
        connected: false,
        up: traffic.is_up(),
        features: 0,
        frames_in: traffic.frames_in.load(Relaxed),
        bytes_in: traffic.bytes_in.load(Relaxed),
        frames_out: traffic.frames_out.load(Relaxed),
        bytes_out: traffic.bytes_out.load(Relaxed),
        drops: drops.collect(),
        reconnects: 0,
        refused: 0,
        ring_faults: traffic.ring_faults.load(Relaxed),
        last_error: None,
    }
}
