//! Start, reports, end.

use std::process::Output;

use crate::common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use crate::common::{GUEST, NETVM, frame};
use crate::daemon::{Daemon, UID, command, is_root};

fn required() -> [String; 6] {
    let id = UID.to_string();
    ["--sandbox", "required", "--uid", &id, "--gid", &id].map(str::to_owned)
}

fn exchange(guest: &mut Guest, netvm: &mut Guest) {
    let up = frame(NETVM, GUEST, 300, 5);
    guest.send(&up);
    assert_eq!(netvm.receive(), up);
    let down = frame(GUEST, NETVM, 400, 6);
    netvm.send(&down);
    assert_eq!(guest.receive(), down);
}

#[test]
fn link_carries_frames_in_its_full_sandbox() {
    if !is_root() {
        return;
    }
    let arguments = required();
    let mut daemon = Daemon::start(&arguments.each_ref().map(String::as_str));
    let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    let mut netvm = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    for _ in 0..3 {
        guest.connect(&daemon.guest_socket());
        netvm.connect(&daemon.netvm_socket());
        guest.fill_rx();
        netvm.fill_rx();
        exchange(&mut guest, &mut netvm);
        guest.disconnect();
        netvm.disconnect();
    }
    let report = daemon.report();
    assert_eq!(report.name, "web");
    assert_eq!(report.guest.frames_in, 3);
    assert_eq!(report.sandbox_missing, [""; 0]);
    assert!(daemon.hang_up().success());
}

#[test]
fn link_that_was_killed_resumes_where_the_rings_are() {
    let mut daemon = Daemon::start(&["--sandbox", "available"]);
    let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX, 64);
    let mut netvm = Guest::new(MRG_RXBUF | EVENT_IDX, 64);
    guest.fill_rx();
    netvm.fill_rx();
    for _ in 0..10 {
        guest.connect(&daemon.guest_socket());
        netvm.connect(&daemon.netvm_socket());
        // No buffer is posted anew before these arrive: those posted before the kill are found.
        exchange(&mut guest, &mut netvm);
        guest.fill_rx();
        netvm.fill_rx();
        daemon.restart(&["--sandbox", "available"]);
        guest.disconnect();
        netvm.disconnect();
    }
}

fn run(arguments: &[&str]) -> Output {
    command(Vec::new()).args(arguments).output().unwrap()
}

#[test]
fn exit_codes_are_as_documented() {
    let wrong = run(&["--guest", "fd:3"]);
    assert_eq!(wrong.status.code(), Some(2));
    let closed = run(&["--guest", "fd:33", "--netvm", "fd:44"]);
    assert_eq!(closed.status.code(), Some(1));
    let text = String::from_utf8(closed.stderr).unwrap();
    assert!(text.contains("fd:33 is not open"), "{text}");
    let directory = tempfile::tempdir().unwrap();
    let [guest, netvm] = ["guest", "netvm"].map(|name| directory.path().join(name));
    let sockets = ["--guest", guest.to_str().unwrap(), "--netvm", netvm.to_str().unwrap()];
    // Root without a user to become, or no root at all: either way the sandbox is incomplete.
    let incomplete = run(&sockets);
    assert_eq!(incomplete.status.code(), Some(3));
    let text = String::from_utf8(incomplete.stderr).unwrap();
    assert!(text.contains("--sandbox available"), "{text}");
}

#[test]
fn path_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let path = file.to_str().unwrap();
    let refused = run(&["--guest", path, "--netvm", path, "--sandbox", "off"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn idle_link_does_not_wake_up() {
    let daemon = Daemon::start(&["--sandbox", "available"]);
    let mut guest = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    let mut netvm = Guest::new(MRG_RXBUF | EVENT_IDX, 256);
    guest.fill_rx();
    netvm.fill_rx();
    guest.connect(&daemon.guest_socket());
    netvm.connect(&daemon.netvm_socket());
    exchange(&mut guest, &mut netvm);
    let switches = || -> Vec<(String, String)> {
        let tasks = std::fs::read_dir(daemon.proc("task")).unwrap();
        tasks
            .map(|task| {
                let path = task.unwrap().path();
                let status = std::fs::read_to_string(path.join("status")).unwrap();
                let count = status.lines().find(|line| line.starts_with("voluntary")).unwrap();
                (std::fs::read_to_string(path.join("comm")).unwrap(), count.to_owned())
            })
            .collect()
    };
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = switches();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(switches(), before);
}
