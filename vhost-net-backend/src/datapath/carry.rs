//! Moving frames from one end to the other: take, judge, deliver, publish.

use super::EndId;
use super::counters::{Counters, Tally};
use super::drop_reason::DropReason;
use super::filter::{Class, Filter, Frame, Verdict};
use super::header::{HEADER_LEN, HeaderWords};
use super::lane::Lane;
use super::memory::{Memory, Segment};
use super::offload::{self, Accepted, Checked, Offload, complete_checksum, segment};
use super::packet::{MAX_FRAME, MIN_FRAME, Packet, Tail};
use super::rate::Rates;
use super::ring::chain::Chain;

/// Frames between two publications.
pub const BURST: usize = 64;
/// Frames moved per direction and turn.
pub const BUDGET: usize = 256;
/// Bytes moved per direction and turn, after which no other frame is begun.
pub const BYTE_BUDGET: usize = 1 << 20;

/// What a look at an end for a frame brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame is in the packet.
    Frame,
    /// A frame is there and cannot be carried.
    Drop(DropReason),
    /// Nothing is there.
    Empty,
}

/// Where frames come from.
pub trait Source {
    /// Features its driver negotiated.
    fn features(&self) -> u64;
    /// Looks for up to `limit` frames.
    fn take(&mut self, limit: usize);
    /// Whether there may be one.
    fn has_frames(&self) -> bool;
    /// Starts on the oldest frame taken.
    fn next(&mut self, packet: &mut Packet) -> Next;
    /// Where the frame lies that [`Source::next`] started on, if in a guest's memory.
    fn place(&self) -> Option<(&Memory, &[Segment])>;
    /// Gives the frame's buffers back.
    fn done(&mut self);
    /// The frames taken, if they may be carried the short way.
    fn lane(&self) -> Option<Lane<'_>> {
        None
    }
    /// Gives the buffers of that many frames back, which were carried the short way.
    fn emptied(&mut self, _frames: usize) {}
    /// Shows the driver which buffers it got back.
    fn publish(&mut self);
}

/// A frame to be delivered.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Its virtio-net header, whose `num_buffers` the receiver fills in.
    pub header: HeaderWords,
    /// Room for that header, and behind it the frame's first bytes, or all.
    pub lead: &'a mut [u8],
    /// The others.
    pub tail: Tail<'a>,
    /// Bytes of the frame.
    pub len: usize,
}

impl<'a> Outgoing<'a> {
    /// Header and first bytes in one piece.
    pub fn with_header(&mut self) -> &mut [u8] {
        if let Some(room) = self.lead.first_chunk_mut() {
            *room = self.header.to_array();
        }
        self.lead
    }

    /// The frame's first bytes, or all.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.lead.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// Where frames go.
pub trait Sink {
    /// Features its driver negotiated.
    fn features(&self) -> u64;
    /// Whether there is a buffer for a frame, or frames are dropped anyway.
    fn has_room(&mut self) -> bool;
    /// Whether frames must be private in whole to be delivered.
    fn needs_private(&self) -> bool {
        false
    }
    /// Delivers a frame whole, or not at all.
    fn deliver(&mut self, frame: Outgoing<'_>) -> Result<(), DropReason>;
    /// The buffers taken, if frames may be carried to them the short way.
    fn lane(&self) -> Option<Lane<'_>> {
        None
    }
    /// Counts the oldest buffers as used: the frames of these chains, header included, were put
    /// into them, one into each.
    fn filled(&mut self, _frames: &[Chain]) {}
    /// Shows the driver what was delivered.
    fn publish(&mut self);
}

/// What it takes to make several frames of one.
#[derive(Debug)]
pub struct Cutter {
    /// Where they are built.
    scratch: Box<[u8]>,
    /// The one being delivered.
    segment: Packet,
}

impl Default for Cutter {
    fn default() -> Self {
        Self { scratch: vec![0; MAX_FRAME].into_boxed_slice(), segment: Packet::default() }
    }
}

/// What judges the frames of one direction, and the memory that takes.
#[derive(Debug)]
pub struct Carrier<'a> {
    /// Where the frames come from.
    pub from: EndId,
    /// The frame rules.
    pub filter: &'a mut Filter,
    /// What may pass in a second.
    pub rates: &'a mut Rates,
    /// The private copy.
    pub packet: &'a mut Packet,
    /// For frames that become several.
    pub cutter: &'a mut Cutter,
    /// Where they are counted.
    pub counters: &'a Counters,
    /// Nanoseconds since some moment in the past.
    pub now: u64,
    /// Whether frames may wait for receive buffers; if not, they are dropped without one.
    pub patient: bool,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Frames taken, carried or not.
    pub frames: usize,
    /// Frames delivered.
    pub delivered: usize,
    /// Whether it ended for want of receive buffers.
    pub starved: bool,
}

