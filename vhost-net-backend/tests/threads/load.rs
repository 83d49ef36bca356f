//! Traffic for links that are to be busy, at next to no cost for the machine, and traffic whose
//! delay is measured.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::driver::{Desc, WRITE};
use crate::common::guest::{Guest, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame};
use crate::connected;
use crate::daemon::Daemon;

/// How often traffic is looked after.
const TICK: Duration = Duration::from_micros(50);

/// A link whose guest always has frames to send, and whose netvm always has buffers for them.
pub struct Busy {
    pub daemon: Daemon,
    guest: Guest,
    netvm: Guest,
}

impl Busy {
    const RING: u16 = 4096;

    pub fn new(arguments: &[&str]) -> Self {
        let (daemon, guest, netvm) = Self::connect(arguments);
        // Every descriptor names the same frame or buffer, and every entry of the available ring
        // the descriptor of the same number, for good: then offering is to move an index.
        let frame = guest.write_tx(0, &frame(NETVM, GUEST, 64, 1));
        let buffer = Desc { len: 2048, flags: WRITE, ..frame };
        for (mut ring, desc) in [(guest.tx.clone(), frame), (netvm.rx.clone(), buffer)] {
            ring.set_avail_flags(1);
            for index in 0..Self::RING {
                ring.set_desc(index, desc);
                ring.put_avail(index);
            }
        }
        Self { daemon, guest, netvm }
    }

    /// Connected without receive buffers.
    fn connect(arguments: &[&str]) -> (Daemon, Guest, Guest) {
        let daemon = Daemon::start(&[&["--sandbox", "available"], arguments].concat());
        let [mut guest, mut netvm] = [(); 2].map(|()| Guest::new(MRG_RXBUF, Self::RING));
        guest.connect(&daemon.guest_socket());
        netvm.connect(&daemon.netvm_socket());
        (daemon, guest, netvm)
    }

    /// Offers again whatever was used.
    fn refill(&self) {
        for ring in [&self.netvm.rx, &self.guest.tx] {
            ring.store_avail_idx(ring.used_idx().wrapping_add(Self::RING));
        }
        if self.guest.tx.used_flags() == 0 {
            self.guest.kick_tx();
        }
    }

    /// Frames carried so far.
    pub fn carried(&self) -> u64 {
        let report = self.daemon.report();
        assert!(report.drops.is_empty() && report.guest.ring_faults == 0, "{report:#?}");
        report.netvm.frames_out
    }
}

/// Keeps the links busy until it is over.
pub fn keep_busy(links: &[Busy], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        for link in links {
            link.refill();
        }
        std::thread::sleep(TICK);
    }
}

/// A link that carries little, and how long that takes.
pub struct Timed {
    pub daemon: Daemon,
    guest: Guest,
    netvm: Guest,
    frame: Vec<u8>,
}

impl Timed {
    pub fn new(arguments: &[&str]) -> Self {
        let (daemon, guest, netvm) = connected(MRG_RXBUF, 1024, arguments);
        guest.tx.set_avail_flags(1);
        netvm.rx.set_avail_flags(1);
        Self { daemon, guest, netvm, frame: frame(NETVM, GUEST, 64, 1) }
    }

    /// Sends `count` frames every `period`, for `time`. Returns what each such burst took from the
    /// first frame posted to the last received, in order of length. None may be lost.
    pub fn run(&mut self, count: u16, period: Duration, time: Duration) -> Vec<Duration> {
        let mut delays = Vec::new();
        let mut on_the_way: VecDeque<(Instant, u16)> = VecDeque::new();
        let start = Instant::now();
        let mut next = start;
        while start.elapsed() < time || !on_the_way.is_empty() {
            assert!(
                start.elapsed() < 5 * time,
                "lost: {on_the_way:?}, {:#?}",
                self.daemon.report()
            );
            while self.guest.tx.pop_used().is_some() {}
            let in_flight: u16 = on_the_way.iter().map(|(_, left)| left).sum();
            // A driver with a full ring waits.
            if Instant::now() >= next && start.elapsed() < time && in_flight + count <= 512 {
                next += period;
                on_the_way.push_back((Instant::now(), count));
                for _ in 0..count {
                    self.guest.post(&self.frame);
                }
                if self.guest.tx.used_flags() == 0 {
                    self.guest.kick_tx();
                }
            }
            while self.netvm.rx.pop_used().is_some() {
                let (sent, left) = on_the_way.front_mut().expect("no frame comes twice");
                *left -= 1;
                if *left == 0 {
                    delays.push(sent.elapsed());
                    on_the_way.pop_front();
                }
            }
            self.netvm.fill_rx();
            std::thread::sleep(TICK);
        }
        delays.sort();
        delays
    }
}

/// What at most `percent` of these, which are in order, exceed by 100 - `percent`.
pub fn percentile(delays: &[Duration], percent: usize) -> Duration {
    delays[(delays.len() * percent / 100).min(delays.len() - 1)]
}
