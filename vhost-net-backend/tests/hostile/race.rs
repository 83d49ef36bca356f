//! T7, T21 to T24: another processor of the guest changes what the link is looking at, as fast as
//! it can. What comes of it may be any frame that was ever there, but nothing that is forbidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::common::driver::{Desc, Driver, DriverRing, NEXT, WRITE};
use crate::common::guest::{Guest, MRG_RXBUF, wait_for};
use crate::common::packed::{AVAIL, PackedRing, USED};
use crate::common::{GUEST, NETVM, frame, on_both};
use crate::oracle::{Ends, SIZE};

on_both! {
    t21_descriptors_that_change_while_they_are_read,
    t22_frame_that_changes_while_it_is_judged,
    t23_header_that_changes_while_it_is_read,
    t24_areas_of_the_device_that_the_driver_writes,
}

/// How long each race is run.
const TIME: Duration = Duration::from_millis(250);
/// A receive buffer's worth of the guest's own memory.
pub const BUFFER: u64 = 0x30_0000;

/// The guest's other processor.
pub struct Processor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Processor {
    /// Calls `act` again and again, with how often it was called.
    pub fn start(mut act: impl FnMut(u64) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                act(count);
                count += 1;
            }
            count
        });
        Self { stop, thread: Some(thread) }
    }

    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.thread.take().unwrap().join().unwrap();
        assert!(times > 1000, "it ran {times} times");
    }
}

/// Sends chains of one descriptor, over and over; returns what netvm received.
fn send_again_and_again<R: Driver>(
    ends: &mut Ends<R>,
    desc: Desc,
    mut seen: impl FnMut(&[u8]),
    enough: impl Fn(&Ends<R>, u32) -> bool,
) {
    let start = Instant::now();
    let mut received = 0;
    while start.elapsed() < TIME || !enough(ends, received) {
        assert!(start.elapsed() < Duration::from_secs(20), "too little comes of it");
        for id in 0..8 {
            ends.guest.tx.offer(id, &[desc]);
        }
        ends.guest.tx.publish();
        ends.guest.kick_tx();
        ends.guest.wait_tx();
        while let Some((frame, _)) = ends.netvm.receive_within(Duration::ZERO) {
            seen(&frame);
            received += 1;
        }
        ends.netvm.fill_rx();
        ends.down_works();
    }
}

/// A header and a frame in the guest's memory at `at`.
pub fn put_frame<R: Driver>(guest: &Guest<R>, at: u64, frame: &[u8]) -> Desc {
    guest.memory.write_slice(&[0; 12], GuestAddress(at)).unwrap();
    guest.memory.write_slice(frame, GuestAddress(at + 12)).unwrap();
    Desc { addr: at, len: 12 + frame.len() as u32, ..Desc::default() }
}

/// T22: source MAC and source address change between those of the guest and others.
fn t22_frame_that_changes_while_it_is_judged<R: Driver>() {
    // All of it private to the link at once, or a part.
    for len in [60, 1400] {
        let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
        let good = frame(NETVM, GUEST, len, 1);
        let desc = put_frame(&ends.guest, BUFFER, &good);
        let memory = Arc::clone(&ends.guest.memory);
        let own = good.clone();
        let processor = Processor::start(move |count| {
            // Wrong and right in turn, a byte of the one address and then of the other.
            let byte = [11, 29][(count >> 10 & 1) as usize];
            let wrong = if count & 1 == 0 { 0xff } else { 0 };
            let at = GuestAddress(BUFFER + 12 + byte as u64);
            memory.write_obj(own[byte] ^ wrong, at).unwrap();
        });
        let seen = |frame: &[u8]| {
            assert_eq!(frame[6..12], GUEST.octets(), "the source is the guest");
            assert_eq!(frame[26..30], good[26..30], "so is the address");
            assert_eq!(frame.len(), len);
        };
        send_again_and_again(&mut ends, desc, seen, |ends, received| {
            received > 50 && ends.link.drops("source-not-guest") > 50
        });
        processor.stop();
        ends.guest.memory.write_slice(&good, GuestAddress(BUFFER + 12)).unwrap();
        ends.all_is_well();
    }
}

