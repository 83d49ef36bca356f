//! A link in this process, with sockets in a directory of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tempfile::TempDir;
use vhost_net_backend::control::listener::{EndListener, listen};
use vhost_net_backend::datapath::rate::Limits;
use vhost_net_backend::end::tap::TapEnd;
use vhost_net_backend::link::{Link, LinkConfig, LinkError, NetvmConfig, VhostUserConfig};
use vhost_net_backend::report::LinkReport;

use super::guest::wait_for;
use super::{CARD, GUEST, GUEST_ADDRESS, NETVM};

pub struct TestLink {
    directory: TempDir,
    control: Option<UnixStream>,
    thread: Option<JoinHandle<Result<(), LinkError>>>,
}

/// What differs between tests.
#[derive(Default)]
pub struct Options {
    pub unsealed: bool,
    pub tap: Option<TapEnd>,
    pub guest_uid: Option<u32>,
    /// One, if zero.
    pub queue_pairs: usize,
    pub limits: Limits,
    /// The guest's address is leased, not [`GUEST_ADDRESS`].
    pub dynamic: bool,
}

impl TestLink {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let end = |name: &str, uid| VhostUserConfig {
            listener: EndListener::new(listen(&directory.path().join(name)).unwrap(), uid).unwrap(),
            unsealed: options.unsealed,
        };
        let guest = end("guest", options.guest_uid);
        let netvm = match options.tap {
            Some(tap) => NetvmConfig::Tap(tap),
            None => NetvmConfig::VhostUser(end("netvm", None)),
        };
        let link = Link::start(LinkConfig {
            name: "test".to_owned(),
            guest_mac: GUEST,
            netvm_mac: NETVM,
            card_mac: CARD,
            mtu: 1500,
            queue_pairs: options.queue_pairs.max(1),
            addresses: if options.dynamic { Vec::new() } else { vec![GUEST_ADDRESS.into()] },
            dynamic: options.dynamic,
            lease: None,
            limits: [options.limits; 2],
            guest,
            netvm,
            sandbox_missing: Vec::new(),
        })
        .unwrap();
        let (control, far) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || link.run(Some(far)));
        Self { directory, control: Some(control), thread: Some(thread) }
    }

    pub fn guest_socket(&self) -> PathBuf {
        self.directory.path().join("guest")
    }

    pub fn netvm_socket(&self) -> PathBuf {
        self.directory.path().join("netvm")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn report(&self) -> LinkReport {
        report(self.control.as_ref().unwrap())
    }

    /// Waits until a report is as wanted, and returns it.
    pub fn report_when(&self, wanted: impl Fn(&LinkReport) -> bool) -> LinkReport {
        let mut last = self.report();
        wait_for(|| {
            last = self.report();
            wanted(&last)
        });
        assert!(wanted(&last), "{last:#?}");
        last
    }

    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: &str) -> u64 {
        self.report().drops.get(reason).copied().unwrap_or(0)
    }
}

/// Asks for a report over a control channel.
pub fn report(mut control: &UnixStream) -> LinkReport {
    control.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    control.write_all(b"report\n").unwrap();
    let mut line = String::new();
    BufReader::new(control).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

impl Drop for TestLink {
    fn drop(&mut self) {
        drop(self.control.take());
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.expect("the link does not panic").expect("the link ends in order");
        }
    }
}
