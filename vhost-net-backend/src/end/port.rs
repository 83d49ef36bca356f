//! A running ring with its eventfds.

use std::os::fd::OwnedFd;

use super::sink::RingSink;
use super::source::RingSource;
use super::{AnySink, AnySource};
use crate::datapath::command::RingSetup;
use crate::datapath::header::HEADER_LEN;
use crate::datapath::lane::Lane;
use crate::datapath::memory::Memory;
use crate::datapath::notify::Notifier;
use crate::datapath::ring::chain::Chains;
use crate::datapath::ring::packed::PackedRing;
use crate::datapath::ring::split::SplitRing;
use crate::datapath::ring::{Ring, RingFault, RingUse};

/// Descriptors that a driver can have the link walk in a turn, of chains with more than one; the
/// chain that reaches it is the last. Some 0.1 ms, within which the other direction and commands
/// wait. What a driver offers beyond that is looked at in the next turn.
const WALK_BUDGET: u64 = 8192;

/// A ring of either kind.
#[derive(Debug)]
pub(crate) enum AnyRing {
    Split(SplitRing),
    Packed(PackedRing),
}

/// Calls a method of the ring inside.
macro_rules! each {
    ($ring:expr, $inner:ident => $call:expr) => {
        match $ring {
            AnyRing::Split($inner) => $call,
            AnyRing::Packed($inner) => $call,
        }
    };
}
pub(crate) use each;

impl AnyRing {
    /// Starts on a ring.
    pub(crate) fn start(
        memory: &Memory,
        setup: &RingSetup,
        usage: RingUse,
    ) -> Result<Self, RingFault> {
        if setup.packed {
            PackedRing::start(memory, setup.layout, usage, setup.base).map(Self::Packed)
        } else {
            SplitRing::start(memory, setup.layout, usage).map(Self::Split)
        }
    }

    /// The first entry not used.
    pub(crate) const fn base(&self) -> u16 {
        each!(self, ring => ring.base())
    }
}

/// Whether the worker may touch a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Working,
    /// Its areas are not in the guest's memory at the moment: a frontend that changes its memory
    /// slot by slot removes the old slot before it adds the new one.
    Suspended,
    /// Stopped for a fault. It stays here, untouched, until the session removes it, so that its
    /// kick eventfd can be taken out of the worker's epoll set before it is closed.
    Broken,
}

/// A ring with its eventfds.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) ring: AnyRing,
    /// Taken and not yet used.
    pub(super) chains: Chains,
    pub(super) kick: OwnedFd,
    pub(super) call: Option<Notifier>,
    pub(super) error: Option<Notifier>,
    pub(super) state: State,
    /// What went wrong in this turn; the end looks at it when the turn is over.
    pub(super) fault: Option<RingFault>,
    /// Whether the driver wants a call for what was published in this turn.
    pub(super) call_wanted: bool,
}

impl Port {
    /// Whether the packet path may use it.
    pub(super) fn is_working(&self) -> bool {
        self.state == State::Working && self.fault.is_none()
    }

    /// Forgets chains taken and not used: memory or features have changed.
    pub(super) fn rewind(&mut self) {
        self.chains.clear();
        each!(&mut self.ring, ring => ring.rewind());
    }

    /// The port of a transmit ring, for a turn.
    pub(super) fn source<'a>(&'a mut self, usage: Negotiated<'a>) -> AnySource<'a> {
        let Self { ring, chains, fault, call_wanted, .. } = self;
        let turn = (fault, call_wanted);
        match ring {
            AnyRing::Split(ring) => {
                AnySource::Split(RingSource(Parts::new(ring, chains, turn, usage)))
            }
            AnyRing::Packed(ring) => {
                AnySource::Packed(RingSource(Parts::new(ring, chains, turn, usage)))
            }
        }
    }

    /// The port of a receive ring, for a turn.
    pub(super) fn sink<'a>(&'a mut self, usage: Negotiated<'a>) -> AnySink<'a> {
        let Self { ring, chains, fault, call_wanted, .. } = self;
        let turn = (fault, call_wanted);
        match ring {
            AnyRing::Split(ring) => AnySink::Split(RingSink(Parts::new(ring, chains, turn, usage))),
            AnyRing::Packed(ring) => {
                AnySink::Packed(RingSink(Parts::new(ring, chains, turn, usage)))
            }
        }
    }
}

/// What driver and device have agreed on, and the memory they share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiated<'a> {
    pub(super) memory: &'a Memory,
    pub(super) features: u64,
    /// Bytes of the virtio-net header.
    pub(super) header_len: usize,
    /// Receive buffers that a frame may take.
    pub(super) max_buffers: usize,
}

/// The parts of a port that a turn needs, with the kind of the ring known.
#[derive(Debug)]
pub struct Parts<'a, R> {
    pub(super) ring: &'a mut R,
    pub(super) chains: &'a mut Chains,
    pub(super) fault: &'a mut Option<RingFault>,
    pub(super) call_wanted: &'a mut bool,
    pub(super) usage: Negotiated<'a>,
    /// Where [`Chains::walked`] may come to in this turn.
    walk_limit: u64,
}

impl<'a, R: Ring> Parts<'a, R> {
    fn new(
        ring: &'a mut R,
        chains: &'a mut Chains,
        (fault, call_wanted): (&'a mut Option<RingFault>, &'a mut bool),
        usage: Negotiated<'a>,
    ) -> Self {
        let walk_limit = chains.walked().wrapping_add(WALK_BUDGET);
        Self { ring, chains, fault, call_wanted, usage, walk_limit }
    }

    /// Notes a fault; from then on nothing is taken from the ring.
    pub(super) fn check<T>(&mut self, result: Result<T, RingFault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                None
            }
        }
    }

    pub(super) fn take(&mut self, limit: usize) {
        if self.fault.is_none() && self.chains.walked() < self.walk_limit {
            let taken = self.ring.take(self.usage.memory, self.chains, limit);
            self.check(taken);
        }
    }

    /// What [`Lane`] says.
    #[inline]
    pub(super) fn lane(&self) -> Option<Lane<'_>> {
        // Pages that are written to are marked on the long way only.
        let fits = self.usage.header_len == HEADER_LEN && !self.usage.memory.is_logged();
        let lane = Lane { memory: self.usage.memory, chains: self.chains.as_slice() };
        fits.then_some(lane)
    }

    /// Marks the `count` oldest chains as used, with so many bytes written to each.
    #[inline]
    pub(super) fn use_up(&mut self, count: usize, written: impl Iterator<Item = u32>) {
        let oldest = self.chains.as_slice().get(..count).unwrap_or_default();
        let used = self.ring.push_all_used(self.usage.memory, oldest, written);
        self.chains.advance(count);
        self.check(used);
    }

    pub(super) fn publish(&mut self) {
        let published = self.ring.publish(self.usage.memory);
        *self.call_wanted |= self.check(published).unwrap_or(false);
    }
}