impl Carrier<'_> {
    /// Moves frames until there are no more, or the budget is used up, or they have to wait.
    // A function of its own, so that profiles show it.
    #[inline(never)]
    pub fn turn<S: Source, T: Sink>(&mut self, source: &mut S, sink: &mut T) -> Turn {
        let mut turn = Turn::default();
        let mut tally = Tally::default();
        while turn.frames < BUDGET && tally.bytes_in < BYTE_BUDGET && !turn.starved {
            let frames = self.burst(source, sink, &mut tally, &mut turn.starved);
            // Buffers are given back before the peer is told of frames: both in one go.
            source.publish();
            sink.publish();
            turn.frames += frames;
            if frames == 0 {
                break;
            }
        }
        self.counters.add(self.from, &tally);
        turn.delivered = tally.frames_out;
        turn
    }

    fn burst<S: Source, T: Sink>(
        &mut self,
        source: &mut S,
        sink: &mut T,
        tally: &mut Tally,
        starved: &mut bool,
    ) -> usize {
        source.take(BURST);
        let mut frames = 0;
        while frames < BURST {
            if source.has_frames() && !sink.has_room() && self.patient {
                *starved = true;
                return frames;
            }
            let carried = self.run(source, sink, BURST - frames, tally);
            if carried > 0 {
                frames += carried;
                continue;
            }
            let next = source.next(self.packet);
            let len = self.packet.len();
            let verdict = match next {
                Next::Empty => return frames,
                Next::Drop(reason) => Err(reason),
                Next::Frame => self.carry(source, sink, tally),
            };
            match verdict {
                Ok(()) => {}
                Err(DropReason::NoRxBuffer) if self.patient => {
                    *starved = true;
                    return frames;
                }
                Err(reason) => self.counters.drop_frame(self.from, reason),
            }
            tally.frames_in += 1;
            tally.bytes_in += len;
            source.done();
            frames += 1;
        }
        frames
    }

    #[inline]
    fn carry<S: Source, T: Sink>(
        &mut self,
        source: &S,
        sink: &mut T,
        tally: &mut Tally,
    ) -> Result<(), DropReason> {
        if self.packet.header().is_plain()
            && self.packet.len() >= MIN_FRAME
            && !sink.needs_private()
        {
            // Nearly always: it needs nothing of its receiver.
            let class = self.judge(source, self.packet.len())?;
            let header = HeaderWords::default();
            let delivered = self.deliver(header, source.place(), sink, tally);
            if delivered.is_err() {
                self.rates.give_back(class, self.packet.len());
            }
            return delivered;
        }
        let offload = self.prove(source)?;
        let charged = self.packet.len();
        let class = self.judge(source, offload.wire_len(charged))?;
        let forwarded = self.forward(source, &offload, sink, tally);
        if forwarded.is_err() {
            // It may have to wait, and is judged again then.
            self.rates.give_back(class, charged);
        }
        forwarded
    }

    /// Delivers a frame that may pass, in the form that its receiver takes.
    #[inline]
    fn forward<S: Source, T: Sink>(
        &mut self,
        source: &S,
        offload: &Offload,
        sink: &mut T,
        tally: &mut Tally,
    ) -> Result<(), DropReason> {
        match offload.accepted_by(sink.features()) {
            Accepted::AsIs => {
                if sink.needs_private() {
                    self.packet.pull(usize::MAX, source.place())?;
                }
                self.packet.pad();
                self.deliver(offload.header().into(), source.place(), sink, tally)
            }
            Accepted::NeedsChecksum => {
                self.packet.pull(usize::MAX, source.place())?;
                if let Some(checksum) = offload.checksum {
                    complete_checksum(self.packet.bytes_mut(), checksum);
                }
                self.packet.pad();
                self.deliver(HeaderWords::default(), None, sink, tally)
            }
            Accepted::NeedsSegments => {
                self.packet.pull(usize::MAX, source.place())?;
                self.cut(offload, sink, tally);
                Ok(())
            }
        }
    }

    #[inline]
    fn deliver<T: Sink>(
        &mut self,
        header: HeaderWords,
        place: Option<(&Memory, &[Segment])>,
        sink: &mut T,
        tally: &mut Tally,
    ) -> Result<(), DropReason> {
        let len = self.packet.len();
        sink.deliver(self.packet.outgoing(header, place))?;
        tally.frames_out += 1;
        tally.bytes_out += len;
        Ok(())
    }

    /// Delivers a frame as several. Those for which there is no room are dropped, as a switch would
    /// drop them: the others have been delivered.
    fn cut<T: Sink>(&mut self, offload: &Offload, sink: &mut T, tally: &mut Tally) {
        let Cutter { scratch, segment: packet } = &mut *self.cutter;
        segment(self.packet.bytes(), offload, scratch, |frame| {
            packet.set_frame(frame);
            packet.pad();
            let len = packet.len();
            match sink.deliver(packet.outgoing(HeaderWords::default(), None)) {
                Ok(()) => {
                    tally.frames_out += 1;
                    tally.bytes_out += len;
                }
                Err(reason) => self.counters.drop_frame(self.from, reason),
            }
        });
    }

    /// What the frame needs of its receiver, if its header is true.
    #[inline]
    fn prove<S: Source>(&mut self, source: &S) -> Result<Offload, DropReason> {
        loop {
            let header = self.packet.header().into();
            let bytes = self.packet.bytes();
            match offload::check(&header, source.features(), bytes, self.packet.len()) {
                Checked::Ok(offload) => return Ok(offload),
                Checked::Drop(reason) => return Err(reason),
                Checked::More(len) => self.packet.pull(len, source.place())?,
            }
        }
    }

    #[inline]
    fn judge<S: Source>(&mut self, source: &S, wire_len: usize) -> Result<Class, DropReason> {
        loop {
            let frame = Frame { bytes: self.packet.bytes(), len: self.packet.len(), wire_len };
            match self.filter.check(self.from, &frame, self.now) {
                Verdict::Pass(class) => {
                    return self.rates.take(class, frame.len, self.now).map(|()| class);
                }
                Verdict::Drop(reason) => return Err(reason),
                Verdict::More(len) => self.packet.pull(len, source.place())?,
            }
        }
    }
}

/// A sink for frames that nobody can receive.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn features(&self) -> u64 {
        0
    }

    fn has_room(&mut self) -> bool {
        true
    }

    fn deliver(&mut self, _frame: Outgoing<'_>) -> Result<(), DropReason> {
        Err(DropReason::PeerDown)
    }

    fn publish(&mut self) {}
}
