//! What an end of a link can be: a vhost-user frontend or a TAP.

pub mod sink;
pub mod source;
pub mod tap;
pub mod vhost_user;

pub(crate) mod port;
#[path = "sys.rs"]
mod sys;

use std::os::fd::BorrowedFd;

use crate::datapath::carry::{Carrier, Nowhere, Sink, Source, Turn};
use crate::datapath::drop_reason::DropReason;
use crate::datapath::header::HeaderWords;
use crate::datapath::packet::Packet;
use crate::datapath::ring::packed::PackedRing;
use crate::datapath::ring::split::SplitRing;
use sink::RingSink;
use source::RingSource;
use tap::TapEnd;
use vhost_user::VhostUserEnd;

/// One end, as the worker sees it.
#[derive(Debug)]
pub enum End {
    /// Rings in a guest's memory.
    VhostUser(VhostUserEnd),
    /// A TAP of the host.
    Tap(TapEnd),
}

/// Where a turn takes frames from.
#[derive(Debug)]
pub enum AnySource<'a> {
    /// A split transmit ring.
    Split(RingSource<'a, SplitRing>),
    /// A packed transmit ring.
    Packed(RingSource<'a, PackedRing>),
    /// A TAP.
    Tap(&'a mut TapEnd),
}

/// Where a turn puts frames.
#[derive(Debug)]
pub enum AnySink<'a> {
    /// A split receive ring.
    Split(RingSink<'a, SplitRing>),
    /// A packed receive ring.
    Packed(RingSink<'a, PackedRing>),
    /// A TAP.
    Tap(&'a mut TapEnd),
    /// Nobody is there.
    Nowhere,
}

impl AnySource<'_> {
    /// Has `carrier` move frames to `sink`. The kinds of both are known from here on, so that the
    /// packet path has no calls through pointers.
    pub fn carry(self, carrier: &mut Carrier<'_>, sink: AnySink<'_>) -> Turn {
        match self {
            Self::Split(mut source) => sink.fill(carrier, &mut source),
            Self::Packed(mut source) => sink.fill(carrier, &mut source),
            Self::Tap(source) => sink.fill(carrier, source),
        }
    }
}

impl AnySink<'_> {
    /// Delivers a frame of the link's own.
    pub fn give(self, packet: &mut Packet) -> Result<(), DropReason> {
        fn give<T: Sink>(mut sink: T, packet: &mut Packet) -> Result<(), DropReason> {
            sink.deliver(packet.outgoing(HeaderWords::default(), None))?;
            sink.publish();
            Ok(())
        }
        match self {
            Self::Split(sink) => give(sink, packet),
            Self::Packed(sink) => give(sink, packet),
            Self::Tap(tap) => tap.deliver(packet.outgoing(HeaderWords::default(), None)),
            Self::Nowhere => give(Nowhere, packet),
        }
    }

    fn fill<S: Source>(self, carrier: &mut Carrier<'_>, source: &mut S) -> Turn {
        match self {
            Self::Split(mut sink) => carrier.turn(source, &mut sink),
            Self::Packed(mut sink) => carrier.turn(source, &mut sink),
            Self::Tap(sink) => carrier.turn(source, sink),
            Self::Nowhere => carrier.turn(source, &mut Nowhere),
        }
    }
}

impl End {
    /// Whether frames can be delivered to this end now.
    pub fn is_up(&self) -> bool {
        match self {
            Self::VhostUser(end) => end.is_up(),
            Self::Tap(end) => end.is_up(),
        }
    }

    /// What is readable when this end has frames for the link.
    pub fn kicks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (rings, tap) = match self {
            Self::VhostUser(end) => (Some(end.kicks()), None),
            Self::Tap(end) => (None, Some(end.fd())),
        };
        rings.into_iter().flatten().chain(tap)
    }

    /// How many sources of frames it has.
    pub const fn sources(&self) -> usize {
        match self {
            Self::VhostUser(end) => end.pairs(),
            Self::Tap(_) => 1,
        }
    }

    /// The source at `index`, if it runs.
    pub fn source(&mut self, index: usize) -> Option<AnySource<'_>> {
        match self {
            Self::VhostUser(end) => end.source(index),
            Self::Tap(tap) => tap.is_up().then_some(AnySource::Tap(tap)),
        }
    }

    /// Where the frames of the other end's source `index` go.
    pub fn sink(&mut self, index: usize) -> AnySink<'_> {
        match self {
            Self::VhostUser(end) => end.sink(index),
            Self::Tap(tap) => AnySink::Tap(tap),
        }
    }

    /// Ends a turn: calls the driver if it wants that, and stops rings that are at fault.
    pub fn settle(&mut self) {
        if let Self::VhostUser(end) = self {
            end.settle();
        }
    }

    /// Tells the driver that the link looks for frames by itself.
    pub fn disarm(&mut self) {
        if let Self::VhostUser(end) = self {
            end.disarm();
        }
    }

    /// Asks for a wake-up by [`End::kicks`]. Returns whether there is something to do now: frames
    /// came in meanwhile, or a ring is at fault.
    pub fn rearm(&mut self) -> bool {
        match self {
            Self::VhostUser(end) => end.rearm(),
            Self::Tap(_) => false,
        }
    }
}
