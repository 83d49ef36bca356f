//! An end whose rings lie in a guest's memory, shared by a vhost-user frontend.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::GuestMemoryMmap;

use super::port::{AnyRing, Negotiated, Port, State, each};
use super::sink::MAX_BUFFERS;
use super::{AnySink, AnySource};
use crate::datapath::command::{RingId, RingKind, RingSetup};
use crate::datapath::header::{HEADER_LEN, LEGACY_HEADER_LEN};
use crate::datapath::log::DirtyLog;
use crate::datapath::memory::Memory;
use crate::datapath::notify::Notifier;
use crate::datapath::ring::chain::Chains;
use crate::datapath::ring::{Direction, Ring, RingFault, RingUse};

/// The rings of a queue pair that run.
#[derive(Debug, Default)]
struct Pair {
    receive: Option<Port>,
    transmit: Option<Port>,
}

/// State of a vhost-user end in the worker. Without a frontend it is the [`Default`].
#[derive(Debug, Default)]
pub struct VhostUserEnd {
    memory: Option<Memory>,
    /// Where writes to the guest's memory are marked, while its VMM wants that.
    log: Option<Arc<DirtyLog>>,
    features: u64,
    pairs: Vec<Pair>,
    /// A fault the worker has not yet counted and reported.
    fault: Option<(RingId, RingFault)>,
}

impl VhostUserEnd {
    /// Whether frames can be delivered: one of the driver's receive rings runs.
    pub fn is_up(&self) -> bool {
        self.pairs.iter().any(|pair| pair.receive.as_ref().is_some_and(Port::is_working))
    }

