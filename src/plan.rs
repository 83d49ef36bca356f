//! Every step that `netvm up` takes, in order, as data: `netvm plan` prints it, `netvm up` executes it.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::PathBuf;

use netvm_image::config::RenderedFile;
use serde::Serialize;
use vmm_plugin::host::binding;
use vmm_plugin::host::nic::Nic;

use crate::leases::Pool;
use crate::platform::Overlay;
use crate::run::process::Identity;
use crate::vmm::shell_quote;

/// What `netvm up` will do, in order. Undoing is the reverse.
#[derive(Debug)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// The guests whose links are told what was leased to them.
    pub pool: Pool,
}

impl Plan {
    /// The NICs that it gives away.
    pub fn nics(&self) -> Vec<Nic> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Bind { nics, .. } => Some(nics.clone()),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

/// One step.
#[derive(Debug)]
pub enum Step {
    /// Make a directory.
    Directory {
        /// Its path.
        path: PathBuf,
    },
    /// Write a file.
    File {
        /// Its path.
        path: PathBuf,
        /// Its text.
        contents: String,
    },
    /// Write the device tree overlay that describes a platform NIC to netvm.
    Overlay(Overlay),
    /// Make a FIFO that comes out of netvm.
    Fifo {
        /// Its path.
        path: PathBuf,
        /// Who may write to it.
        owner: Identity,
    },
    /// Listen on a socket.
    Listen {
        /// Its path.
        path: PathBuf,
        /// Who may connect.
        owner: Identity,
    },
    /// Append the rendered configuration to the image.
    Initramfs {
        /// The image's initramfs, which stays as it is.
        image: PathBuf,
        /// What is appended.
        files: Vec<RenderedFile>,
        /// The result.
        path: PathBuf,
    },
    /// Bind the NICs to vfio-pci.
    Bind {
        /// The NICs.
        nics: Vec<Nic>,
        /// Every sysfs write of it.
        writes: Vec<binding::Step>,
    },
    /// Let the VMM open an IOMMU group.
    Grant {
        /// Its device, such as `/dev/vfio/7`.
        path: PathBuf,
        /// Who may open it.
        owner: Identity,
    },
    /// Run a command: load a module, or change the host's network (`development` only).
    Command {
        /// Its words.
        argv: Vec<OsString>,
        /// The words of the command that undoes it, if it needs one of its own.
        undo: Option<Vec<OsString>>,
    },
    /// Write a kernel setting.
    Setting {
        /// Below `/proc/sys` or `/sys`.
        path: PathBuf,
        /// What to write.
        value: String,
    },
    /// Start a process that runs until the end.
    Start(Start),
    /// Wait until netvm has loaded its ruleset and said so.
    Await {
        /// For how long, in seconds.
        seconds: u64,
    },
}

/// A process to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// What it is.
    pub part: Part,
    /// Its words.
    pub argv: Vec<OsString>,
    /// Who it runs as; none = root, for one that gives it up by itself.
    pub identity: Option<Identity>,
    /// The listening sockets that it inherits, as file descriptors 3, 4, ...; a link's control channel follows.
    pub sockets: Vec<PathBuf>,
}

/// What a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The link of this guest.
    Link(String),
    /// netvm's VMM.
    Netvm,
    /// The host's DHCP and DNS server (`development` only).
    Dnsmasq,
}

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(guest) => write!(f, "link {guest}"),
            Self::Netvm => f.write_str("netvm"),
            Self::Dnsmasq => f.write_str("dnsmasq"),
        }
    }
}

/// A step as `netvm plan` prints it.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What kind of step.
    pub step: &'static str,
    /// What is written, made or run.
    pub what: String,
    /// Why, or for whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
}

/// A command line as a shell would be told it, for people to read.
pub fn shown(argv: &[OsString]) -> String {
    match shell_quote(argv) {
        Ok(line) => line.display().to_string(),
        Err(error) => error.to_string(),
    }
}

impl Step {
    /// The step in words: one line, or several when it writes several files.
    pub fn lines(&self) -> Vec<Line> {
        let line = |step, what: String, about: String| vec![Line { step, what, about }];
        match self {
            Self::Directory { path } => {
                line("directory", path.display().to_string(), String::new())
            }
            Self::File { path, contents } => {
                line("file", path.display().to_string(), format!("{} bytes", contents.len()))
            }
            Self::Overlay(overlay) => {
                let names: Vec<_> = overlay.nics.iter().map(|(name, _)| name.as_str()).collect();
                let about = format!("device tree overlay of {}", names.join(", "));
                line("file", overlay.path.display().to_string(), about)
            }
            Self::Fifo { path, owner } => {
                line("fifo", path.display().to_string(), format!("for uid {}", owner.uid))
            }
            Self::Listen { path, owner } => {
                line("listen", path.display().to_string(), format!("for uid {}", owner.uid))
            }
            Self::Initramfs { image, files, path } => {
                let names: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
                let about = format!("{} + {}", image.display(), names.join(" "));
                line("file", path.display().to_string(), about)
            }
            Self::Bind { writes, .. } => writes
                .iter()
                .map(|write| Line {
                    step: "write",
                    what: format!("{} <- {}", write.path.display(), write.value.escape_debug()),
                    about: write.why.clone(),
                })
                .collect(),
            Self::Grant { path, owner } => {
                line("chown", path.display().to_string(), format!("to uid {}", owner.uid))
            }
            Self::Command { argv, undo } => {
                let about = undo.as_ref().map(|undo| format!("undone by: {}", shown(undo)));
                line("run", shown(argv), about.unwrap_or_default())
            }
            Self::Setting { path, value } => {
                line("write", format!("{} <- {value}", path.display()), String::new())
            }
            Self::Start(start) => {
                let who = match start.identity {
                    Some(identity) => format!("{} as uid {}", start.part, identity.uid),
                    None => start.part.to_string(),
                };
                line("start", shown(&start.argv), who)
            }
            Self::Await { seconds } => {
                line("await", "netvm's ruleset".into(), format!("at most {seconds} s"))
            }
        }
    }
}
