//! The one thread that moves frames, both ways.
//!
//! It sleeps in `epoll_wait` without a time limit while there is nothing to do. A turn moves at
//! most [`BUDGET`] frames in each direction, so neither direction starves the other, nor the
//! commands of the sessions.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::{Timespec, epoll};

use super::EndId;
use super::announce::rarp;
use super::command::{Command, Pending, Request, Requests};
use super::counters::Counters;
use super::filter::Filter;
use super::receive::{FrameBuffer, Received};
use crate::end::End;
use crate::link_state::LinkState;
use crate::mac::MacAddr;

/// Frames moved per direction and turn.
pub const BUDGET: usize = 256;

const GUEST_TOKEN: u64 = 0;
const NETVM_TOKEN: u64 = 1;
const COMMAND_TOKEN: u64 = 2;

/// The packet worker.
#[derive(Debug)]
pub struct Worker {
    ends: [End; 2],
    filter: Filter,
    counters: Arc<Counters>,
    state: Arc<LinkState>,
    requests: Requests,
    epoll: OwnedFd,
    buffer: FrameBuffer,
    /// Whether an end may have frames that no event will announce.
    more: [bool; 2],
}

impl Worker {
    /// A worker between these ends.
    pub fn new(
        guest: End,
        netvm: End,
        filter: Filter,
        counters: Arc<Counters>,
        state: Arc<LinkState>,
        requests: Requests,
    ) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let token = epoll::EventData::new_u64(COMMAND_TOKEN);
        epoll::add(&epoll, requests.wake_fd(), token, epoll::EventFlags::IN)?;
        let worker = Self {
            ends: [guest, netvm],
            filter,
            counters,
            state,
            requests,
            epoll,
            buffer: FrameBuffer::new(filter.max_frame()),
            more: [false; 2],
        };
        for end in [EndId::Guest, EndId::Netvm] {
            worker.watch(end);
            worker.publish_state(end);
        }
        Ok(worker)
    }

    /// Runs until the last command handle is gone.
    pub fn run(mut self) {
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = Vec::with_capacity(8);
        loop {
            let timeout = self.more.contains(&true).then_some(&no_wait);
            events.clear();
            let waited =
                epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout);
            if let Err(error) = waited
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "the packet worker cannot wait for events");
                return;
            }
            for event in &events {
                match event.data.u64() {
                    GUEST_TOKEN => self.more[0] = true,
                    NETVM_TOKEN => self.more[1] = true,
                    _ => {
                        if !self.commands() {
                            return;
                        }
                    }
                }
            }
            for end in [EndId::Guest, EndId::Netvm] {
                if self.more[end.index()] {
                    self.turn(end);
                }
            }
        }
    }

    /// Moves frames from one end to the other, within the budget.
    fn turn(&mut self, from: EndId) {
        self.ends[from.index()].begin();
        let mut frames = 0;
        while frames < BUDGET && self.carry(from) {
            frames += 1;
        }
        for end in &mut self.ends {
            end.publish();
        }
        // With the budget used up there is probably more; kicks stay off and the next turn looks.
        self.more[from.index()] = frames == BUDGET || self.ends[from.index()].rearm();
        self.note_faults();
        if let End::Tap(tap) = &self.ends[from.index()]
            && !tap.is_up()
        {
            // A deleted TAP would be readable for ever.
            self.unwatch(from);
            self.publish_state(from);
        }
    }

    /// Moves one frame; false when there is none.
    fn carry(&mut self, from: EndId) -> bool {
        let [guest, netvm] = &mut self.ends;
        let (source, target) = match from {
            EndId::Guest => (guest, netvm),
            EndId::Netvm => (netvm, guest),
        };
        let verdict = match source.receive(&mut self.buffer) {
            Received::Empty => return false,
            Received::Dropped(reason) => Err(reason),
            Received::Frame => {
                let frame = self.buffer.frame();
                let counters = self.counters.end(from);
                counters.bytes_in.fetch_add(frame.len() as u64, Relaxed);
                self.filter.check(from, frame).and_then(|()| target.deliver(frame))
            }
        };
        self.counters.end(from).frames_in.fetch_add(1, Relaxed);
        match verdict {
            Ok(()) => {
                let counters = self.counters.end(from.other());
                counters.frames_out.fetch_add(1, Relaxed);
                counters.bytes_out.fetch_add(self.buffer.frame().len() as u64, Relaxed);
            }
            Err(reason) => self.counters.drop_frame(from, reason),
        }
        true
    }

    /// Carries out pending commands; false when no more can come.
    fn commands(&mut self) -> bool {
        let mut counter = [0; 8];
        let _ = rustix::io::read(self.requests.wake_fd(), &mut counter);
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
                Command::Memory(memory) => end.set_memory(memory),
                Command::Log(log) => end.set_log(log),
                Command::Start(ring, setup) if ring.pair() == 0 => end.start(ring.kind(), setup),
                Command::Stop(ring) if ring.pair() == 0 => {
                    value = end.stop(ring.kind()).unwrap_or(0);
                }
                Command::Call(ring, call) if ring.pair() == 0 => end.set_call(ring.kind(), call),
                Command::Error(ring, error) if ring.pair() == 0 => {
                    end.set_error(ring.kind(), error);
                }
                Command::Disconnect => *end = Default::default(),
                // This worker has one pair.
                Command::Start(..) | Command::Stop(_) | Command::Call(..) | Command::Error(..) => {}
                Command::Announce(_) => {}
            }
        }
        self.watch(id);
        self.note_faults();
        self.publish_state(id);
        // Frames may have been waiting since before the ring ran; no kick will come for them.
        self.more[id.index()] = true;
        // The session gave up waiting: nobody wants the answer.
        let _ = answer.send(value);
    }

    /// Gives the end opposite to `id` the announcement that `mac` is at `id` now. The frame is the
    /// link's own, so the frame rules have no say; it is lost where a guest's frame would be.
    fn announce(&mut self, id: EndId, mac: MacAddr) {
        let target = id.other();
        let frame = rarp(mac);
        let end = &mut self.ends[target.index()];
        match end.deliver(&frame) {
            Ok(()) => {
                let counters = self.counters.end(target);
                counters.frames_out.fetch_add(1, Relaxed);
                counters.bytes_out.fetch_add(frame.len() as u64, Relaxed);
            }
            Err(reason) => self.counters.drop_frame(id, reason),
        }
        end.publish();
        self.note_faults();
    }

    /// Watches an end for frames. An eventfd is watched edge-triggered and never read: each kick
    /// is an event of its own, and a peer cannot block the worker with it.
    fn watch(&self, id: EndId) {
        let end = &self.ends[id.index()];
        let flags = match end {
            End::VhostUser(_) => epoll::EventFlags::IN | epoll::EventFlags::ET,
            End::Tap(_) => epoll::EventFlags::IN,
        };
        if let Some(fd) = end.source_fd() {
            let token = epoll::EventData::new_u64(id.index() as u64);
            if let Err(error) = epoll::add(&self.epoll, fd, token, flags) {
                tracing::error!(end = id.name(), %error, "cannot wait for this end's frames");
            }
        }
    }

    fn unwatch(&self, id: EndId) {
        if let Some(fd) = self.ends[id.index()].source_fd() {
            // The frontend holds the same eventfd open, so closing ours would not remove it.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Counts and reports rings that stopped for a fault.
    fn note_faults(&mut self) {
        for id in [EndId::Guest, EndId::Netvm] {
            let End::VhostUser(end) = &mut self.ends[id.index()] else {
                continue;
            };
            if let Some((ring, fault)) = end.take_fault() {
                self.counters.end(id).ring_faults.fetch_add(1, Relaxed);
                tracing::warn!(end = id.name(), ring = ring.name(), %fault, "ring stopped");
                self.publish_state(id);
            }
        }
    }

    fn publish_state(&self, id: EndId) {
        let up = self.ends[id.index()].is_up();
        if self.counters.end(id).up.swap(up, Relaxed) != up {
            self.state.announce();
        }
    }
}
