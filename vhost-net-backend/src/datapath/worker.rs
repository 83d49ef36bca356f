//! The thread that moves frames, both ways.
//!
//! It sleeps in `epoll_wait` without a time limit while there is nothing to do. While frames keep
//! coming it looks for them by itself, and drivers need not kick. A turn moves at most
//! [`BUDGET`](super::carry::BUDGET) frames in each direction, so neither direction starves the
//! other, nor the commands of the sessions. Between looks that find nothing it offers the CPU to
//! others: a link that waits never keeps it from one that has frames.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::event::epoll;
use rustix::thread::sched_yield;

use super::EndId;
use super::announce::rarp;
use super::carry::{Carrier, Cutter};
use super::command::{Command, Pending, Request, Requests};
use super::counters::{Counters, Tally};
use super::filter::Filter;
use super::packet::Packet;
use super::patience::Patience;
use super::pause::Pause;
use super::rate::{Limits, Rates};
use crate::end::End;
use crate::link_state::LinkState;
use crate::mac::MacAddr;

/// Events taken from the kernel at once. They only wake the worker, which then looks everywhere.
const EVENTS: usize = 8;

/// The packet worker.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    ends: [End; 2],
    filter: Filter,
    /// When its clock started.
    start: Instant,
    /// Of frames from either end.
    rates: [Rates; 2],
    counters: Arc<Counters>,
    state: Arc<LinkState>,
    requests: Requests,
    epoll: OwnedFd,
    packet: Packet,
    cutter: Cutter,
    /// Of the frames of each end, which wait for receive buffers of the other.
    patience: [Patience; 2],
    pause: Pause,
}

