//! The thread that serves a control queue, for frontends that pass it on (crosvm).
//!
//! It is not on the packet path, and a driver that floods it gets no more than 64 commands
//! answered, and no more than one kick looked at, each millisecond.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use virtio_bindings::virtio_net::{VIRTIO_NET_ERR, VIRTIO_NET_OK};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use super::control_command::{Granted, answer};
use super::control_ring::{ControlFault, ControlRing};
use super::vring::{RingContext, SessionMemory};
use crate::datapath::command::{MAX_PAIRS, RingSetup};
use crate::datapath::notify::Notifier;

/// Commands answered between two pauses.
const BURST: usize = 64;
/// The pause after each look at the ring.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

const STOP_TOKEN: u64 = 0;
const KICK_TOKEN: u64 = 1;

/// Why a control queue cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlQueueError {
    /// It is packed.
    #[error("A packed control queue is not served; no frontend passes one on")]
    Packed,
    /// The driver has prepared it badly.
    #[error("The control queue is broken")]
    Ring(#[from] ControlFault),
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
    ring: ControlRing,
    memory: SessionMemory,
    context: RingContext,
    call: Option<Notifier>,
    error: Option<Notifier>,
    /// Of the kick eventfd, edge-triggered and never read, and of the one that stops the thread.
    epoll: OwnedFd,
    _kick: OwnedFd,
    stop: Arc<OwnedFd>,
}

impl ControlQueue {
    /// Starts to serve the ring.
    pub fn start(
        setup: RingSetup,
        memory: SessionMemory,
        context: RingContext,
    ) -> Result<Self, ControlQueueError> {
        if setup.packed {
            return Err(ControlQueueError::Packed);
        }
        let features = context.features.load(Relaxed);
        let has = |bit: u32| features & 1 << bit != 0;
        let (indirect, event_idx) =
            (has(VIRTIO_RING_F_INDIRECT_DESC), has(VIRTIO_RING_F_EVENT_IDX));
        let ring = ControlRing::start(&memory.memory(), setup.layout, indirect, event_idx)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?);
        let epoll = watch(&setup.kick, &stop).map_err(std::io::Error::from)?;
        let server = Server {
            ring,
            memory,
            context: context.clone(),
            call: setup.call,
            error: setup.error,
            epoll,
            _kick: setup.kick,
            stop: Arc::clone(&stop),
        };
        let name = format!("control-{}", context.end.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || server.run())?;
        context.placement.set_active_pairs(context.end, 1);
        Ok(Self { stop, thread: Some(thread), context })
    }

    /// Stops; returns the ring's next available index.
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
                    return self.ring.next_avail();
                }
            }
            if events.iter().any(|event| event.data.u64() == STOP_TOKEN) {
                return self.ring.next_avail();
            }
            let memory = self.memory.memory();
            match self.burst(&memory) {
                Ok(is_done) => timeout = if is_done { None } else { Some(&NO_WAIT) },
                Err(fault) => {
                    self.fail(fault);
                    return self.ring.next_avail();
                }
            }
            // Whether it is told to stop, the next turn of the loop sees.
            let _ = poll(&mut [PollFd::new(&self.stop, PollFlags::IN)], Some(&PAUSE));
        }
    }

    /// Answers commands; returns whether these were all.
    fn burst(&mut self, memory: &GuestMemoryMmap) -> Result<bool, ControlFault> {
        let features = self.context.features.load(Relaxed);
        let mut answered = 0;
        let result = loop {
            let chain = match self.ring.take(memory) {
                Ok(Some(_)) if answered == BURST => break Ok(false),
                Ok(Some(chain)) => chain,
                Ok(None) => break Ok(true),
                Err(fault) => break Err(fault),
            };
            let granted = chain
                .command
                .as_ref()
                .and_then(|command| answer(features, self.context.queue_pairs, command));
            if let Some(Granted::Pairs(pairs)) = granted {
                self.context.placement.set_active_pairs(self.context.end, pairs);
            }
            let ack = if granted.is_some() { VIRTIO_NET_OK } else { VIRTIO_NET_ERR };
            let ack = u8::try_from(ack).unwrap_or(u8::MAX);
            if let Err(fault) = self.ring.answer(memory, &chain, ack) {
                break Err(fault);
            }
            self.context.mark(chain.answer, 1);
            answered += 1;
        };
        let (used, len) = self.ring.used_area();
        self.context.mark(used, len);
        if let (1.., Some(call)) = (answered, &self.call) {
            call.signal();
        }
        result
    }

    /// The ring rests until the session stops it.
    fn fail(&self, fault: ControlFault) {
        let end = self.context.end;
        if let Some(error) = &self.error {
            error.signal();
        }
        self.context.counters.end(end).ring_faults.fetch_add(1, Relaxed);
        tracing::warn!(end = end.name(), ring = "control", %fault, "ring stopped");
    }
}
