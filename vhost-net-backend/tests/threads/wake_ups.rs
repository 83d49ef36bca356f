//! No wake-up is lost, by the link or by a driver that sleeps until it is called: frames go round
//! in bursts of random length with pauses of random length, so that kicks and calls come at any
//! moment of the other side's way to sleep. Both sides keep to the letter of the rules for
//! notifications, and notify only when they must.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::alone;
use crate::common::driver::{Driver, DriverRing};
use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use crate::common::link::TestLink;
use crate::common::packed::{EVENTS_DESC, EVENTS_DISABLE, EVENTS_ENABLE, PackedRing};
use crate::common::{GUEST, NETVM, frame};

/// Of each kind of ring.
const RUN: Duration = Duration::from_millis(1500);
/// A wake-up that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);
const RING: u16 = 64;
const BURST: u32 = 60;

/// How a driver keeps the rules for notifications.
trait Notifications: Driver {
    /// Whether the device must be kicked, once `chains` chains of one descriptor were published.
    fn must_kick_for(&self, event_idx: bool, chains: u16) -> bool;
    /// Asks for a call with the next chain used.
    fn ask_for_call(&self, event_idx: bool);
    /// Asks for none.
    fn refuse_calls(&self, event_idx: bool);
}

/// Whether the step from `old` to `new` passes `event` (virtio 1.2, 2.7.10).
fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

impl Notifications for DriverRing {
    fn must_kick_for(&self, event_idx: bool, chains: u16) -> bool {
        fence(Ordering::SeqCst);
        if event_idx {
            passes(self.avail_event(), self.avail_idx, self.avail_idx.wrapping_sub(chains))
        } else {
            self.used_flags() == 0
        }
    }

    fn ask_for_call(&self, event_idx: bool) {
        if event_idx {
            self.set_used_event(self.last_used);
        } else {
            self.set_avail_flags(0);
        }
        fence(Ordering::SeqCst);
    }

    fn refuse_calls(&self, event_idx: bool) {
        // An event index that was passed is not met again soon.
        if !event_idx {
            self.set_avail_flags(1);
        }
    }
}

impl Notifications for PackedRing {
    fn must_kick_for(&self, event_idx: bool, chains: u16) -> bool {
        fence(Ordering::SeqCst);
        let (offset, flags) = self.device_event();
        if !event_idx || flags != EVENTS_DESC {
            return flags == EVENTS_ENABLE;
        }
        // As drivers do it: an offset of the lap before this lies below it.
        let (slot, wrap) = (offset & 0x7fff, offset & 0x8000 != 0);
        let event = if wrap == self.next.wrap { slot } else { slot.wrapping_sub(self.layout.size) };
        passes(event, self.next.slot, self.next.slot.wrapping_sub(chains))
    }

    fn ask_for_call(&self, event_idx: bool) {
        let flags = if event_idx { EVENTS_DESC } else { EVENTS_ENABLE };
        self.set_driver_event(if event_idx { self.used.bits() } else { 0 }, flags);
        fence(Ordering::SeqCst);
    }

    fn refuse_calls(&self, _event_idx: bool) {
        self.set_driver_event(0, EVENTS_DISABLE);
    }
}

/// A guest whose driver sleeps.
struct Side<R> {
    guest: Guest<R>,
    event_idx: bool,
    frame: Vec<u8>,
    random: u32,
    /// Calls it has slept for.
    slept: u64,
}

impl<R: Notifications> Side<R> {
    fn random(&mut self, below: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        (self.random >> 8) % below
    }