/// T23: the virtio-net header claims one thing after the other. Receivers here accept no offloads,
/// and a header that claims something fails the test where the frame is received.
fn t23_header_that_changes_while_it_is_read<R: Driver>() {
    // VIRTIO_NET_F_CSUM, _HOST_TSO4, _HOST_TSO6: the driver may claim them.
    let offloads = 1 | 1 << 11 | 1 << 12;
    let guest = Guest::create(MRG_RXBUF | offloads, SIZE);
    let mut ends = Ends::<R>::with(guest, Guest::create(MRG_RXBUF, 1024));
    // Not TCP, of which one of the claims would be true.
    let good = frame(NETVM, GUEST, 600, 2);
    let desc = put_frame(&ends.guest, BUFFER, &good);
    let memory = Arc::clone(&ends.guest.memory);
    let headers = [
        [0; 12],
        [1, 1, 54, 0, 100, 0, 34, 0, 16, 0, 9, 9],
        [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        [1, 4, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0xff, 0xff],
        [0xff; 12],
    ];
    let processor = Processor::start(move |count| {
        let header = headers[count as usize % headers.len()];
        memory.write_slice(&header, GuestAddress(BUFFER)).unwrap();
    });
    let seen = |frame: &[u8]| assert_eq!(frame, good);
    send_again_and_again(&mut ends, desc, seen, |_, received| received > 50);
    processor.stop();
    ends.all_is_well();
}

/// Has another processor change the guest's transmit ring, in sessions that may end in a fault.
fn races<R: Driver + Send + 'static>(
    act: impl Fn(&R, &GuestMemoryMmap, u64) + Send + Copy + 'static,
) {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    let good = frame(NETVM, GUEST, 200, 1);
    let desc = put_frame(&ends.guest, BUFFER, &good);
    let start = Instant::now();
    let mut sessions = 0;
    while start.elapsed() < TIME || sessions < 3 {
        sessions += 1;
        let (ring, memory) = (ends.guest.tx.clone(), Arc::clone(&ends.guest.memory));
        let processor = Processor::start(move |count| act(&ring, &memory, count));
        let session = Instant::now();
        let mut number = 0;
        while session.elapsed() < TIME / 8 {
            ends.guest.tx.offer_raw(number % SIZE, &[desc]);
            number += 1;
            ends.guest.tx.publish();
            ends.guest.kick_tx();
            while let Some((frame, _)) = ends.netvm.receive_within(Duration::ZERO) {
                assert_eq!(frame[..12], good[..12], "only what the guest may send");
            }
            ends.netvm.fill_rx();
            // Whatever has happened to the ring, the other direction works.
            ends.down_works();
        }
        processor.stop();
        let report = ends.link.report();
        assert_eq!(report.netvm.ring_faults, 0);
        assert!(report.guest.ring_faults <= sessions, "one a session");
        ends.nobody_sees_the_others_memory();
        ends.guest.disconnect();
        ends.link.report_when(|report| !report.guest.connected);
        ends.guest.tx.reset();
        ends.guest.connect(&ends.link.guest_socket());
    }
    while ends.netvm.receive_within(Duration::ZERO).is_some() {}
    ends.heals();
}

/// T21: length, address and flags of every descriptor. Other places in the guest's memory hold the
/// same frame, none, or are not there.
fn t21_descriptors_that_change_while_they_are_read<R: Entries>() {
    races::<R>(|ring, _, count| {
        let addresses = [BUFFER, BUFFER + 1, u64::MAX - 3, 0, BUFFER];
        let lens = [212, 211, 72, 1 << 31, 0, 212, 212];
        let flags = [0, NEXT, 0, WRITE, 4, 0, 0, NEXT | WRITE];
        let pick = |len: usize| (count / 3) as usize % len;
        let desc = Desc {
            addr: addresses[pick(addresses.len())],
            len: lens[pick(lens.len())],
            flags: flags[pick(flags.len())],
            next: (count % 20) as u16,
        };
        ring.overwrite(count as u16 % SIZE, desc, count & 64 != 0);
    });
}