    /// The kick eventfds of the driver's transmit rings.
    pub fn kicks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pairs.iter().filter_map(|pair| Some(pair.transmit.as_ref()?.kick.as_fd()))
    }

    /// Queue pairs, running or not.
    pub const fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Takes the fault that stopped a ring since the last call.
    pub const fn take_fault(&mut self) -> Option<(RingId, RingFault)> {
        self.fault.take()
    }

    fn ports(&mut self) -> impl Iterator<Item = (RingId, &mut Port)> {
        self.pairs.iter_mut().enumerate().flat_map(|(pair, Pair { receive, transmit })| {
            let id = |kind| RingId::new(pair, kind);
            let receive = id(RingKind::Receive).zip(receive.as_mut());
            receive.into_iter().chain(id(RingKind::Transmit).zip(transmit.as_mut()))
        })
    }

    /// Features the driver uses from now on.
    pub fn set_features(&mut self, features: u64) {
        self.features = features;
        for (id, port) in self.ports() {
            let usage = ring_use(id.kind(), features);
            each!(&mut port.ring, ring => ring.set_usage(usage));
            port.rewind();
        }
    }

    /// The guest's memory from now on. Rings that do not lie in it rest until they do again.
    pub fn set_memory(&mut self, memory: &Arc<GuestMemoryMmap>) {
        let memory = Memory::new(memory, self.log.clone());
        for (_, port) in self.ports() {
            // What was taken lies in the old memory.
            port.rewind();
            if port.state != State::Broken {
                port.state = match each!(&mut port.ring, ring => ring.attach(&memory)) {
                    Ok(()) => State::Working,
                    Err(_) => State::Suspended,
                };
            }
        }
        self.memory = Some(memory);
    }

    /// Marks every page written from now on in `log`.
    pub fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        self.log.clone_from(&log);
        if let Some(memory) = &mut self.memory {
            memory.set_log(log);
        }
    }

    /// Starts a ring. A ring the guest has prepared badly does not start, and is a fault.
    pub fn start(&mut self, id: RingId, setup: RingSetup) {
        let usage = ring_use(id.kind(), self.features);
        let started = match &self.memory {
            Some(memory) => AnyRing::start(memory, &setup, usage),
            None => Err(RingFault::Unmapped(setup.layout.descriptors)),
        };
        let RingSetup { layout, kick, call, error, .. } = setup;
        match started {
            Ok(ring) => {
                let chains = Chains::with_capacity(layout.size);
                let state = State::Working;
                let (fault, call_wanted) = (None, false);
                let port = Port { ring, chains, kick, call, error, state, fault, call_wanted };
                *self.slot(id) = Some(port);
                self.disarm();
            }
            Err(fault) => {
                if let Some(error) = &error {
                    error.signal();
                }
                self.fault = Some((id, fault));
            }
        }
    }

    /// Stops a ring. Returns where the driver's next unused buffer is, or `None` when it does not
    /// run.
    pub fn stop(&mut self, id: RingId) -> Option<u16> {
        self.slot(id).take().map(|port| port.ring.base())
    }

    /// Replaces the call eventfd of a running ring, and signals the new one: a call may have gone
    /// to the old one unseen.
    pub fn set_call(&mut self, id: RingId, call: Option<Notifier>) {
        if let Some(port) = self.slot(id) {
            if let Some(call) = &call {
                call.signal();
            }
            port.call = call;
        }
    }

    /// Replaces the error eventfd of a running ring.
    pub fn set_error(&mut self, id: RingId, error: Option<Notifier>) {
        if let Some(port) = self.slot(id) {
            port.error = error;
        }
    }

    /// The transmit ring of a pair, if it runs.
    pub fn source(&mut self, pair: usize) -> Option<AnySource<'_>> {
        let usage = negotiated(self.memory.as_ref()?, self.features);
        let port = self.pairs.get_mut(pair)?.transmit.as_mut().filter(|port| port.is_working())?;
        Some(port.source(usage))
    }

    /// The receive ring for the frames of the other end's pair `pair`.
    pub fn sink(&mut self, pair: usize) -> AnySink<'_> {
        let Some(memory) = &self.memory else {
            return AnySink::Nowhere;
        };
        let usage = negotiated(memory, self.features);
        let working = |pair: &Pair| pair.receive.as_ref().is_some_and(Port::is_working);
        let running = self.pairs.iter().filter(|pair| working(pair)).count();
        let ports = self.pairs.iter_mut().filter_map(|pair| pair.receive.as_mut());
        let mut ports = ports.filter(|port| port.is_working());
        // Frames of one pair stay in order: they all go to one ring.
        let port = pair.checked_rem(running).and_then(|index| ports.nth(index));
        port.map_or(AnySink::Nowhere, |port| port.sink(usage))
    }

    /// Ends a turn: calls the driver where it wants that, and stops rings that are at fault.
    pub fn settle(&mut self) {
        let mut found = None;
        let memory = self.memory.take();
        for (id, port) in self.ports() {
            if std::mem::take(&mut port.call_wanted)
                && let Some(call) = &port.call
            {
                call.signal();
            }
            if let (Some(fault), State::Working) = (port.fault, port.state) {
                stop_for_fault(port, memory.as_ref());
                found = Some((id, fault));
            }
        }
        self.memory = memory;
        self.fault = found.or(self.fault.take());
    }

    /// Tells the driver that no kicks are needed. For receive rings that holds always: the link
    /// does not sleep for want of buffers.
    pub fn disarm(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        for (_, port) in self.ports().filter(|(_, port)| port.is_working()) {
            let result = each!(&mut port.ring, ring => ring.disable_kicks(&memory));
            port.fault = result.err();
        }
        self.memory = Some(memory);
    }

    /// Asks for kicks; returns whether chains became available meanwhile, or a ring is at fault:
    /// then there is something to do before the worker sleeps.
    pub fn rearm(&mut self) -> bool {
        let Some(memory) = self.memory.take() else {
            return false;
        };
        let mut more = false;
        for (id, port) in self.ports().filter(|(_, port)| port.is_working()) {
            if id.kind() == RingKind::Transmit {
                match each!(&mut port.ring, ring => ring.enable_kicks(&memory)) {
                    // Frames that were taken and had to wait are waited for no longer.
                    Ok(found) => more |= found || !port.chains.is_empty(),
                    Err(fault) => {
                        port.fault = Some(fault);
                        more = true;
                    }
                }
            }
        }
        self.memory = Some(memory);
        more
    }

    fn slot(&mut self, id: RingId) -> &mut Option<Port> {
        let index = usize::from(id.pair());
        if index >= self.pairs.len() {
            // No more than MAX_PAIRS.
            self.pairs.resize_with(index + 1, Pair::default);
        }
        let pair = &mut self.pairs[index];
        match id.kind() {
            RingKind::Receive => &mut pair.receive,
            RingKind::Transmit => &mut pair.transmit,
        }
    }
}

/// Stops a ring for a fault: what was used before it is published, and its error eventfd is
/// signalled.
fn stop_for_fault(port: &mut Port, memory: Option<&Memory>) {
    port.state = State::Broken;
    if let Some(memory) = memory
        && let (Ok(true), Some(call)) =
            (each!(&mut port.ring, ring => ring.publish(memory)), &port.call)
    {
        call.signal();
    }
    if let Some(error) = &port.error {
        error.signal();
    }
}

const fn has(features: u64, feature: u32) -> bool {
    features & (1 << feature) != 0
}

const fn negotiated(memory: &Memory, features: u64) -> Negotiated<'_> {
    let mergeable = has(features, VIRTIO_NET_F_MRG_RXBUF);
    let long_header = has(features, VIRTIO_F_VERSION_1) || mergeable;
    Negotiated {
        memory,
        features,
        header_len: if long_header { HEADER_LEN } else { LEGACY_HEADER_LEN },
        max_buffers: if mergeable { MAX_BUFFERS } else { 1 },
    }
}

fn ring_use(kind: RingKind, features: u64) -> RingUse {
    RingUse {
        direction: match kind {
            RingKind::Receive => Direction::Write,
            RingKind::Transmit => Direction::Read,
        },
        indirect: has(features, VIRTIO_RING_F_INDIRECT_DESC),
        event_idx: has(features, VIRTIO_RING_F_EVENT_IDX),
    }
}
