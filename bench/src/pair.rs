//! A queue pair: a receive ring, a transmit ring, and their buffers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::card::CardConfig;
use crate::frame::{STAMP_LEN, stamp, stamped};
use crate::header::{HEADER_BYTES, HEADER_LEN, NetHeader};
use crate::memory::{Allotment, GuestMemory};
use crate::ring::{Buffer, DeviceFault, Ring, RingFeatures, RingKind, RingLayout, Used};

/// The header as an address is counted.
const HEADER: u64 = HEADER_LEN as u64;

/// Where a pair lies in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct PairLayout {
    /// Ring 0 of the pair.
    pub receive: RingLayout,
    /// Ring 1 of the pair.
    pub transmit: RingLayout,
    receive_buffers: u64,
    transmit_buffers: u64,
}

impl PairLayout {
    /// Allots memory for a pair.
    pub(crate) fn allot(config: &CardConfig, memory: &mut Allotment) -> Self {
        let (receive, transmit) = (config.receive_size, config.transmit_size);
        Self {
            receive: RingLayout::allot(config.ring, receive, memory),
            transmit: RingLayout::allot(config.ring, transmit, memory),
            receive_buffers: memory.take(u64::from(receive) * stride(config.receive_buffer)),
            transmit_buffers: memory.take(u64::from(transmit) * stride(config.transmit_buffer())),
        }
    }
}

/// Bytes from one buffer to the next: whole cache lines, and one more so that buffers do not fall upon the same
/// sets of a cache.
const fn stride(len: u32) -> u64 {
    (len as u64).next_multiple_of(64) + 64
}

/// The eventfds of a ring.
#[derive(Debug)]
pub struct Events {
    /// Driver to device.
    pub kick: EventFd,
    /// Device to driver.
    pub call: EventFd,
    /// Signalled when the device stops the ring.
    pub error: EventFd,
}

/// A queue pair, driven by whoever holds it.
#[derive(Debug)]
pub struct QueuePair {
    memory: Arc<GuestMemory>,
    receive: Ring,
    transmit: Ring,
    receive_events: Events,
    transmit_events: Events,
    /// Watches the receive ring's calls.
    calls: Epoll,
    layout: PairLayout,
    mergeable: bool,
    receive_buffer: u32,
    split_header: bool,
    transmit_buffer: u32,
    /// Transmit buffers that the device does not have, longest first.
    free: VecDeque<u16>,
    /// The frame in every transmit buffer (see [`QueuePair::fill`]): its length and where its stamp is.
    template: (u32, u64),
    /// The number of the next frame that is stamped.
    number: u32,
    /// Buffers of the frame that is being received.
    parts: Vec<Used>,
}

impl QueuePair {
    pub(crate) fn new(
        memory: Arc<GuestMemory>,
        layout: PairLayout,
        config: &CardConfig,
        features: u64,
        events: [Events; 2],
    ) -> io::Result<Self> {
        let ring_features = RingFeatures::from_bits(features);
        let ring = |layout, writable| Ring::new(memory.clone(), layout, ring_features, writable);
        let [receive_events, transmit_events] = events;
        let calls = Epoll::new()?;
        let event = EpollEvent::new(EventSet::IN, 0);
        calls.ctl(ControlOperation::Add, receive_events.call.as_raw_fd(), event)?;
        let mut pair = Self {
            calls,
            receive: ring(layout.receive, true),
            transmit: ring(layout.transmit, false),
            receive_events,
            transmit_events,
            layout,
            mergeable: features & crate::features::MRG_RXBUF != 0,
            receive_buffer: config.receive_buffer,
            split_header: config.split_header,
            transmit_buffer: config.transmit_buffer(),
            free: (0..config.transmit_size).collect(),
            template: (0, 0),
            number: 0,
            parts: Vec::new(),
            memory,
        };
        for token in 0..config.receive_size {
            pair.post(token);
        }
        Ok(pair)
    }

    /// The receive ring: its layout is what a frontend sends.
    pub const fn receive_ring(&self) -> (&Ring, &Events) {
        (&self.receive, &self.receive_events)
    }

    /// The transmit ring.
    pub const fn transmit_ring(&self) -> (&Ring, &Events) {
        (&self.transmit, &self.transmit_events)
    }