impl Worker {
    /// A worker between these ends; `number` tells it from others of the link, whose clones of
    /// `filter` share what was leased; `limits` are those of frames from either end; `start` is
    /// when the filter's clock started.
    pub fn new(
        number: usize,
        (guest, netvm): (End, End),
        (filter, start): (Filter, Instant),
        limits: &[Limits; 2],
        counters: Arc<Counters>,
        state: Arc<LinkState>,
        requests: Requests,
    ) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let token = epoll::EventData::new_u64(0);
        epoll::add(&epoll, requests.wake_fd(), token, epoll::EventFlags::IN)?;
        let worker = Self {
            number,
            ends: [guest, netvm],
            filter,
            start,
            rates: limits.each_ref().map(Rates::new),
            counters,
            state,
            requests,
            epoll,
            packet: Packet::default(),
            cutter: Cutter::default(),
            patience: Default::default(),
            pause: Pause::default(),
        };
        for end in [EndId::Guest, EndId::Netvm] {
            worker.watch(end);
            worker.publish_state(end);
        }
        Ok(worker)
    }

    /// Runs until the last command handle is gone.
    pub fn run(mut self) {
        let mut now = Instant::now();
        loop {
            if self.requests.are_pending() && !self.commands() {
                return;
            }
            let mut busy = false;
            for end in [EndId::Guest, EndId::Netvm] {
                busy |= self.turn(end, now);
            }
            self.settle();
            let before = std::mem::replace(&mut now, Instant::now());
            if busy {
                self.pause.reset();
                self.counters.add_busy(now - before);
            } else if self.is_waiting(now) || self.pause.is_short(now) {
                sched_yield();
                // Others may have had the CPU for long: frames wait for buffers from now on.
                let back = Instant::now();
                self.pause.yielded(back - now);
                now = back;
            } else {
                if let Err(error) = self.sleep() {
                    tracing::error!(%error, "the packet worker cannot wait for events");
                    return;
                }
                let woken = Instant::now();
                self.pause.slept(woken - now);
                now = woken;
            }
        }
    }

    /// Moves frames from one end to the other, within the budget. Returns whether there were any.
    fn turn(&mut self, from: EndId, now: Instant) -> bool {
        let patience = &mut self.patience[from.index()];
        let [guest, netvm] = &mut self.ends;
        let (source, target) = match from {
            EndId::Guest => (guest, netvm),
            EndId::Netvm => (netvm, guest),
        };
        let mut carrier = Carrier {
            from,
            filter: &mut self.filter,
            rates: &mut self.rates[from.index()],
            packet: &mut self.packet,
            cutter: &mut self.cutter,
            counters: &self.counters,
            now: u64::try_from((now - self.start).as_nanos()).unwrap_or(u64::MAX),
            patient: true,
        };
        let mut frames = 0;
        for index in 0..source.sources() {
            let Some(ready) = source.source(index) else {
                continue;
            };
            carrier.patient = patience.may_wait(index, now);
            let turn = ready.carry(&mut carrier, target.sink(index));
            frames += turn.frames;
            patience.note(index, &turn, now);
        }
        frames > 0
    }

    /// Whether frames wait for receive buffers, and may.
    fn is_waiting(&self, now: Instant) -> bool {
        self.patience.iter().any(|patience| patience.is_waiting(now))
    }

    /// Ends a turn at both ends.
    fn settle(&mut self) {
        for end in &mut self.ends {
            end.settle();
        }
        for id in [EndId::Guest, EndId::Netvm] {
            match &mut self.ends[id.index()] {
                End::VhostUser(end) => {
                    if let Some((ring, fault)) = end.take_fault() {
                        self.counters.end(id).ring_faults.fetch_add(1, Relaxed);
                        tracing::warn!(end = id.name(), %ring, %fault, "ring stopped");
                        self.publish_state(id);
                    }
                }
                End::Tap(tap) => {
                    if !tap.is_up() && self.counters.end(id).is_up() {
                        // A deleted TAP would be readable for ever.
                        self.unwatch(id);
                        self.publish_state(id);
                    }
                }
            }
        }
    }

    /// Waits for an event, unless there are frames after all.
    fn sleep(&mut self) -> rustix::io::Result<()> {
        let more = self.ends.iter_mut().fold(false, |more, end| end.rearm() | more);
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        let waited = match more {
            true => Ok(()),
            false => epoll::wait(&self.epoll, &mut events, None).map(|_| ()),
        };
        for end in &mut self.ends {
            end.disarm();
        }
        match waited {
            Err(rustix::io::Errno::INTR) => Ok(()),
            waited => waited,
        }
    }

    /// Carries out pending commands; false when no more can come.
    fn commands(&mut self) -> bool {
        self.requests.acknowledge();
        loop {
            match self.requests.next() {
                Pending::Request(request) => self.command(request),
                Pending::Nothing => return true,
                Pending::Closed => return false,
            }
        }
    }

    fn command(&mut self, request: Request) {
        let Request { end: id, command, answer } = request;
        let mut value = 0;
        if let Command::Announce(mac) = command {
            self.announce(id, mac);
            let _ = answer.send(value);
            return;
        }
        self.unwatch(id);
        if let End::VhostUser(end) = &mut self.ends[id.index()] {
            match command {
                Command::Features(features) => end.set_features(features),
                Command::Memory(memory) => end.set_memory(&memory),
                Command::Log(log) => end.set_log(log),
                Command::Announce(_) => {}
                Command::Start(ring, setup) => end.start(ring, setup),
                Command::Stop(ring) => value = end.stop(ring).unwrap_or(0),
                Command::Call(ring, call) => end.set_call(ring, call),
                Command::Error(ring, error) => end.set_error(ring, error),
                Command::Disconnect => *end = Default::default(),
            }
        }
        self.watch(id);
        self.settle();
        self.publish_state(id);
        // The session gave up waiting: nobody wants the answer.
        let _ = answer.send(value);
    }

    /// Gives the end opposite to `id` the announcement that `mac` is at `id` now. The frame is the
    /// link's own, so the frame rules have no say; it is lost where a guest's frame would be.
    fn announce(&mut self, id: EndId, mac: MacAddr) {
        self.packet.set_frame(&rarp(mac));
        let turn = self.ends[id.other().index()].sink(0).give(&mut self.packet);
        let tally = Tally { frames_out: 1, bytes_out: self.packet.len(), ..Tally::default() };
        match turn {
            Ok(()) => self.counters.add(id, &tally),
            Err(reason) => self.counters.drop_frame(id, reason),
        }
        self.settle();
    }

    /// Watches an end for frames. An eventfd is watched edge-triggered and never read: each kick
    /// is an event of its own, and a peer cannot block the worker with it.
    fn watch(&self, id: EndId) {
        let end = &self.ends[id.index()];
        let flags = match end {
            End::VhostUser(_) => epoll::EventFlags::IN | epoll::EventFlags::ET,
            End::Tap(_) => epoll::EventFlags::IN,
        };
        for fd in end.kicks() {
            let token = epoll::EventData::new_u64(0);
            if let Err(error) = epoll::add(&self.epoll, fd, token, flags) {
                tracing::error!(end = id.name(), %error, "cannot wait for this end's frames");
            }
        }
    }

    fn unwatch(&self, id: EndId) {
        for fd in self.ends[id.index()].kicks() {
            // The frontend holds the same eventfd open, so closing ours would not remove it.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    fn publish_state(&self, id: EndId) {
        let up = self.ends[id.index()].is_up();
        if self.counters.end(id).set_up(self.number, up) {
            self.state.announce();
        }
    }
}
