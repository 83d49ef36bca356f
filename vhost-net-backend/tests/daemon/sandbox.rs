//! What a link in its sandbox has, seen from outside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::guest::{Guest, MRG_RXBUF, wait_for};
use crate::daemon::{Daemon, UID, is_root};

/// A link in the full sandbox.
fn sandboxed() -> Daemon {
    let id = UID.to_string();
    Daemon::start(&["--sandbox", "required", "--uid", &id, "--gid", &id])
}

#[test]
fn link_has_its_own_user_no_capability_and_a_filter() {
    if !is_root() {
        return;
    }
    let daemon = sandboxed();
    let id = UID.to_string();
    let four = [id.as_str(); 4].join("\t");
    assert_eq!(daemon.status("Uid"), four);
    assert_eq!(daemon.status("Gid"), four);
    assert_eq!(daemon.status("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(daemon.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(daemon.status("NoNewPrivs"), "1");
    assert_eq!(daemon.status("Seccomp:"), "2");
    // Every thread, those of a session too.
    let mut guest = Guest::new(MRG_RXBUF, 64);
    guest.connect(&daemon.guest_socket());
    let tasks: Vec<_> = fs::read_dir(daemon.proc("task")).unwrap().collect();
    assert!(tasks.len() >= 4, "{tasks:?}");
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2") && status.contains("CapEff:\t0000000000000000"));
    }
}

#[test]
fn link_has_namespaces_of_its_own_with_nothing_in_them() {
    if !is_root() {
        return;
    }
    let daemon = sandboxed();
    for name in ["mnt", "net", "ipc", "uts", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let its = fs::read_link(daemon.proc(&format!("ns/{name}"))).unwrap();
        assert_ne!(own, its, "{name}");
    }
    let root = daemon.proc("root/");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "the root directory is empty");
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o222, 0);
    let mounts = fs::read_to_string(daemon.proc("mounts")).unwrap();
    assert!(mounts.lines().count() == 1 && mounts.contains(" / tmpfs ro,"), "{mounts}");
    let interfaces = fs::read_to_string(daemon.proc("net/dev")).unwrap();
    let names: Vec<_> = interfaces.lines().skip(2).map(str::trim_start).collect();
    // Some kernels put tunnel templates (sit0, ...) into every namespace; none is up.
    assert!(names.iter().any(|line| line.starts_with("lo:")), "{interfaces}");
    let routes = fs::read_to_string(daemon.proc("net/route")).unwrap();
    assert!(routes.lines().count() <= 1, "nothing below the heading: {routes}");
    assert_eq!(fs::read_to_string(daemon.proc("net/if_inet6")).unwrap_or_default(), "");
    assert_eq!(fs::read_to_string(daemon.proc("net/fib_trie")).unwrap_or_default(), "");
}

#[test]
fn link_holds_only_its_own_guests_descriptors() {
    if !is_root() {
        return;
    }
    // A file the careless parent left open, and a second guest with a link of its own.
    let (first, second) = (sandboxed(), sandboxed());
    let mut guest = Guest::new(MRG_RXBUF, 64);
    let mut other = Guest::new(MRG_RXBUF, 64);
    guest.connect(&first.guest_socket());
    other.connect(&second.guest_socket());
    assert!(wait_for(|| holds(&first, &guest) && holds(&second, &other)));
    assert!(!holds(&first, &other), "the other guest's memory is out of reach");
    assert!(!holds(&second, &guest));
    let kinds: BTreeSet<String> = descriptors(&first)
        .into_iter()
        .map(|target| target.split([':', '/']).next().unwrap_or_default().to_owned())
        .collect();
    // The streams (pipes or files of the test), sockets, eventfds and epoll, the guest's memfd.
    for target in descriptors(&first) {
        let known = ["socket:", "anon_inode:[eventfd]", "anon_inode:[eventpoll]", "/memfd:guest"];
        let is_stream = target.starts_with("pipe:") || target.starts_with("/dev/");
        let is_known = known.iter().any(|prefix| target.starts_with(prefix));
        let is_output = target.starts_with('/') && !target.starts_with("/memfd:");
        assert!(is_known || is_stream || is_output, "{target} {kinds:?}");
    }
    // Mapped memory: the guest's, and no other memfd.
    let maps = fs::read_to_string(first.proc("maps")).unwrap();
    let inode = guest.file.metadata().unwrap().ino().to_string();
    let memfds = maps.lines().filter(|line| line.contains("/memfd:"));
    for line in memfds {
        assert!(line.split_whitespace().any(|field| field == inode), "{line}");
    }
}

/// What the process's descriptors point to.
fn descriptors(daemon: &Daemon) -> Vec<String> {
    fs::read_dir(daemon.proc("fd"))
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect()
}

/// Whether the process has a descriptor of this guest's memory.
fn holds(daemon: &Daemon, guest: &Guest) -> bool {
    let inode = guest.file.metadata().unwrap().ino();
    fs::read_dir(daemon.proc("fd"))
        .unwrap()
        .filter_map(|entry| fs::metadata(entry.ok()?.path()).ok())
        .any(|metadata| metadata.ino() == inode)
}
