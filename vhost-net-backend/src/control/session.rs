//! One frontend's session, from its connection to its end.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use super::backend::LinkBackend;
use super::gate::{Gate, GateError};
use super::placement::Placement;
use super::private_socket::private_connection;
use super::rules::{EndConfig, Rules};
use super::vring::{RingContext, with_context};
use crate::datapath::EndId;
use crate::datapath::counters::Counters;
use crate::link_state::LinkState;

/// VHOST_USER_BACKEND_CONFIG_CHANGE_MSG: request 2, version 1, no body.
const CONFIG_CHANGE: [u32; 3] = [2, 1, 0];

/// A vhost-user end of the link, over all its sessions.
#[derive(Debug)]
pub struct Endpoint {
    /// Which end.
    pub id: EndId,
    /// Its card, and what is taken from its frontend.
    pub config: EndConfig,
    /// Features of the present or last session.
    pub features: Arc<AtomicU64>,
    /// Sessions so far.
    pub sessions: AtomicU64,
    /// Connections refused because another session was live, or for the wrong user.
    pub refused: AtomicU64,
    /// Why the last session ended, if not by the frontend's wish.
    pub last_error: Mutex<Option<String>>,
    /// The present frontend's channel for requests of the link.
    channel: Mutex<Option<UnixStream>>,
    placement: Arc<Placement>,
    counters: Arc<Counters>,
    state: Arc<LinkState>,
}

/// Why a session could not be set up or ended early.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("Cannot make the private connection to the vhost-user library")]
    Private(#[source] rustix::io::Errno),
    #[error("The vhost-user library cannot start: {0}")]
    Library(vhost_user_backend::Error),
    #[error(transparent)]
    Gate(#[from] GateError),
}

/// A live session.
#[derive(Debug)]
pub struct Session {
    thread: Option<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    frontend: UnixStream,
}

impl Endpoint {
    /// An end without a session.
    pub fn new(
        id: EndId,
        config: EndConfig,
        placement: Arc<Placement>,
        counters: Arc<Counters>,
        state: Arc<LinkState>,
    ) -> Self {
        Self {
            id,
            config,
            features: Arc::default(),
            sessions: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_error: Mutex::new(None),
            channel: Mutex::new(None),
            placement,
            counters,
            state,
        }
    }

    /// Whether the guest shall see its link up. A frontend that cannot be told of changes shows
    /// the link up always: one that read "down" at boot would show that for ever.
    pub fn link_up(&self) -> bool {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.is_none() || self.counters.end(self.id.other()).is_up()
    }

    /// Tells the frontend, if it can be told, that the configuration space may have changed.
    pub fn announce_link(&self) {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = &*channel {
            let message = CONFIG_CHANGE.map(u32::to_ne_bytes).concat();
            // A frontend that does not read misses it.
            let _ = send(channel, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Starts a session on a thread of its own.
    pub fn start(self: &Arc<Self>, frontend: OwnedFd) -> std::io::Result<Session> {
        let frontend = UnixStream::from(frontend);
        let done = Arc::new(AtomicBool::new(false));
        let (endpoint, socket, flag) = (Arc::clone(self), frontend.try_clone()?, Arc::clone(&done));
        let thread = std::thread::Builder::new().name(format!("gate-{}", self.id.name())).spawn(
            move || {
                endpoint.serve(&socket);
                let _ = socket.shutdown(Shutdown::Both);
                drop(socket);
                flag.store(true, Ordering::Release);
                endpoint.state.announce();
            },
        )?;
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(Session { thread: Some(thread), done, frontend })
    }

    fn serve(self: &Arc<Self>, frontend: &UnixStream) {
        let end = self.id.name();
        tracing::info!(end, "frontend connected");
        let result = self.run(frontend);
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.features.store(0, Ordering::Relaxed);
        let text = result.err().map(|error| chain(&error));
        match &text {
            None => {
                let [frames_in, frames_out] = self.counters.end(self.id).frames();
                let busy = self.counters.busy();
                tracing::info!(end, frames_in, frames_out, ?busy, "frontend disconnected");
            }
            Some(text) => tracing::warn!(end, reason = %text, "session ended"),
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn run(self: &Arc<Self>, frontend: &UnixStream) -> Result<(), SessionError> {
        let rules = Rules::new(self.config).map_err(SessionError::Private)?;
        let (listener, library) = private_connection().map_err(SessionError::Private)?;
        let context = RingContext {
            end: self.id,
            queue_pairs: self.config.queue_pairs,
            placement: Arc::clone(&self.placement),
            features: Arc::clone(&self.features),
            counters: Arc::clone(&self.counters),
            log: Arc::default(),
        };
        let backend = Arc::new(LinkBackend::new(Arc::clone(self), context.clone()));
        // Nothing in the library is reset between connections, so each has its own.
        let mut daemon = with_context(context.clone(), || {
            let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
            VhostUserDaemon::new(format!("vhost-{}", self.id.name()), backend, memory)
        })
        .map_err(SessionError::Library)?;
        daemon.start(&mut Listener::from(listener)).map_err(SessionError::Library)?;
        let result =
            Gate { frontend, library: &library, channel: &self.channel, context: &context }
                .run(rules);
        let _ = library.shutdown(Shutdown::Both);
        let library_result = daemon.wait();
        drop(daemon);
        context.placement.disconnect(self.id);
        match (result, library_result) {
            // The gate saw only that the library hung up; the library knows why.
            (Err(GateError::Library(_)), Err(error)) => Err(SessionError::Library(error)),
            (result, _) => Ok(result?),
        }
    }
}

impl Session {
    /// Whether the session is over and can be [finished](Session::finish).
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Whether the frontend has hung up: the session is over or about to be.
    pub fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.frontend, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.is_done() || poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Ends the session, if it is not over, and waits for its thread.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.frontend.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a session thread panicked");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
    }
}

/// An error and its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
