//! Which packet worker runs which ring.
//!
//! There is a worker for each queue pair the link may have. While both ends run the same pairs,
//! worker i has pair i of both ends, and nothing is shared between workers. While they do not (one
//! guest uses fewer pairs, or its rings are just being set up), every ring is at worker 0, which
//! spreads the frames of the end with more pairs over the other's. When that changes, rings move:
//! they are stopped at one worker and started at another where they were left, so no frame is
//! lost, repeated or overtaken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_memory::GuestMemoryMmap;

use crate::datapath::EndId;
use crate::datapath::command::{
    Command, MAX_PAIRS, RingId, RingKind, RingSetup, WorkerError, WorkerHandle,
};
use crate::datapath::log::DirtyLog;
use crate::datapath::notify::Notifier;
use crate::mac::MacAddr;

/// Has a worker carry out commands.
pub trait Commands: Send {
    /// Has it carry out `command` for `end`; returns its answer.
    fn request(&self, end: EndId, command: Command) -> u16;
}

impl Commands for WorkerHandle {
    /// A worker that is stuck cannot be helped from here, and must not make the other end's
    /// frontend wait: the process ends, and its supervisor starts another, which resumes where the
    /// guests' rings are.
    fn request(&self, end: EndId, command: Command) -> u16 {
        match Self::request(self, end, command) {
            Ok(answer) => answer,
            Err(WorkerError::Gone) => 0,
            Err(error @ WorkerError::Stuck) => {
                tracing::error!(end = end.name(), "{error}");
                std::process::abort();
            }
        }
    }
}

/// The rings of both ends over all workers.
#[derive(Debug)]
pub struct Placement<W = WorkerHandle> {
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    workers: Vec<W>,
    ends: [EndRings; 2],
}

/// The rings of one end.
#[derive(Debug)]
struct EndRings {
    rings: [Ring; 2 * MAX_PAIRS],
    /// Pairs the driver uses, of those that are set up.
    active: usize,
}

/// One ring.
#[derive(Debug, Default)]
struct Ring {
    /// How it is to run, if it is.
    setup: Option<RingSetup>,
    /// The worker that runs it.
    worker: Option<usize>,
}

impl Default for EndRings {
    fn default() -> Self {
        Self { rings: Default::default(), active: MAX_PAIRS }
    }
}

impl EndRings {
    /// Whether this ring is to run: it is set up, and its pair is in use.
    fn is_wanted(&self, ring: RingId) -> bool {
        usize::from(ring.pair()) < self.active && self.rings[ring.index()].setup.is_some()
    }

    /// The pairs that run, as a bit mask; `None` while a pair runs by half.
    fn running_pairs(&self) -> Option<u8> {
        let mut mask = 0;
        for pair in 0..MAX_PAIRS {
            let [receive, transmit] = [RingKind::Receive, RingKind::Transmit]
                .map(|kind| RingId::new(pair, kind).is_some_and(|ring| self.is_wanted(ring)));
            if receive != transmit {
                return None;
            }
            mask |= u8::from(receive) << pair;
        }
        Some(mask)
    }
}

impl<W: Commands> Placement<W> {
    /// No ring runs on any of these workers, of which there is at least one.
    pub fn new(workers: Vec<W>) -> Self {
        Self { state: Mutex::new(State { workers, ends: Default::default() }) }
    }

    /// Sets a ring up, changes it, or takes it down. `setup` is given the base where the ring was
    /// stopped, if it was set up before, and returns how it is to run, if it is.
    pub fn change(
        &self,
        end: EndId,
        ring: RingId,
        setup: impl FnOnce(Option<u16>) -> Option<RingSetup>,
    ) {
        let mut state = self.lock();
        state.hold_peer(end, ring);
        let base = state.stop(end, ring);
        state.ring(end, ring).setup = setup(base);
        state.settle();
    }

    /// How many pairs of those set up the driver uses: the first ones. The others rest.
    pub fn set_active_pairs(&self, end: EndId, pairs: usize) {
        let mut state = self.lock();
        state.ends[end.index()].active = pairs;
        state.settle();
    }

    /// Replaces the call eventfd of a ring.
    pub fn set_call(&self, end: EndId, ring: RingId, call: Option<Notifier>) {
        let slot = |setup: &mut RingSetup, call| setup.call = call;
        self.set_notifier(end, ring, call, slot, Command::Call);
    }

    /// Replaces the error eventfd of a ring.
    pub fn set_error(&self, end: EndId, ring: RingId, error: Option<Notifier>) {
        let slot = |setup: &mut RingSetup, error| setup.error = error;
        self.set_notifier(end, ring, error, slot, Command::Error);
    }

