//! Where a running netvm keeps what: one directory, normally `/run/netvm`.

use std::path::{Path, PathBuf};

/// The run directory and the names in it.
#[derive(Clone, Debug)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// The run directory at `root`; nothing is created.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held with flock(2) by `netvm up` and `netvm recover`; holds the pid of the one that runs.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Every change to the host, announced before it is made.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Where `netvm status` and `netvm down` reach `netvm up`.
    pub fn control(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// What belongs to netvm: its channels and its initramfs.
    pub fn netvm(&self) -> PathBuf {
        self.root.join("netvm")
    }

    /// The FIFO that netvm's kernel log comes through.
    pub fn console(&self) -> PathBuf {
        self.netvm().join("console")
    }

    /// The FIFO that netvm's state comes through.
    pub fn state(&self) -> PathBuf {
        self.netvm().join("state")
    }

    /// The last part of netvm's kernel log, bounded.
    pub fn console_log(&self) -> PathBuf {
        self.root.join("console.log")
    }

    /// The leases that netvm reported last, for the next one.
    pub fn leases(&self) -> PathBuf {
        self.root.join("leases.json")
    }

    /// The leases of the host's own DHCP server in the `development` scenario, for the next one.
    pub fn development_leases(&self) -> PathBuf {
        self.root.join("development.leases")
    }

    /// The image with this declaration's configuration appended.
    pub fn initramfs(&self) -> PathBuf {
        self.netvm().join("initramfs")
    }

    /// The directory of all links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The directory of one link.
    pub fn link(&self, guest: &str) -> PathBuf {
        self.links().join(guest)
    }

    /// The socket that the VMM of `guest` connects to.
    pub fn guest_socket(&self, guest: &str) -> PathBuf {
        self.link(guest).join("guest.sock")
    }

    /// The socket that netvm's VMM connects to for this guest's link.
    pub fn netvm_socket(&self, guest: &str) -> PathBuf {
        self.link(guest).join("netvm.sock")
    }

    /// What the `development` scenario renders for the host.
    pub fn development(&self) -> PathBuf {
        self.root.join("development")
    }
}