    /// Frames that can be sent before the device takes one.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Frames that the device has not taken yet, as far as [`QueuePair::reap`] has seen.
    pub fn unsent(&self) -> usize {
        usize::from(self.layout.transmit.size) - self.free.len()
    }

    /// Puts a frame into every transmit buffer, for [`QueuePair::send`]. The device must have none of them. `stamp_at`
    /// is where its stamp is, in bytes from its start.
    pub fn fill(&mut self, header: NetHeader, frame: &[u8], stamp_at: usize) {
        assert_eq!(self.unsent(), 0, "the device reads the buffers");
        assert!(stamp_at + STAMP_LEN <= frame.len(), "the stamp lies in the frame");
        let len = self.check_len(frame);
        for token in 0..self.layout.transmit.size {
            let at = self.transmit_address(token);
            self.memory.mapping.write(at, &header.to_bytes());
            self.memory.mapping.write(at + HEADER, frame);
        }
        self.template = (len, HEADER + stamp_at as u64);
    }

    /// Adds up to `count` frames as [`QueuePair::fill`] left them, each with the next number in its stamp. Returns how
    /// many there was room for. The device sees them after [`QueuePair::flush`].
    #[inline]
    pub fn send(&mut self, count: usize) -> usize {
        let (len, stamp_at) = self.template;
        let count = count.min(self.free.len());
        for done in 0..count {
            let Some(&token) = self.free.front() else { return done };
            let at = self.transmit_address(token);
            self.memory.mapping.write(at + stamp_at, &stamp(self.number));
            if !self.add(at, len, token) {
                return done;
            }
            self.free.pop_front();
            self.number = self.number.wrapping_add(1);
        }
        count
    }

    /// Adds this frame. False when there is no room.
    pub fn send_frame(&mut self, header: NetHeader, frame: &[u8]) -> bool {
        let len = self.check_len(frame);
        let Some(&token) = self.free.front() else { return false };
        let at = self.transmit_address(token);
        self.memory.mapping.write(at, &header.to_bytes());
        self.memory.mapping.write(at + HEADER, frame);
        let added = self.add(at, len, token);
        if added {
            self.free.pop_front();
        }
        added
    }

    fn check_len(&self, frame: &[u8]) -> u32 {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        assert!(
            len <= self.transmit_buffer - HEADER_BYTES,
            "a frame of {len} bytes for a buffer of {}",
            self.transmit_buffer
        );
        len
    }

    #[inline]
    fn add(&mut self, address: u64, len: u32, token: u16) -> bool {
        if self.split_header {
            let header = Buffer { address, len: HEADER_BYTES };
            let frame = Buffer { address: address + HEADER, len };
            self.transmit.add(&[header, frame], token)
        } else {
            self.transmit.add(&[Buffer { address, len: HEADER_BYTES + len }], token)
        }
    }