    fn set_notifier(
        &self,
        end: EndId,
        ring: RingId,
        notifier: Option<Notifier>,
        slot: impl FnOnce(&mut RingSetup, Option<Notifier>),
        command: impl FnOnce(RingId, Option<Notifier>) -> Command,
    ) {
        let mut state = self.lock();
        let known = state.ring(end, ring);
        let worker = known.worker;
        let Some(setup) = &mut known.setup else {
            return;
        };
        match notifier.as_ref().map(Notifier::try_clone).transpose() {
            Ok(copy) => slot(setup, copy),
            Err(error) => {
                tracing::error!(end = end.name(), %error, "cannot keep a ring's eventfd");
                return;
            }
        }
        if let Some(worker) = worker {
            state.request(worker, end, command(ring, notifier));
        }
    }

    /// The driver's features were negotiated.
    pub fn set_features(&self, end: EndId, features: u64) {
        self.lock().request_all(end, || Command::Features(features));
    }

    /// The guest's memory is this from now on.
    pub fn set_memory(&self, end: EndId, memory: &Arc<GuestMemoryMmap>) {
        self.lock().request_all(end, || Command::Memory(Arc::clone(memory)));
    }

    /// Writes to the guest's memory are marked in this log from now on.
    pub fn set_log(&self, end: EndId, log: Option<&Arc<DirtyLog>>) {
        self.lock().request_all(end, || Command::Log(log.cloned()));
    }

    /// Tells the other end that `mac` is at `end` now.
    pub fn announce(&self, end: EndId, mac: MacAddr) {
        self.lock().request(0, end, Command::Announce(mac));
    }

    /// The frontend is gone, and with it all rings of its end.
    pub fn disconnect(&self, end: EndId) {
        let mut state = self.lock();
        state.request_all(end, || Command::Disconnect);
        state.ends[end.index()] = EndRings::default();
        state.settle();
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Commands> State<W> {
    /// The pairs that are spread over the workers, as a bit mask; none while rings gather.
    fn spread(&self) -> u8 {
        let [guest, netvm] = self.ends.each_ref().map(EndRings::running_pairs);
        guest.filter(|_| guest == netvm).unwrap_or_default()
    }

    /// The worker for a ring that is wanted.
    fn home(&self, ring: RingId) -> usize {
        let pair = usize::from(ring.pair());
        let is_spread = self.spread() >> pair & 1 == 1;
        if is_spread && pair < self.workers.len() { pair } else { 0 }
    }

    /// Before a receive ring stops whose worker has no other: has the other end's frames for it
    /// wait in their ring, until it is known where they go. [`State::settle`] starts that again.
    fn hold_peer(&mut self, end: EndId, ring: RingId) {
        if ring.kind() == RingKind::Receive
            && self.spread().count_ones() > 1
            && let Some(transmit) = RingId::new(usize::from(ring.pair()), RingKind::Transmit)
        {
            self.stop(end.other(), transmit);
        }
    }

    /// Moves rings to where they are to be.
    fn settle(&mut self) {
        let rings = |kind| {
            let pairs = (0..MAX_PAIRS).filter_map(move |pair| RingId::new(pair, kind));
            pairs.flat_map(|ring| [EndId::Guest, EndId::Netvm].map(|end| (end, ring)))
        };
        // Whoever sends stops first and starts last, so that its frames wait in its ring
        // meanwhile, and do not find the other's ring gone.
        for (end, ring) in rings(RingKind::Transmit).chain(rings(RingKind::Receive)) {
            let is_wanted = self.ends[end.index()].is_wanted(ring);
            let home = is_wanted.then(|| self.home(ring));
            if self.ring(end, ring).worker != home {
                self.stop(end, ring);
            }
        }
        for (end, ring) in rings(RingKind::Receive).chain(rings(RingKind::Transmit)) {
            self.start(end, ring);
        }
    }

    /// Stops a ring where it runs, keeping its setup with the base. Returns the base.
    fn stop(&mut self, end: EndId, ring: RingId) -> Option<u16> {
        if let Some(worker) = self.ring(end, ring).worker.take() {
            let base = self.request(worker, end, Command::Stop(ring));
            if let Some(setup) = &mut self.ring(end, ring).setup {
                setup.base = base;
            }
        }
        self.ring(end, ring).setup.as_ref().map(|setup| setup.base)
    }

    /// Starts a ring that is wanted and does not run.
    fn start(&mut self, end: EndId, ring: RingId) {
        if !self.ends[end.index()].is_wanted(ring) {
            return;
        }
        let home = self.home(ring);
        let known = self.ring(end, ring);
        let (None, Some(setup)) = (known.worker, &known.setup) else {
            return;
        };
        match setup.try_clone() {
            Ok(setup) => {
                known.worker = Some(home);
                self.request(home, end, Command::Start(ring, setup));
            }
            Err(error) => {
                tracing::error!(end = end.name(), %ring, %error, "cannot start a ring");
            }
        }
    }

    const fn ring(&mut self, end: EndId, ring: RingId) -> &mut Ring {
        &mut self.ends[end.index()].rings[ring.index()]
    }

    fn request(&self, worker: usize, end: EndId, command: Command) -> u16 {
        self.workers.get(worker).map_or(0, |worker| worker.request(end, command))
    }

    fn request_all(&self, end: EndId, command: impl Fn() -> Command) {
        for worker in &self.workers {
            worker.request(end, command());
        }
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
