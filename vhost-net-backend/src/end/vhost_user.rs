//! An end whose rings lie in a guest's memory, shared by a vhost-user frontend.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::GuestMemoryMmap;

use crate::datapath::command::{RingKind, RingSetup};
use crate::datapath::drop_reason::DropReason;
use crate::datapath::header::{HEADER_LEN, LEGACY_HEADER_LEN};
use crate::datapath::log::DirtyLog;
use crate::datapath::notify::Notifier;
use crate::datapath::receive::{self, FrameBuffer, Received};
use crate::datapath::ring::{Chain, Direction, RingFault, SplitRing};
use crate::datapath::transmit::{self, Scratch};

/// A ring with its eventfds.
#[derive(Debug)]
struct RunningRing {
    ring: SplitRing,
    kick: OwnedFd,
    call: Option<Notifier>,
    error: Option<Notifier>,
    state: RingState,
}

/// Whether the worker may touch a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RingState {
    Working,
    /// Its areas are not in the guest's memory at the moment: a frontend that changes its memory
    /// slot by slot removes the old slot before it adds the new one.
    Suspended,
    /// Stopped for a fault. It stays here, untouched, until the session removes it, so that its
    /// kick eventfd can be taken out of the worker's epoll set before it is closed.
    Broken,
}

impl RunningRing {
    /// The ring, if it may be touched.
    const fn working(&mut self) -> Option<&mut SplitRing> {
        match self.state {
            RingState::Working => Some(&mut self.ring),
            RingState::Suspended | RingState::Broken => None,
        }
    }
}

/// State of a vhost-user end in the worker. Without a frontend it is the [`Default`].
#[derive(Debug, Default)]
pub struct VhostUserEnd {
    memory: Option<Arc<GuestMemoryMmap>>,
    features: u64,
    receive: Option<RunningRing>,
    transmit: Option<RunningRing>,
    chain: Chain,
    scratch: Option<Scratch>,
    /// Where writes to the guest's memory are marked, while its VMM wants that.
    log: Option<Arc<DirtyLog>>,
    /// A fault the worker has not yet counted and reported.
    fault: Option<(RingKind, RingFault)>,
}

impl VhostUserEnd {
    /// Whether frames can be delivered: the driver's receive ring runs.
    pub const fn is_up(&self) -> bool {
        matches!(self.receive, Some(RunningRing { state: RingState::Working, .. }))
    }