    /// Mostly about as long as the link looks for frames before it sleeps.
    fn pause(&mut self) {
        let time = match self.random(8) {
            0..=2 => return,
            3..=5 => Duration::from_micros(self.random(60).into()),
            6 => return std::thread::sleep(Duration::from_micros(self.random(100).into())),
            _ => return std::thread::sleep(Duration::from_micros(self.random(1500).into())),
        };
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    /// Sends `count` frames in several bursts.
    fn send(&mut self, mut count: u32) {
        while self.guest.tx.pop_used().is_some() {}
        while count > 0 {
            let burst = (1 + self.random(count)) as u16;
            for _ in 0..burst {
                let frame = std::mem::take(&mut self.frame);
                self.guest.post(&frame);
                self.frame = frame;
            }
            if self.guest.tx.must_kick_for(self.event_idx, burst) {
                self.guest.kick_tx();
            }
            count -= u32::from(burst);
            self.pause();
        }
    }

    /// Takes the frames that are there, at most `limit`.
    fn take(&mut self, limit: u32) -> u32 {
        let taken = (0..limit).take_while(|_| self.guest.rx.pop_used().is_some()).count();
        if taken > 0 {
            self.guest.fill_rx();
        }
        taken as u32
    }

    /// Takes at least one frame and at most `limit`; sleeps until it is called if there is none.
    /// `None` when the test is over.
    fn receive(&mut self, limit: u32, over: &AtomicBool) -> Option<u32> {
        loop {
            let taken = self.take(limit);
            if taken > 0 {
                return Some(taken);
            }
            self.guest.rx.ask_for_call(self.event_idx);
            let taken = self.take(limit);
            if taken == 0 && !self.sleep(over) {
                return None;
            }
            self.guest.rx.refuse_calls(self.event_idx);
            if taken > 0 {
                return Some(taken);
            }
        }
    }

    /// Waits for a call, and does not look at the ring meanwhile. False when the test is over.
    fn sleep(&mut self, over: &AtomicBool) -> bool {
        self.slept += 1;
        let call = &self.guest.session.as_ref().unwrap().call[0];
        let epoll = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll.ctl(ControlOperation::Add, call.as_raw_fd(), event).unwrap();
        let start = Instant::now();
        while epoll.wait(20, &mut [EpollEvent::default()]).unwrap() == 0 {
            if over.load(Ordering::Relaxed) {
                return false;
            }
            assert!(start.elapsed() < PATIENCE, "a kick or a call was lost");
        }
        call.read().unwrap();
        true
    }
}

fn go_round<R: Notifications + Send>(features: u64) {
    let link = TestLink::start();
    let side = |frame, random| {
        let mut guest = Guest::<R>::create(MRG_RXBUF | features, RING);
        guest.fill_rx();
        Side { guest, event_idx: features & EVENT_IDX != 0, frame, random, slept: 0 }
    };
    let mut guest = side(frame(NETVM, GUEST, 64, 1), 0x1234_5678);
    let mut netvm = side(frame(GUEST, NETVM, 64, 2), 0x8765_4321);
    guest.guest.connect_at_its_start(&link.guest_socket());
    netvm.guest.connect_at_its_start(&link.netvm_socket());
    let over = AtomicBool::new(false);
    let (mut rounds, mut frames) = (0_u32, 0_u32);
    std::thread::scope(|scope| {
        // netvm sends back whatever comes.
        scope.spawn(|| {
            let _over = Over(&over);
            while let Some(count) = netvm.receive(BURST, &over) {
                netvm.send(count);
            }
        });
        let _over = Over(&over);
        let start = Instant::now();
        while start.elapsed() < RUN {
            let count = 1 + guest.random(BURST);
            guest.send(count);
            let mut left = count;
            while left > 0 {
                left -= guest.receive(left, &over).expect("the other side has not failed");
            }
            rounds += 1;
            frames += count;
            guest.pause();
        }
    });
    println!("{rounds} rounds, {frames} frames; slept {} and {} times", guest.slept, netvm.slept);
    assert!(rounds > 20, "{rounds} rounds");
    assert!(guest.slept > 10 && netvm.slept > 10, "calls are what wakes the drivers");
    assert!(link.report().drops.is_empty());
}

/// Ends the test for the other thread too, by a failure as well.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn split_rings() {
    let _turn = alone();
    go_round::<DriverRing>(0);
}

#[test]
fn split_rings_with_event_indices() {
    let _turn = alone();
    go_round::<DriverRing>(EVENT_IDX);
}

#[test]
fn packed_rings() {
    let _turn = alone();
    go_round::<PackedRing>(0);
}

#[test]
fn packed_rings_with_event_indices() {
    let _turn = alone();
    go_round::<PackedRing>(EVENT_IDX);
}
