//! `--pin`.

use std::process::Stdio;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::common::guest::{EVENT_IDX, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame};
use crate::{alone, connected, daemon, of_threads};

/// The CPUs this process may use.
pub fn cpus() -> Vec<usize> {
    let usable = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).collect()
}

#[test]
fn every_thread_of_a_pinned_link_stays_where_it_was_put() {
    let _turn = alone();
    let cpu = cpus().last().unwrap().to_string();
    let (daemon, mut guest, mut netvm) = connected(MRG_RXBUF | EVENT_IDX, 64, &["--pin", &cpu]);
    let up = frame(NETVM, GUEST, 300, 5);
    guest.send(&up);
    assert_eq!(netvm.receive(), up);
    let threads = of_threads(&daemon, "Cpus_allowed_list");
    assert!(threads.iter().any(|(name, _)| name == "worker-0"), "{threads:?}");
    assert!(threads.iter().all(|(_, list)| *list == cpu), "{threads:?}");
}

#[test]
fn cpu_that_is_not_there_is_refused() {
    let cpus = cpus();
    let absent = (0..).find(|cpu| !cpus.contains(cpu)).unwrap();
    let list = format!("{},{absent}", cpus[0]);
    let directory = tempfile::tempdir().unwrap();
    let [guest, netvm] = ["guest", "netvm"].map(|name| directory.path().join(name));
    let refused = daemon::command(Vec::new())
        .args(["--sandbox", "off", "--pin", &list])
        .arg("--guest")
        .arg(guest)
        .arg("--netvm")
        .arg(netvm)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains(&format!("CPU {absent}")) && text.contains("online"), "{text}");
}