    /// Makes available what was added to both rings, and kicks the device where it wants that. Returns whether it was
    /// kicked for frames.
    #[inline]
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.receive.publish() {
            self.receive_events.kick.write(1)?;
        }
        let kick = self.transmit.publish();
        if kick {
            self.transmit_events.kick.write(1)?;
        }
        Ok(kick)
    }

    /// Takes back the transmit buffers that the device is done with, and returns their number.
    #[inline]
    pub fn reap(&mut self) -> Result<usize, DeviceFault> {
        let before = self.free.len();
        while let Some(used) = self.transmit.take()? {
            self.free.push_back(used.token);
        }
        Ok(self.free.len() - before)
    }

    /// Takes up to `limit` frames, shows each, and adds its buffers to the receive ring again (see
    /// [`QueuePair::flush`]). Returns their number.
    #[inline]
    pub fn receive(
        &mut self,
        limit: usize,
        mut look: impl FnMut(&Received<'_>),
    ) -> Result<usize, DeviceFault> {
        for done in 0..limit {
            let Some(first) = self.receive.take()? else { return Ok(done) };
            self.parts.clear();
            self.parts.push(first);
            let at = self.receive_address(first.token);
            let len = self.check_received(first, HEADER_BYTES)?;
            let mut total = len - HEADER_BYTES;
            if self.mergeable {
                let buffers = self.memory.mapping.load_u16(at + HEADER - 2, Relaxed);
                for _ in 1..buffers {
                    let Some(part) = self.receive.take()? else {
                        return Err(DeviceFault::Buffers(buffers));
                    };
                    total += self.check_received(part, 0)?;
                    self.parts.push(part);
                }
            }
            look(&Received { pair: self, at, len: total });
            for index in 0..self.parts.len() {
                self.post(self.parts[index].token);
            }
        }
        Ok(limit)
    }

    #[inline]
    const fn check_received(&self, used: Used, least: u32) -> Result<u32, DeviceFault> {
        if used.len < least || used.len > self.receive_buffer {
            return Err(DeviceFault::Length(used.len));
        }
        Ok(used.len)
    }

    /// Adds a receive buffer. There is room: every ring entry has a buffer of its own.
    #[inline]
    fn post(&mut self, token: u16) {
        let buffer = Buffer { address: self.receive_address(token), len: self.receive_buffer };
        let added = self.receive.add(&[buffer], token);
        debug_assert!(added, "the receive ring has an entry for every buffer");
    }

    #[inline]
    const fn receive_address(&self, token: u16) -> u64 {
        self.layout.receive_buffers + token as u64 * stride(self.receive_buffer)
    }

    #[inline]
    const fn transmit_address(&self, token: u16) -> u64 {
        self.layout.transmit_buffers + token as u64 * stride(self.transmit_buffer)
    }

    /// Asks for a call when a frame comes; true if one has come already.
    pub fn enable_receive_calls(&mut self) -> bool {
        self.receive.enable_calls()
    }

    /// Asks for no calls for received frames.
    pub fn disable_receive_calls(&mut self) {
        self.receive.disable_calls();
    }

    /// Sleeps until the device calls for received frames, at most this long (in
    /// milliseconds, rounded down). Whether it called.
    pub fn wait_for_call(&self, patience: Duration) -> io::Result<bool> {
        let timeout = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        match self.calls.wait(timeout, &mut [EpollEvent::default()]) {
            Ok(0) => return Ok(false),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        match self.receive_events.call.read() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(true),
        }
    }

    /// Whether the device has stopped a ring for a fault.
    pub fn is_broken(&self) -> bool {
        self.receive_events.error.read().is_ok() || self.transmit_events.error.read().is_ok()
    }

    /// The format of both rings.
    pub const fn kind(&self) -> RingKind {
        self.layout.receive.kind
    }
}

/// A frame in receive buffers.
#[derive(Debug)]
pub struct Received<'a> {
    pair: &'a QueuePair,
    at: u64,
    len: u32,
}

impl Received<'_> {
    /// Its length in bytes, virtio-net header not included.
    #[expect(clippy::len_without_is_empty, reason = "a frame of no bytes is of no interest")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Buffers it lies in.
    pub fn buffers(&self) -> usize {
        self.pair.parts.len()
    }

    /// Its virtio-net header.
    pub fn header(&self) -> NetHeader {
        let mut bytes = [0; HEADER_LEN];
        self.pair.memory.mapping.read(self.at, &mut bytes);
        NetHeader::from_bytes(bytes)
    }

    /// The number stamped into it at `stamp_at`, which must be in its first buffer; none if there is no stamp.
    #[inline]
    pub fn number(&self, stamp_at: usize) -> Option<u32> {
        let mut bytes = [0; STAMP_LEN];
        let end = stamp_at + STAMP_LEN + HEADER_LEN;
        if end > usize::try_from(self.pair.parts.first()?.len).ok()? {
            return None;
        }
        self.pair.memory.mapping.read(self.at + HEADER + stamp_at as u64, &mut bytes);
        stamped(bytes)
    }

    /// All its bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut skip = HEADER_LEN;
        for part in &self.pair.parts {
            let mut buffer = vec![0; usize::try_from(part.len).unwrap_or(0)];
            let at = self.pair.receive_address(part.token);
            self.pair.memory.mapping.read(at, &mut buffer);
            bytes.extend_from_slice(&buffer[skip..]);
            skip = 0;
        }
        bytes
    }
}
