//! System calls of a link while frames flow, as strace counts them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF, wait_for};
use crate::common::{GUEST, NETVM, frame};
use crate::daemon::{Daemon, is_root};
use crate::{alone, connected, of_threads};

const RING: u16 = 1024;
const BATCHES: u32 = 100;

/// What strace counts, by name.
type Calls = BTreeMap<String, u64>;

/// Attaches to every thread of the link, and waits until it is.
fn attach(daemon: &Daemon, summary: &std::path::Path) -> Child {
    let strace = Command::new("strace")
        .args(["-f", "-c", "-qq", "-p", &daemon.child.id().to_string(), "-o"])
        .arg(summary)
        .stdin(Stdio::null())
        .spawn()
        .expect("strace is installed: make prerequisites");
    let tracer = strace.id().to_string();
    let attached = || of_threads(daemon, "TracerPid").iter().all(|(_, pid)| *pid == tracer);
    assert!(wait_for(attached), "{:?}", of_threads(daemon, "TracerPid"));
    strace
}

/// Ends it and reads what it has counted.
fn detach(mut strace: Child, summary: &std::path::Path) -> Calls {
    let pid = Pid::from_raw(strace.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    strace.wait().unwrap();
    let table = std::fs::read_to_string(summary).unwrap();
    // % time, seconds, usecs/call, calls, perhaps errors, name.
    let row = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let calls = fields.get(3)?.parse().ok()?;
        let name = *fields.last()?;
        (name != "total").then(|| (name.to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

/// Sends a batch, and takes it out at the other end; both drivers want one call for it.
fn batch(guest: &mut Guest, netvm: &mut Guest, frame: &[u8], size: u16) {
    netvm.fill_rx();
    netvm.rx.set_used_event(netvm.rx.last_used.wrapping_add(size - 1));
    guest.tx.set_used_event(guest.tx.last_used.wrapping_add(size - 1));
    for _ in 0..size {
        guest.post(frame);
    }
    guest.kick_tx();
    guest.wait_tx();
    let all = netvm.rx.last_used.wrapping_add(size);
    let received = wait_for(|| {
        while netvm.rx.pop_used().is_some() {}
        netvm.rx.last_used == all
    });
    assert!(received, "frames were lost");
}

/// The link's calls while [`BATCHES`] batches flow.
fn calls(size: u16) -> Calls {
    let (daemon, mut guest, mut netvm) = connected(MRG_RXBUF | EVENT_IDX, RING, &[]);
    let frame = frame(NETVM, GUEST, 64, 1);
    for _ in 0..10 {
        batch(&mut guest, &mut netvm, &frame, size);
    }
    let directory = tempfile::tempdir().unwrap();
    let summary = directory.path().join("summary");
    let strace = attach(&daemon, &summary);
    for _ in 0..BATCHES {
        batch(&mut guest, &mut netvm, &frame, size);
        std::thread::sleep(Duration::from_millis(1));
    }
    let calls = detach(strace, &summary);
    let frames = daemon.report().guest.frames_in;
    assert_eq!(frames, u64::from(size) * u64::from(BATCHES + 10));
    println!("{BATCHES} batches of {size} frames: {calls:?}");
    calls
}

#[test]
fn calls_are_per_batch_and_none_is_per_frame() {
    if !is_root() {
        return;
    }
    let _turn = alone();
    let (small, large) = (calls(64), calls(RING));
    let frames = u64::from(RING) * u64::from(BATCHES);
    // In a batch: a wake-up, a look at the room in an eventfd and a call at each end.
    assert!(10 * large.values().sum::<u64>() < frames, "{large:?}");
    // Looks for frames that do not come depend on time, and not on frames.
    let needed = |calls: &Calls| -> u64 {
        calls.iter().filter(|(name, _)| *name != "sched_yield").map(|(_, count)| count).sum()
    };
    assert!(needed(&large) <= 2 * needed(&small), "{small:?}, {large:?}");
}