/// A ring whose descriptors can be written by somebody else than its driver.
trait Entries: Driver + Send + 'static {
    fn overwrite(&self, index: u16, desc: Desc, lap: bool);
}

impl Entries for DriverRing {
    fn overwrite(&self, index: u16, desc: Desc, _lap: bool) {
        self.set_desc(index, desc);
    }
}

impl Entries for PackedRing {
    fn overwrite(&self, index: u16, desc: Desc, lap: bool) {
        self.set_desc(index, desc);
        self.set_flags(index, desc.flags | if lap { AVAIL } else { USED });
    }
}

/// T7: the available index goes back and forth (split), descriptors come and go (packed).
#[test]
fn t07_available_index_that_goes_back_and_forth() {
    races::<DriverRing>(|ring, memory, count| {
        let at = GuestAddress(ring.layout.available + 2);
        let now: u16 = memory.load(at, Ordering::Relaxed).unwrap();
        let step = [1, 3, SIZE, SIZE + 1, 0x8000, 2][(count / 2) as usize % 6];
        let there = if count & 1 == 0 { now.wrapping_add(step) } else { now.wrapping_sub(step) };
        memory.store(there, at, Ordering::Relaxed).unwrap();
    });
}

#[test]
fn t07_t35_descriptors_that_become_available_and_do_not() {
    races::<PackedRing>(|ring, _, count| {
        let slot = count as u16 % SIZE;
        ring.set_flags(slot, [AVAIL, USED, AVAIL | USED, 0][(count / 16) as usize % 4]);
    });
}

/// T24: what only the device should write. It never reads it, so nothing comes of it but calls and
/// kicks too many or too few, and lost used entries, for the guest itself.
fn t24_areas_of_the_device_that_the_driver_writes<R: DeviceAreas>() {
    let mut ends = Ends::<R>::new(MRG_RXBUF, SIZE);
    let (rx, tx) = (ends.guest.rx.device_area(), ends.guest.tx.device_area());
    let memory = Arc::clone(&ends.guest.memory);
    let processor = Processor::start(move |count| {
        for (start, len) in [rx, tx] {
            let at = start + count % len;
            memory.write_obj((count / 7) as u8, GuestAddress(at)).unwrap();
        }
    });
    let start = Instant::now();
    let mut number = 0_u32;
    while start.elapsed() < TIME {
        // At most as many as fit, as the driver cannot see what came back; always kicked.
        let mut sent = frame(NETVM, GUEST, 100, 1);
        sent[40..44].copy_from_slice(&number.to_le_bytes());
        let desc = ends.guest.write_tx((number % u32::from(SIZE)) as u16, &sent);
        ends.guest.tx.offer_raw((number % u32::from(SIZE)) as u16, &[desc]);
        ends.guest.tx.publish();
        ends.guest.kick_tx();
        assert_eq!(ends.netvm.receive(), sent, "frames arrive in order");
        ends.netvm.fill_rx();
        number += 1;
    }
    processor.stop();
    let report = ends.link.report();
    assert_eq!((report.guest.ring_faults, report.netvm.ring_faults), (0, 0));
    assert!(wait_for(|| ends.link.report().guest.frames_in == u64::from(number)));
    ends.heals();
}

/// Where a ring has what the device alone writes.
trait DeviceAreas: Driver {
    /// Start and length.
    fn device_area(&self) -> (u64, u64);
}

impl DeviceAreas for DriverRing {
    fn device_area(&self) -> (u64, u64) {
        (self.layout.used, 6 + 8 * u64::from(self.layout.size))
    }
}

impl DeviceAreas for PackedRing {
    fn device_area(&self) -> (u64, u64) {
        (self.layout.used, 4)
    }
}
