//! A link that has nothing to do.

use std::any::Any;
use std::time::Duration;

use crate::common::driver::{Driver, DriverRing};
use crate::common::guest::{EVENT_IDX, MRG_RXBUF};
use crate::common::packed::PackedRing;
use crate::common::{GUEST, NETVM, frame};
use crate::daemon::Daemon;
use crate::{alone, connected, of_threads};

const SECONDS: u64 = 2;

/// A link that has carried frames both ways, and come to rest.
struct Used {
    daemon: Daemon,
    /// Hold its ends.
    _guests: [Box<dyn Any>; 2],
}

fn used<R: Driver + 'static>(features: u64) -> Used {
    let (daemon, mut guest, mut netvm) = connected::<R>(MRG_RXBUF | features, 256, &[]);
    for seed in 0..50 {
        for len in [60, 1514] {
            guest.send(&frame(NETVM, GUEST, len, seed));
            netvm.receive();
            netvm.send(&frame(GUEST, NETVM, len, seed));
            guest.receive();
        }
    }
    Used { daemon, _guests: [Box::new(guest), Box::new(netvm)] }
}

#[test]
fn no_thread_of_an_idle_link_wakes_up() {
    let _turn = alone();
    let links = [
        used::<DriverRing>(0),
        used::<DriverRing>(EVENT_IDX),
        used::<PackedRing>(0),
        used::<PackedRing>(EVENT_IDX),
    ];
    std::thread::sleep(Duration::from_millis(200));
    let switches = || {
        links.each_ref().map(|Used { daemon, .. }| {
            let of = |field| of_threads(daemon, field);
            [of("voluntary_ctxt_switches"), of("nonvoluntary_ctxt_switches")]
        })
    };
    let before = switches();
    assert!(before.iter().all(|link| link[0].len() >= 4), "{before:?}");
    std::thread::sleep(Duration::from_secs(SECONDS));
    assert_eq!(switches(), before, "wake-ups in {SECONDS} s");
}

/// What no other process has, and is in memory: `/proc/PID/smaps_rollup`, KiB.
fn private_kib(daemon: &Daemon) -> u64 {
    let rollup = std::fs::read_to_string(daemon.proc("smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    field("Private_Clean:") + field("Private_Dirty:")
}

#[test]
fn idle_link_takes_less_than_2_mib_of_memory_of_its_own() {
    let _turn = alone();
    // The program's file counts as private while one process has it mapped; the second link shows
    // what each costs. Its guests' memory is shared, with their VMMs.
    let links = [used::<DriverRing>(EVENT_IDX), used::<DriverRing>(EVENT_IDX)];
    let kib = private_kib(&links[1].daemon);
    println!("{kib} KiB");
    assert!(kib < 2048, "{kib} KiB");
}
