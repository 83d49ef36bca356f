//! A link that has nothing to do.

use std::time::Duration;

use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame};
use crate::daemon::Daemon;
use crate::{alone, connected, of_threads};

const SECONDS: u64 = 2;

/// A link through which every kind of path has been used, and that has come to rest.
fn used(features: u64, arguments: &[&str]) -> (Daemon, Guest, Guest) {
    let (daemon, mut guest, mut netvm) = connected(features, 256, arguments);
    for seed in 0..50 {
        for len in [60, 1514] {
            guest.send(&frame(NETVM, GUEST, len, seed));
            netvm.receive();
            netvm.send(&frame(GUEST, NETVM, len, seed));
            guest.receive();
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    (daemon, guest, netvm)
}

#[test]
fn no_thread_of_an_idle_link_wakes_up() {
    let _turn = alone();
    for features in [MRG_RXBUF, MRG_RXBUF | EVENT_IDX] {
        let (daemon, _guest, _netvm) = used(features, &[]);
        let switches = || {
            let of = |field| of_threads(&daemon, field);
            [of("voluntary_ctxt_switches"), of("nonvoluntary_ctxt_switches")]
        };
        let before = switches();
        assert!(before[0].len() >= 4, "{before:?}");
        std::thread::sleep(Duration::from_secs(SECONDS));
        assert_eq!(switches(), before, "wake-ups in {SECONDS} s");
    }
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
    let (_first, _guest, _netvm) = used(MRG_RXBUF | EVENT_IDX, &[]);
    let (second, _other_guest, _other_netvm) = used(MRG_RXBUF | EVENT_IDX, &[]);
    let kib = private_kib(&second);
    println!("{kib} KiB");
    assert!(kib < 2048, "{kib} KiB");
}