    /// The kick eventfd of the driver's transmit ring.
    pub fn kick_fd(&self) -> Option<BorrowedFd<'_>> {
        self.transmit.as_ref().map(|running| running.kick.as_fd())
    }

    /// Takes the fault that stopped a ring since the last call.
    pub const fn take_fault(&mut self) -> Option<(RingKind, RingFault)> {
        self.fault.take()
    }

    /// Features the driver uses from now on.
    pub fn set_features(&mut self, features: u64) {
        self.features = features;
        let (indirect, event_idx) = self.ring_features();
        for running in [&mut self.receive, &mut self.transmit].into_iter().flatten() {
            running.ring.set_features(indirect, event_idx);
        }
    }

    /// The guest's memory from now on. Rings that do not lie in it rest until they do again.
    pub fn set_memory(&mut self, memory: Arc<GuestMemoryMmap>) {
        for running in [&mut self.receive, &mut self.transmit].into_iter().flatten() {
            if running.state != RingState::Broken {
                running.state = match running.ring.check_areas(&memory) {
                    Ok(()) => RingState::Working,
                    Err(_) => RingState::Suspended,
                };
            }
        }
        self.memory = Some(memory);
    }

    /// Marks every page written from now on in `log`.
    pub fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        self.log = log;
    }

    /// Starts a ring. A ring the guest has prepared badly does not start, and is a fault.
    pub fn start(&mut self, id: RingKind, setup: RingSetup) {
        let RingSetup { layout, kick, call, error, .. } = setup;
        let direction = match id {
            RingKind::Receive => Direction::Write,
            RingKind::Transmit => Direction::Read,
        };
        let (indirect, event_idx) = self.ring_features();
        let started = match &self.memory {
            Some(memory) => SplitRing::start(memory, layout, direction, indirect, event_idx),
            None => Err(RingFault::Unmapped(layout.descriptors)),
        };
        match started {
            Ok(ring) => {
                if id == RingKind::Receive {
                    self.scratch = Some(Scratch::new(ring.size()));
                } else {
                    self.chain = Chain::with_capacity(ring.size());
                }
                *self.slot(id) =
                    Some(RunningRing { ring, kick, call, error, state: RingState::Working });
                if id == RingKind::Receive {
                    self.quiet_receive_ring();
                }
            }
            Err(fault) => {
                if let Some(error) = &error {
                    error.signal();
                }
                self.fault = Some((id, fault));
            }
        }
    }

    /// Stops a ring. Returns its next available index, or `None` when it does not run.
    pub fn stop(&mut self, id: RingKind) -> Option<u16> {
        self.slot(id).take().map(|running| running.ring.next_avail())
    }

    /// Replaces the call eventfd of a running ring, and signals the new one: a call may have gone
    /// to the old one unseen.
    pub fn set_call(&mut self, id: RingKind, call: Option<Notifier>) {
        if let Some(running) = self.slot(id) {
            if let Some(call) = &call {
                call.signal();
            }
            running.call = call;
        }
    }

    /// Replaces the error eventfd of a running ring.
    pub fn set_error(&mut self, id: RingKind, error: Option<Notifier>) {
        if let Some(running) = self.slot(id) {
            running.error = error;
        }
    }

    /// Prepares a turn: looks how many chains the driver has made available.
    pub fn begin(&mut self) {
        self.with_ring(RingKind::Transmit, |ring, memory| {
            ring.disable_kicks(memory)?;
            ring.look(memory)
        });
    }

    /// Takes the next frame the driver transmits.
    pub fn receive(&mut self, buffer: &mut FrameBuffer) -> Received {
        let header_len = self.header_len();
        let (Some(memory), Some(ring)) =
            (&self.memory, self.transmit.as_mut().and_then(RunningRing::working))
        else {
            return Received::Empty;
        };
        match receive::receive(ring, memory, &mut self.chain, header_len, buffer) {
            Ok(received) => received,
            Err(fault) => {
                self.stop_for(RingKind::Transmit, fault);
                Received::Empty
            }
        }
    }

    /// Puts a frame into the driver's receive ring.
    pub fn deliver(&mut self, frame: &[u8]) -> Result<(), DropReason> {
        let header_len = self.header_len();
        let mergeable = self.has(VIRTIO_NET_F_MRG_RXBUF);
        let (Some(memory), Some(ring), Some(scratch)) =
            (&self.memory, self.receive.as_mut().and_then(RunningRing::working), &mut self.scratch)
        else {
            return Err(DropReason::PeerDown);
        };
        match transmit::deliver(ring, memory, scratch, header_len, mergeable, frame) {
            Ok(delivery) => {
                if let Some(log) = &self.log {
                    for segment in scratch.segments() {
                        log.mark(segment.address.0, u64::from(segment.len));
                    }
                }
                delivery
            }
            Err(fault) => {
                self.stop_for(RingKind::Receive, fault);
                Err(DropReason::PeerDown)
            }
        }
    }

    /// Publishes used chains of both rings, and calls the driver where it wants that.
    pub fn publish(&mut self) {
        for id in [RingKind::Receive, RingKind::Transmit] {
            let call = self.with_ring(id, SplitRing::publish);
            if call == Some(true)
                && let Some(RunningRing { call: Some(call), .. }) = self.slot(id)
            {
                call.signal();
            }
        }
    }

    /// Asks for kicks; returns whether chains became available meanwhile.
    pub fn rearm(&mut self) -> bool {
        self.with_ring(RingKind::Transmit, SplitRing::enable_kicks).unwrap_or(false)
    }

    /// The link never waits for receive buffers: a frame that finds none is dropped.
    fn quiet_receive_ring(&mut self) {
        self.with_ring(RingKind::Receive, SplitRing::disable_kicks);
    }

    fn with_ring<T>(
        &mut self,
        id: RingKind,
        act: impl FnOnce(&mut SplitRing, &GuestMemoryMmap) -> Result<T, RingFault>,
    ) -> Option<T> {
        let slot = match id {
            RingKind::Receive => &mut self.receive,
            RingKind::Transmit => &mut self.transmit,
        };
        let (Some(memory), Some(ring)) =
            (&self.memory, slot.as_mut().and_then(RunningRing::working))
        else {
            return None;
        };
        let result = act(ring, memory);
        mark_used(self.log.as_deref(), ring);
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.stop_for(id, fault);
                None
            }
        }
    }

    /// Stops a ring for a fault: what was used before it is published, its error eventfd is
    /// signalled, and the worker is told.
    fn stop_for(&mut self, id: RingKind, fault: RingFault) {
        let slot = match id {
            RingKind::Receive => &mut self.receive,
            RingKind::Transmit => &mut self.transmit,
        };
        if let Some(running) = slot {
            running.state = RingState::Broken;
            if let Some(memory) = &self.memory
                && let (Ok(true), Some(call)) = (running.ring.publish(memory), &running.call)
            {
                call.signal();
            }
            mark_used(self.log.as_deref(), &running.ring);
            if let Some(error) = &running.error {
                error.signal();
            }
        }
        self.fault = Some((id, fault));
    }

    const fn slot(&mut self, id: RingKind) -> &mut Option<RunningRing> {
        match id {
            RingKind::Receive => &mut self.receive,
            RingKind::Transmit => &mut self.transmit,
        }
    }

    const fn has(&self, feature: u32) -> bool {
        self.features & (1 << feature) != 0
    }

    const fn header_len(&self) -> usize {
        if self.has(VIRTIO_F_VERSION_1) || self.has(VIRTIO_NET_F_MRG_RXBUF) {
            HEADER_LEN
        } else {
            LEGACY_HEADER_LEN
        }
    }

    /// Whether indirect descriptors and event indices are in use.
    const fn ring_features(&self) -> (bool, bool) {
        (self.has(VIRTIO_RING_F_INDIRECT_DESC), self.has(VIRTIO_RING_F_EVENT_IDX))
    }
}

/// Marks the used ring, which anything done to a ring may have written.
fn mark_used(log: Option<&DirtyLog>, ring: &SplitRing) {
    if let Some(log) = log {
        let (address, len) = ring.used_area();
        log.mark(address, len);
    }
}
