//! T25 to T28: kicks that never come, or never end, and rings that are never empty, or never
//! refilled. The other direction goes on, and commands are answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use crate::common::driver::{Driver, DriverRing};
use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF, wait_for};
use crate::common::packed::{EVENTS_DESC, PackedRing};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::oracle::Ends;

on_both! {
    t25_event_index_that_stays_where_it_is_loses_no_frame,
    t25_kicks_only_when_asked_for_are_enough,
    t26_kicks_without_end_for_an_empty_ring,
    t27_full_ring_without_end_and_without_kicks,
    t28_receive_ring_that_is_never_refilled,
}

const TIME: Duration = Duration::from_millis(250);

/// While the guest does its worst, netvm sends frames that arrive, and both frontends ask for
/// things that are answered.
fn rest_goes_on<R: Driver>(
    guest: &mut Guest<R>,
    netvm: &mut Guest<R>,
    mut busy: impl FnMut(&mut Guest<R>),
) {
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut rounds = 0_u32;
    while start.elapsed() < TIME {
        busy(guest);
        let began = Instant::now();
        let down = frame(GUEST, NETVM, 500, rounds as u8);
        netvm.post(&down);
        netvm.kick_tx();
        let arrived = wait_for(|| {
            busy(guest);
            guest.receive_within(Duration::ZERO).is_some_and(|(frame, _)| frame == down)
        });
        assert!(arrived, "frames from netvm arrive");
        guest.fill_rx();
        netvm.wait_tx();
        if rounds.is_multiple_of(16) {
            // The worker carries it out.
            let session = netvm.session();
            session.frontend_call(0, &session.call[0]);
        }
        slowest = slowest.max(began.elapsed());
        rounds += 1;
    }
    assert!(rounds > 10, "{rounds} in {TIME:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// T25: the driver never moves its wish for a call.
fn t25_event_index_that_stays_where_it_is_loses_no_frame<R: Stuck>() {
    for event in [0, 1, 7, 0x7fff, 0x8000, 0xffff] {
        let mut ends = Ends::<R>::new(MRG_RXBUF | EVENT_IDX, 16);
        ends.netvm.rx.stick(event);
        ends.guest.tx.stick(event);
        ends.guest.rx.stick(event);
        for number in 0..100 {
            let up = frame(NETVM, GUEST, 60 + number, 1);
            ends.guest.send(&up);
            assert_eq!(ends.netvm.receive(), up, "{event:#x} {number}");
            ends.netvm.fill_rx();
            ends.down_works();
        }
        // No more calls than there were frames to call for.
        let calls: u64 =
            (0..2).filter_map(|ring| ends.netvm.session().call[ring].read().ok()).sum();
        assert!(calls <= 2 + 200, "{calls}");
        ends.all_is_well();
    }
}

/// A ring whose driver can want its calls at any place, in the ring or not.
trait Stuck: Driver {
    fn stick(&self, event: u16);
}

impl Stuck for DriverRing {
    fn stick(&self, event: u16) {
        self.set_used_event(event);
    }
}

impl Stuck for PackedRing {
    fn stick(&self, event: u16) {
        self.set_driver_event(event, EVENTS_DESC);
    }
}

/// T25: a driver that kicks only when it must, at moments that hit the link asleep, awake and on
/// its way to either.
fn t25_kicks_only_when_asked_for_are_enough<R: Driver>() {
    for features in [MRG_RXBUF, MRG_RXBUF | EVENT_IDX] {
        let mut ends = Ends::<R>::new(features, 64);
        let mut kicks = 0;
        let mut random = 0x2545_f491_u32;
        for number in 0..3000_u32 {
            let mut up = frame(NETVM, GUEST, 60, 1);
            up[40..44].copy_from_slice(&number.to_le_bytes());
            ends.guest.post(&up);
            fence(Ordering::SeqCst);
            if ends.guest.tx.kick_is_due(features & EVENT_IDX != 0) {
                ends.guest.kick_tx();
                kicks += 1;
            }
            assert_eq!(ends.netvm.receive(), up, "{number}, after {kicks} kicks");
            ends.guest.wait_tx();
            ends.netvm.fill_rx();
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 30 == 0 {
                std::thread::sleep(Duration::from_micros(u64::from(random >> 20 & 0xff)));
            }
        }
        assert!(kicks > 0);
        ends.all_is_well();
    }
}

fn t26_kicks_without_end_for_an_empty_ring<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, 64);
    let stop = Arc::new(AtomicBool::new(false));
    let kick = ends.guest.session().kick[1].try_clone().unwrap();
    let stopped = Arc::clone(&stop);
    let storm = std::thread::spawn(move || {
        let mut kicks = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            kicks += 1;
            let _ = kick.write(1);
        }
        kicks
    });
    rest_goes_on(&mut ends.guest, &mut ends.netvm, |_| ());
    stop.store(true, Ordering::Relaxed);
    assert!(storm.join().unwrap() > 1000);
    // The counter of the eventfd at its end, where a write would block.
    ends.guest.session().kick[1].write(u64::MAX - 1).unwrap_or(());
    ends.up_works();
    ends.all_is_well();
}

/// T27: the guest refills its ring whenever it can, and never kicks but once.
fn t27_full_ring_without_end_and_without_kicks<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, 256);
    let up = frame(NETVM, GUEST, 60, 1);
    ends.guest.kick_tx();
    let netvm_rx = &mut ends.netvm;
    let fill = |guest: &mut Guest<R>| {
        while guest.tx.pop_used().is_some() {}
        while guest.tx.in_flight() < 250 {
            guest.post(&up);
        }
    };
    fill(&mut ends.guest);
    ends.guest.kick_tx();
    rest_goes_on(&mut ends.guest, netvm_rx, fill);
    assert!(ends.link.report().guest.frames_in > 1000);
    ends.guest.kick_tx();
    ends.guest.wait_tx();
    while ends.netvm.receive_within(Duration::ZERO).is_some() {}
    ends.all_is_well();
}

/// T28: netvm takes nothing, and the guest sends without end. What is lost is lost there, the
/// sender gets its buffers back, and what comes the other way is not held up.
fn t28_receive_ring_that_is_never_refilled<R: Driver>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, 64);
    let up = frame(NETVM, GUEST, 60, 1);
    let flood = |guest: &mut Guest<R>| {
        while guest.tx.pop_used().is_some() {}
        while guest.tx.in_flight() < 60 {
            guest.post(&up);
        }
        guest.kick_tx();
    };
    rest_goes_on(&mut ends.guest, &mut ends.netvm, flood);
    ends.guest.wait_tx();
    let report = ends.link.report();
    assert_eq!(report.netvm.frames_out, 64, "as many as there were buffers");
    assert_eq!(report.guest.frames_in, 64 + report.drops["no-rx-buffer"]);
    assert!(report.drops["no-rx-buffer"] > 100);
    while ends.netvm.receive_within(Duration::ZERO).is_some() {}
    ends.all_is_well();
}
