//! Rings that are broken again and again leave nothing behind: no descriptor, no thread, no memory,
//! and one line in the log each. A process of its own, as it counts what the process has; so its
//! tests are one.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a wrong number or an error fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::driver::{Desc, Driver, DriverRing, INDIRECT, NEXT, WRITE};
use common::guest::{Guest, INDIRECT_DESC, MRG_RXBUF, wait_for};
use common::link::TestLink;
use common::packed::PackedRing;
use common::{GUEST, NETVM, frame};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Counts lines that say that a ring was stopped, and others that warn.
#[derive(Clone, Default)]
struct Lines {
    stopped: Arc<AtomicU64>,
    others: Arc<AtomicU64>,
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let mut message = Message(String::new());
            event.record(&mut message);
            let stopped = message.0.contains("ring stopped");
            let count = if stopped { &self.stopped } else { &self.others };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Open descriptors, threads, and KiB of memory that are this process's own.
fn usage() -> (usize, usize, u64) {
    let count = |directory| std::fs::read_dir(directory).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let own = own.trim().trim_end_matches(" kB").parse().unwrap();
    (count("/proc/self/fd"), count("/proc/self/task"), own)
}

/// The ways in which a chain can be wrong that both kinds of rings have.
fn bad_chain(good: Desc, number: u32) -> Vec<Desc> {
    let bad = match number % 7 {
        0 => Desc { addr: u64::MAX, ..good },
        1 => Desc { flags: WRITE, ..good },
        2 => Desc { addr: 0x8_0000, len: 17, flags: INDIRECT, next: 0 },
        3 => Desc { addr: 1 << 40, len: 16, flags: INDIRECT, next: 0 },
        4 => Desc { flags: NEXT | INDIRECT, len: 16, ..good },
        5 => Desc { len: u32::MAX, ..good },
        // To the next descriptor, which is zero in a new ring of either kind.
        _ => return vec![Desc { flags: NEXT, ..good }, Desc { flags: WRITE, ..good }],
    };
    vec![good, bad]
}

fn sessions<R: Driver>(link: &TestLink, netvm: &mut Guest<R>, from: u32, count: u32) {
    let mut guest = Guest::<R>::create(MRG_RXBUF | INDIRECT_DESC, 64);
    for number in from..from + count {
        let faults = link.report().guest.ring_faults;
        guest.tx.reset();
        guest.rx.reset();
        guest.connect(&link.guest_socket());
        guest.fill_rx();
        let up = frame(NETVM, GUEST, 200, number as u8);
        guest.send(&up);
        assert_eq!(netvm.receive(), up);
        netvm.fill_rx();
        let good = guest.write_tx(4, &up);
        let chain = bad_chain(good, number);
        guest.tx.offer(4, &chain);
        guest.tx.publish();
        guest.kick_tx();
        link.report_when(|report| report.guest.ring_faults == faults + 1);
        assert!(wait_for(|| guest.session().error[1].read().is_ok()));
        let down = frame(GUEST, NETVM, 900, number as u8);
        netvm.send(&down);
        assert_eq!(guest.receive(), down);
        guest.disconnect();
        link.report_when(|report| !report.guest.connected);
    }
}

fn leaves_nothing_behind<R: Driver>(lines: &Lines) {
    let link = TestLink::start();
    let mut netvm = Guest::<R>::create(MRG_RXBUF, 64);
    netvm.connect(&link.netvm_socket());
    netvm.fill_rx();
    let before = lines.stopped.load(Ordering::Relaxed);
    sessions(&link, &mut netvm, 0, 70);
    let start = usage();
    sessions(&link, &mut netvm, 70, 140);
    let same = wait_for(|| (usage().0, usage().1) == (start.0, start.1));
    assert!(same, "{:?} was {start:?}", usage());
    let grown = usage().2.saturating_sub(start.2);
    assert!(grown < 512, "{grown} KiB more after 140 sessions");
    assert_eq!(lines.stopped.load(Ordering::Relaxed), before + 210, "a line for each");
    assert_eq!(link.report().guest.ring_faults, 210);
    assert_eq!(link.report().netvm.ring_faults, 0);
}

#[test]
fn t01_t19_broken_rings_leave_nothing_behind() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.clone()))
        .unwrap();
    leaves_nothing_behind::<DriverRing>(&lines);
    leaves_nothing_behind::<PackedRing>(&lines);
    assert_eq!(lines.others.load(Ordering::Relaxed), 0, "nothing else to complain of");
}
