//! The thread that serves a control queue, for frontends that pass it on (crosvm).
//!
//! Every command taken is answered at once, so between two bursts there is nothing to remember but
//! the base: each burst finds the ring anew, in the guest's memory and dirty log as they are then.
//! A memory that was unmapped is not held on to by a queue that rests.
//!
//! It is not on the packet path, and a driver that floods it gets no more than 64 commands
//! answered, and no more than one kick looked at, each millisecond.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use virtio_bindings::virtio_net::{VIRTIO_NET_ERR, VIRTIO_NET_OK};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::GuestAddressSpace;

use super::control_command::{Granted, answer};
use super::control_ring::{ControlFault, Served, serve};
use super::vring::{RingContext, SessionMemory};
use crate::datapath::command::{MAX_PAIRS, RingSetup};
use crate::datapath::memory::Memory;
use crate::datapath::ring::{Direction, RingFault, RingUse};
use crate::end::port::{AnyRing, each};

/// Commands answered between two pauses.
const BURST: usize = 64;
/// The pause after each look at the ring.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// How long until the next look for a ring that is not in the guest's memory at the moment: a
/// frontend that changes it slot by slot removes the old slot before it adds the new one.
const ABSENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

const STOP_TOKEN: u64 = 0;
const KICK_TOKEN: u64 = 1;

/// Why a control queue cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlQueueError {
    /// The driver has prepared it badly.
    #[error("The control queue is broken")]
    Ring(#[from] RingFault),
    /// A descriptor or the thread could not be made.
    #[error("Cannot serve the control queue")]
    System(#[from] std::io::Error),
}

/// A control queue that is served. Until the driver says otherwise by it, one pair is in use.
#[derive(Debug)]
pub struct ControlQueue {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<u16>>,
    context: RingContext,
}

struct Server {
    setup: RingSetup,
    memory: SessionMemory,
    context: RingContext,
    /// Of the kick eventfd, edge-triggered and never read, and of the one that stops the thread.
    epoll: OwnedFd,
    stop: Arc<OwnedFd>,
}

impl ControlQueue {
    /// Starts to serve the ring.
    pub fn start(
        setup: RingSetup,
        memory: SessionMemory,
        context: RingContext,
    ) -> Result<Self, ControlQueueError> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?);
        let epoll = watch(&setup.kick, &stop).map_err(std::io::Error::from)?;
        let stop_thread = Arc::clone(&stop);
        let server = Server { setup, memory, context: context.clone(), epoll, stop: stop_thread };
        server.check()?;
        let name = format!("control-{}", context.end.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || server.run())?;
        context.placement.set_active_pairs(context.end, 1);
        Ok(Self { stop, thread: Some(thread), context })
    }

    /// Stops; returns the ring's next available index, or the base of a packed ring.
    pub fn stop(mut self) -> u16 {
        self.end()
    }

    fn end(&mut self) -> u16 {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        let next = self.thread.take().map(JoinHandle::join);
        self.context.placement.set_active_pairs(self.context.end, MAX_PAIRS);
        match next {
            Some(Ok(next)) => next,
            Some(Err(_)) => {
                tracing::error!("the thread of a control queue panicked");
                0
            }
            None => 0,
        }
    }
}

impl Drop for ControlQueue {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

fn watch(kick: impl AsFd, stop: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let token = epoll::EventData::new_u64;
    epoll::add(&epoll, stop, token(STOP_TOKEN), epoll::EventFlags::IN)?;
    let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&epoll, kick, token(KICK_TOKEN), edges)?;
    Ok(epoll)
}

impl Server {
    /// Whether the ring is fit to be served.
    fn check(&self) -> Result<(), RingFault> {
        let memory = Memory::new(&self.memory.memory().into_inner(), None);
        AnyRing::start(&memory, &self.setup, self.usage()).map(|_| ())
    }

    fn usage(&self) -> RingUse {
        let features = self.context.features.load(Relaxed);
        let has = |bit: u32| features & 1 << bit != 0;
        RingUse {
            direction: Direction::ReadThenWrite,
            indirect: has(VIRTIO_RING_F_INDIRECT_DESC),
            event_idx: has(VIRTIO_RING_F_EVENT_IDX),
        }
    }

    /// Returns the base.
    fn run(mut self) -> u16 {
        // Commands may have been waiting since before the ring ran.
        let mut timeout = Some(&NO_WAIT);
        let mut events = Vec::with_capacity(2);
        loop {
            events.clear();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, timeout) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot wait for control commands");
                    return self.setup.base;
                }
            }
            if events.iter().any(|event| event.data.u64() == STOP_TOKEN) {
                return self.setup.base;
            }
            timeout = match self.burst() {
                Some(Ok(true)) => Some(&NO_WAIT),
                Some(Ok(false)) => None,
                Some(Err(fault)) => {
                    self.fail(fault);
                    return self.setup.base;
                }
                None => Some(&ABSENCE),
            };
            // Whether it is told to stop, the next turn of the loop sees.
            let _ = poll(&mut [PollFd::new(&self.stop, PollFlags::IN)], Some(&PAUSE));
        }
    }

    /// Answers commands; returns whether there are more, or `None` when the ring is not in memory.
    fn burst(&mut self) -> Option<Result<bool, ControlFault>> {
        let context = &self.context;
        let mut answer = |command: Option<&[u8]>| reply(context, command);
        // Locked for as long as the log is written: see `RingContext::set_log`.
        let log = context.log.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = Memory::new(&self.memory.memory().into_inner(), log.clone());
        let mut ring = match AnyRing::start(&memory, &self.setup, self.usage()) {
            Ok(ring) => ring,
            Err(RingFault::Unmapped(_)) => return None,
            Err(fault) => return Some(Err(fault.into())),
        };
        let Served { call, more } =
            each!(&mut ring, ring => serve(ring, &memory, BURST, &mut answer));
        self.setup.base = ring.base();
        drop(log);
        if let (true, Some(call)) = (call, &self.setup.call) {
            call.signal();
        }
        Some(more)
    }

    /// The ring rests until the session stops it.
    fn fail(&self, fault: ControlFault) {
        let end = self.context.end;
        if let Some(error) = &self.setup.error {
            error.signal();
        }
        self.context.counters.end(end).ring_faults.fetch_add(1, Relaxed);
        tracing::warn!(end = end.name(), ring = "control", %fault, "ring stopped");
    }
}

/// The byte that answers a command.
fn reply(context: &RingContext, command: Option<&[u8]>) -> u8 {
    let features = context.features.load(Relaxed);
    let granted = command.and_then(|command| answer(features, context.queue_pairs, command));
    if let Some(Granted::Pairs(pairs)) = granted {
        context.placement.set_active_pairs(context.end, pairs);
    }
    let reply = if granted.is_some() { VIRTIO_NET_OK } else { VIRTIO_NET_ERR };
    u8::try_from(reply).unwrap_or(u8::MAX)
}
