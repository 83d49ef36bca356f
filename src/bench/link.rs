//! A `netvm-link` process with a card at each end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use netvm_bench::card::{Card, CardConfig};
use netvm_bench::frame::Station;
use vhost_net_backend::report::LinkReport;

use super::BenchError;
use super::cpus::Cpus;
use crate::identity;
use crate::run::sys::die_with_parent;

/// The two stations of every link, guest and netvm. The addresses are for benchmarks (RFC 2544).
pub const STATIONS: [Station; 2] = [
    Station { mac: [2, 0, 0, 0, 0, 0x0a], ip: Ipv4Addr::new(198, 18, 0, 1) },
    Station { mac: [2, 0, 0, 0, 0, 0x01], ip: Ipv4Addr::new(198, 18, 0, 2) },
];
/// Exit status of a link that cannot have its sandbox.
const NO_SANDBOX: i32 = 3;
/// How long a link may take for a report.
const PATIENCE: Duration = Duration::from_secs(10);

/// How links are started.
#[derive(Clone, Debug)]
pub struct Starter<'a> {
    program: &'a Path,
    cpus: Cpus,
    mtu: u16,
    /// Whether a link that has not all of its sandbox ends.
    required: bool,
    /// Whether the link wants to know the guest's addresses.
    knows_addresses: bool,
    /// What the sandbox of the last link lacked.
    pub missing: Vec<String>,
}

impl<'a> Starter<'a> {
    /// Starts links of `program` for frames of up to `longest` bytes.
    pub fn new(program: &'a Path, cpus: Cpus, longest: u16) -> Result<Self, BenchError> {
        let help = Command::new(program).arg("--help").output();
        let help = help.map_err(BenchError::system("run netvm-link"))?;
        Ok(Self {
            program,
            cpus,
            mtu: longest.saturating_sub(14).max(1500),
            required: rustix::process::geteuid().is_root(),
            knows_addresses: String::from_utf8_lossy(&help.stdout).contains("--address "),
            missing: Vec::new(),
        })
    }

    /// Which CPU does what.
    pub const fn cpus(&self) -> Cpus {
        self.cpus
    }

    /// Starts a link, and connects a card to each end.
    pub fn start(&mut self, config: &CardConfig) -> Result<BenchLink, BenchError> {
        match self.try_start(config) {
            Err(BenchError::LinkEnded(_)) if self.required => {
                self.required = false;
                self.try_start(config)
            }
            result => result,
        }
    }

    fn try_start(&mut self, config: &CardConfig) -> Result<BenchLink, BenchError> {
        let system = BenchError::system::<std::io::Error>;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let address = |end: &str| {
            // Not in the file system: nothing to clean up. The link checks who connects.
            let name = format!("netvm-bench-{}-{number}-{end}", std::process::id());
            SocketAddr::from_abstract_name(name)
        };
        let mut addresses = Vec::new();
        let mut fds: Vec<OwnedFd> = Vec::new();
        for end in ["guest", "netvm"] {
            let address = address(end).map_err(system("name a socket"))?;
            let listener = UnixListener::bind_addr(&address).map_err(system("make a socket"))?;
            fds.push(listener.into());
            addresses.push(address);
        }
        let (control, theirs) = UnixStream::pair().map_err(system("make a socket pair"))?;
        control.set_read_timeout(Some(PATIENCE)).map_err(system("set a timeout"))?;
        fds.push(theirs.into());

        let uid = rustix::process::geteuid().as_raw().to_string();
        let mut command = Command::new(self.program);
        command
            .args(["--name", &format!("bench-{number}"), "--mtu", &self.mtu.to_string()])
            .args(["--guest-mac", "02:00:00:00:00:0a", "--netvm-mac", "02:00:00:00:00:01"])
            .args(["--card-mac", "02:00:00:00:00:02"])
            .args(["--guest", "fd:3", "--netvm", "fd:4", "--control", "fd:5"])
            .args(["--guest-uid", &uid, "--netvm-uid", &uid])
            .args(["--sandbox", if self.required { "required" } else { "available" }])
            .env("NETVM_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if uid == "0" {
            let user = identity::link(number);
            command.args(["--uid", &user.uid.to_string(), "--gid", &user.gid.to_string()]);
        }
        if self.knows_addresses {
            command.args(["--address", &STATIONS[0].ip.to_string()]);
        }
        die_with_parent(&mut command);
        let mappings =
            (3..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        command
            .fd_mappings(mappings.collect())
            .map_err(std::io::Error::other)
            .map_err(system("pass descriptors"))?;
        // It stays on the CPU on which it was started.
        let child = self.cpus.on_measured(|| command.spawn())?.map_err(system("start the link"))?;
        drop(command);
        let mut link = BenchLink { child, control, cards: Vec::new() };
        // It answers once it is in its sandbox.
        match link.report() {
            Ok(report) => self.missing = report.sandbox_missing,
            Err(error) => return Err(link.why_ended().map_or(error, BenchError::LinkEnded)),
        }
        for address in &addresses {
            let stream =
                UnixStream::connect_addr(address).map_err(system("connect to the link"))?;
            link.cards.push(Card::with_stream(config, stream)?);
        }
        Ok(link)
    }
}

/// A running link; it ends when it is dropped.
#[derive(Debug)]
pub struct BenchLink {
    child: Child,
    control: UnixStream,
    /// The guest's card and netvm's.
    pub cards: Vec<Card>,
}

impl BenchLink {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its state and counters.
    pub fn report(&self) -> Result<LinkReport, BenchError> {
        let mut line = String::new();
        (&self.control)
            .write_all(b"report\n")
            .and_then(|()| BufReader::new(&self.control).read_line(&mut line))
            .and_then(|_| serde_json::from_str(&line).map_err(Into::into))
            .map_err(BenchError::Report)
    }

    /// How it ended, if it has or does within a moment.
    fn why_ended(&mut self) -> Option<String> {
        for _ in 0..50 {
            if let Ok(Some(status)) = self.child.try_wait() {
                let sandbox = status.code() == Some(NO_SANDBOX);
                let reason = if sandbox { ": it cannot have its sandbox" } else { "" };
                return Some(format!("{status}{reason}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for BenchLink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
