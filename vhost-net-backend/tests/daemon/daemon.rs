//! A `netvm-link` process.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use tempfile::TempDir;
use vhost_net_backend::mac::MacAddr;
use vhost_net_backend::report::LinkReport;

use crate::common::guest::wait_for;
use crate::common::link::report;
use crate::common::{CARD, GUEST, GUEST_ADDRESS, NETVM};

/// User and group of the daemon; nothing else here runs as it.
pub const UID: u32 = 71_234;

pub struct Daemon {
    pub child: Child,
    control: Option<UnixStream>,
    directory: TempDir,
    listeners: [UnixListener; 2],
    whose: Whose,
}

/// Whose link it is: the MAC and IPv4 address of its guest.
pub type Whose = (MacAddr, Ipv4Addr);

/// A command with what every link needs, and these descriptors as 3, 4 and so on.
pub fn command(fds: Vec<OwnedFd>) -> Command {
    command_for((GUEST, GUEST_ADDRESS), fds)
}

fn command_for((mac, address): Whose, fds: Vec<OwnedFd>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netvm-link"));
    command
        .args(["--name", "web"])
        .args(["--guest-mac", &mac.to_string()])
        .args(["--netvm-mac", &NETVM.to_string()])
        .args(["--card-mac", &CARD.to_string()])
        .args(["--address", &address.to_string()]);
    let mappings = (3..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).unwrap();
    command
}

impl Daemon {
    /// Starts one with sockets made here and these further arguments.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_for((GUEST, GUEST_ADDRESS), arguments)
    }

    /// As [`Daemon::start`], for another guest.
    pub fn start_for(whose: Whose, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listeners =
            ["guest", "netvm"].map(|name| UnixListener::bind(directory.path().join(name)).unwrap());
        let (child, control) = spawn(whose, &listeners, arguments);
        Self { child, control: Some(control), directory, listeners, whose }
    }

    /// Kills the process and starts another with the same sockets, as a supervisor does.
    pub fn restart(&mut self, arguments: &[&str]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (child, control) = spawn(self.whose, &self.listeners, arguments);
        self.child = child;
        self.control = Some(control);
    }

    pub fn guest_socket(&self) -> PathBuf {
        self.directory.path().join("guest")
    }

    pub fn netvm_socket(&self) -> PathBuf {
        self.directory.path().join("netvm")
    }

    pub fn report(&self) -> LinkReport {
        report(self.control.as_ref().unwrap())
    }

    /// A file below `/proc` of the process.
    pub fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// The value of a line in `/proc/PID/status`.
    pub fn status(&self, field: &str) -> String {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    }

    /// Closes the control channel and waits for the process.
    pub fn hang_up(&mut self) -> ExitStatus {
        self.control = None;
        let mut status = None;
        wait_for(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("the link ends with its supervisor")
    }
}

fn spawn(whose: Whose, listeners: &[UnixListener; 2], arguments: &[&str]) -> (Child, UnixStream) {
    let (control, far) = UnixStream::pair().unwrap();
    let [guest, netvm] = listeners.each_ref().map(|socket| socket.try_clone().unwrap().into());
    let child = command_for(whose, vec![guest, netvm, far.into()])
        .args(["--guest", "fd:3", "--netvm", "fd:4", "--control", "fd:5"])
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // Past the point where it entered its sandbox. A frontend would wait for ever for a process
    // that has died, as the test holds the listening sockets open.
    report(&control);
    (child, control)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the test can run; says why not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIP: the sandbox needs root to enter namespaces and to change its user");
    }
    root
}
