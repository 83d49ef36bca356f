//! A `netvm-link` process with sockets in a directory of its own.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use command_fds::{CommandFdExt, FdMapping};
use netvm_bench::frame::Station;
use tempfile::TempDir;

pub const GUEST: Station = Station { mac: [2, 0, 0, 0, 0, 0x0a], ip: Ipv4Addr::new(198, 18, 0, 1) };
pub const NETVM: Station = Station { mac: [2, 0, 0, 0, 0, 0x01], ip: Ipv4Addr::new(198, 18, 0, 2) };

pub struct Link {
    child: Child,
    directory: TempDir,
}

impl Link {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fds = (3..).zip(["guest", "netvm"]).map(|(child_fd, name)| {
            let parent_fd = UnixListener::bind(directory.path().join(name)).unwrap().into();
            FdMapping { parent_fd, child_fd }
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_netvm-link"));
        command
            .args(["--name", "frames", "--guest", "fd:3", "--netvm", "fd:4", "--sandbox", "off"])
            .args(["--guest-mac", "02:00:00:00:00:0a", "--netvm-mac", "02:00:00:00:00:01"])
            .args(["--card-mac", "02:00:00:00:00:02"])
            .stdin(Stdio::null());
        if knows_addresses() {
            command.args(["--address", &GUEST.ip.to_string()]);
        }
        let child = command.fd_mappings(fds.collect()).unwrap().spawn().unwrap();
        Self { child, directory }
    }

    pub fn guest(&self) -> PathBuf {
        self.directory.path().join("guest")
    }

    pub fn netvm(&self) -> PathBuf {
        self.directory.path().join("netvm")
    }
}

/// Whether the link can be told the guest's addresses.
fn knows_addresses() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let help = Command::new(env!("CARGO_BIN_EXE_netvm-link")).arg("--help").output().unwrap();
        String::from_utf8_lossy(&help.stdout).contains("--address ")
    })
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
