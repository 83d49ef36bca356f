//! Links that share a CPU.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::alone;
use crate::load::{Busy, Timed, keep_busy, percentile};
use crate::pinned::cpus;

const TIME: Duration = Duration::from_secs(2);

/// Runs `measure` while the links are busy.
fn beside<T>(links: &[Busy], measure: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| keep_busy(links, &over));
        std::thread::sleep(Duration::from_millis(100));
        let result = measure();
        over.store(true, Ordering::Relaxed);
        load.join().unwrap();
        result
    })
}

/// The CPU they share: the last, as the first has most of the machine's own work.
fn shared_cpu() -> String {
    cpus().last().unwrap().to_string()
}

/// Whether `attempt` succeeds one time in three: other work on the machine may disturb it.
fn in_one_of_three(mut attempt: impl FnMut() -> bool) -> bool {
    (0..3).any(|_| attempt())
}

#[test]
fn busy_links_on_one_cpu_get_the_same_share() {
    let _turn = alone();
    let cpu = shared_cpu();
    let links: Vec<_> = (0..8).map(|_| Busy::new(&["--pin", &cpu])).collect();
    let carried = || -> Vec<u64> { links.iter().map(Busy::carried).collect() };
    let is_fair = in_one_of_three(|| {
        let frames: Vec<u64> = beside(&links, || {
            let before = carried();
            std::thread::sleep(TIME);
            carried().iter().zip(before).map(|(after, before)| after - before).collect()
        });
        println!("{frames:?}");
        let (least, most) = (frames.iter().min().unwrap(), frames.iter().max().unwrap());
        *least > 1000 && most <= &(2 * least)
    });
    assert!(is_fair, "some got more than twice what others got");
}

/// A burst of a link with little to carry may wait for each busy link's slice of time (3 ms in most
/// kernels) once; and the machine may have as much other work to do.
const PING_BOUND: Duration = Duration::from_millis(2 * 8 * 3);

#[test]
fn link_with_little_traffic_gets_it_through_beside_seven_busy_ones() {
    let _turn = alone();
    let cpu = shared_cpu();
    let links: Vec<_> = (0..7).map(|_| Busy::new(&["--pin", &cpu])).collect();
    let mut worst = Vec::new();
    let is_quick = in_one_of_three(|| {
        let mut timed = Timed::new(&["--pin", &cpu]);
        let delays = beside(&links, || timed.run(1, Duration::from_millis(1), TIME));
        worst.push(percentile(&delays, 99));
        report("ping beside seven busy links", &delays);
        percentile(&delays, 99) < PING_BOUND
    });
    assert!(is_quick, "p99 {worst:?}, bound {PING_BOUND:?}");
    // The busy ones had nothing dropped, nor a ring stopped.
    assert!(links.iter().all(|link| link.carried() > 0));
}

/// Two slices, and as much again for other work on the machine.
const FAIR_BOUND: Duration = Duration::from_millis(2 * 2 * 3);

#[test]
fn guest_at_a_hundredth_of_capacity_loses_nothing_to_one_at_full_rate() {
    let _turn = alone();
    let cpu = shared_cpu();
    let links = [Busy::new(&["--pin", &cpu])];
    let mut worst = Vec::new();
    let is_quick = in_one_of_three(|| {
        let capacity = beside(&links, || {
            let before = links[0].carried();
            std::thread::sleep(TIME / 4);
            4 * (links[0].carried() - before) / TIME.as_secs()
        });
        let per_millisecond = (capacity / 100 / 1000).clamp(1, 500) as u16;
        let mut timed = Timed::new(&["--pin", &cpu]);
        // That none is lost is checked inside.
        let delays = beside(&links, || timed.run(per_millisecond, Duration::from_millis(1), TIME));
        println!("capacity {capacity} frames/s; {per_millisecond} every ms beside it");
        report("beside a guest at full rate", &delays);
        let seen = timed.daemon.report();
        assert!(seen.drops.is_empty(), "{seen:#?}");
        assert_eq!(seen.guest.frames_in, seen.netvm.frames_out);
        worst.push(percentile(&delays, 99));
        percentile(&delays, 99) < FAIR_BOUND
    });
    assert!(is_quick, "p99 {worst:?}, bound {FAIR_BOUND:?}");
}

fn report(what: &str, delays: &[Duration]) {
    let [p50, p99] = [50, 99].map(|percent| percentile(delays, percent));
    println!("{what}: p50 {p50:?}, p99 {p99:?}, most {:?}, {} bursts", delays.last(), delays.len());
}
