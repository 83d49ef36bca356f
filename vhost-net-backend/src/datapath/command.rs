//! How session threads reach the worker: one command at a time, each answered before the session
//! goes on, so that a frontend that was told "stopped" or "unmapped" can rely on it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use vm_memory::GuestMemoryMmap;

use super::EndId;
use super::log::DirtyLog;
use super::notify::Notifier;
use super::ring::RingLayout;
use crate::mac::MacAddr;

/// How long the worker may take to answer. Its work per turn is bounded, so it answers within
/// milliseconds unless a frontend has found a way to block it, with an eventfd for example.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most queue pairs an end can have.
pub const MAX_PAIRS: usize = 8;

/// What a ring is for, as seen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingKind {
    /// Buffers the driver offers for frames it receives.
    Receive,
    /// Frames the driver transmits.
    Transmit,
}

impl RingKind {
    /// `receive` or `transmit`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Transmit => "transmit",
        }
    }
}

/// Which ring of an end: pair and kind, in the order of a virtio-net device (virtio 1.2, 5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingId {
    /// Below [`MAX_PAIRS`].
    pair: u8,
    kind: RingKind,
}

impl RingId {
    /// The ring of this kind in this pair, if there can be one.
    pub const fn new(pair: usize, kind: RingKind) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_PAIRS")]
        if pair < MAX_PAIRS { Some(Self { pair: pair as u8, kind }) } else { None }
    }

    /// The ring with this index in the device, if there can be one.
    pub const fn from_index(index: usize) -> Option<Self> {
        Self::new(
            index / 2,
            if index.is_multiple_of(2) { RingKind::Receive } else { RingKind::Transmit },
        )
    }

    /// Its index in the device, below 2 * [`MAX_PAIRS`].
    pub const fn index(self) -> usize {
        let kind = match self.kind {
            RingKind::Receive => 0,
            RingKind::Transmit => 1,
        };
        2 * self.pair as usize + kind
    }

    /// Its queue pair, below [`MAX_PAIRS`].
    pub const fn pair(self) -> u8 {
        self.pair
    }

    /// What it is for.
    pub const fn kind(self) -> RingKind {
        self.kind
    }
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.pair)
    }
}

/// Everything needed to start a ring.
#[derive(Debug)]
pub struct RingSetup {
    /// Where it lies.
    pub layout: RingLayout,
    /// Whether it is a packed ring.
    pub packed: bool,
    /// Where a packed ring resumes: bits 0 to 14 are the first descriptor not used, bit 15 is its
    /// wrap counter. A split ring resumes at the index in the guest's memory.
    pub base: u16,
    /// Readable when the driver has made chains available.
    pub kick: OwnedFd,
    /// Signalled when chains were used.
    pub call: Option<Notifier>,
    /// Signalled when the ring stopped because of a fault.
    pub error: Option<Notifier>,
}

impl RingSetup {
    /// A copy with descriptors of its own.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let copy =
            |notifier: &Option<Notifier>| notifier.as_ref().map(Notifier::try_clone).transpose();
        Ok(Self {
            kick: self.kick.try_clone()?,
            call: copy(&self.call)?,
            error: copy(&self.error)?,
            ..*self
        })
    }
}

/// What a session tells the worker.
#[derive(Debug)]
pub enum Command {
    /// The driver's features were negotiated.
    Features(u64),
    /// The guest's memory is this from now on.
    Memory(Arc<GuestMemoryMmap>),
    /// Mark each page of the guest's memory that is written in this log, from now on; `None` for
    /// no more. Once this is answered, the log before it is not touched again.
    Log(Option<Arc<DirtyLog>>),
    /// Tell the other end that this MAC address is here now.
    Announce(MacAddr),
    /// Start this ring.
    Start(RingId, RingSetup),
    /// Stop this ring. The answer is its next available index, or the base of a packed ring.
    Stop(RingId),
    /// Replace the call eventfd of a running ring.
    Call(RingId, Option<Notifier>),
    /// Replace the error eventfd of a running ring.
    Error(RingId, Option<Notifier>),
    /// The frontend is gone: forget rings, memory and features.
    Disconnect,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The link cannot go on.
    #[error("The packet worker did not answer within 10 s; the link must be restarted")]
    Stuck,
    /// The link is being taken down.
    #[error("The packet worker has ended")]
    Gone,
}

/// A command under way.
#[derive(Debug)]
pub struct Request {
    pub(super) end: EndId,
    pub(super) command: Command,
    pub(super) answer: SyncSender<u16>,
}

/// The sessions' side of the command channel.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    /// None only while it is dropped.
    requests: Option<Sender<Request>>,
    wake: Arc<OwnedFd>,
    /// Says what `wake` says to a worker that is awake.
    pending: Arc<AtomicBool>,
}

/// The worker's side of the command channel.
#[derive(Debug)]
pub struct Requests {
    requests: Receiver<Request>,
    wake: Arc<OwnedFd>,
    pending: Arc<AtomicBool>,
}

/// Makes a command channel.
pub fn command_channel() -> rustix::io::Result<(WorkerHandle, Requests)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = channel();
    let pending = Arc::new(AtomicBool::new(false));
    Ok((
        WorkerHandle {
            requests: Some(sender),
            wake: Arc::clone(&wake),
            pending: Arc::clone(&pending),
        },
        Requests { requests: receiver, wake, pending },
    ))
}

impl WorkerHandle {
    /// Has the worker carry out `command` for `end`, and waits until it has.
    pub fn request(&self, end: EndId, command: Command) -> Result<u16, WorkerError> {
        let (answer, answered) = sync_channel(1);
        let requests = self.requests.as_ref().ok_or(WorkerError::Gone)?;
        requests.send(Request { end, command, answer }).map_err(|_| WorkerError::Gone)?;
        self.wake();
        answered.recv_timeout(ANSWER_TIMEOUT).map_err(|error| match error {
            RecvTimeoutError::Timeout => WorkerError::Stuck,
            RecvTimeoutError::Disconnected => WorkerError::Gone,
        })
    }

    /// The flag comes last: a worker that sees it, and takes the wake-up back, must not be woken by
    /// it afterwards, with nothing to tell it why (`tests/ordering`).
    fn wake(&self) {
        // Full means a wake-up is pending already.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        self.pending.store(true, Release);
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        // The worker ends when the last sender is gone; let it look after that.
        self.requests = None;
        self.wake();
    }
}

/// What the worker finds when it looks for commands.
pub(super) enum Pending {
    Request(Request),
    Nothing,
    /// Every handle is gone.
    Closed,
}

impl Requests {
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Whether it is time to look for commands; costs next to nothing.
    pub(super) fn are_pending(&self) -> bool {
        self.pending.load(Acquire)
    }

    /// Takes back the wake-up. Commands that come from now on cause another.
    pub(super) fn acknowledge(&self) {
        self.pending.store(false, Release);
        let mut counter = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut counter);
    }

    pub(super) fn next(&self) -> Pending {
        use std::sync::mpsc::TryRecvError;
        match self.requests.try_recv() {
            Ok(request) => Pending::Request(request),
            Err(TryRecvError::Empty) => Pending::Nothing,
            Err(TryRecvError::Disconnected) => Pending::Closed,
        }
    }
}
