//! What can go wrong around the PC; a scenario that fails is an [`Outcome`](crate::Outcome).

use std::io;
use std::path::{Path, PathBuf};

use netvm_image::{ImageError, Prerequisites};

/// An error of the rig itself. The cause is in `source()` and not repeated in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RigError {
    /// Programs or files the rig needs are not installed.
    #[error("{0}")]
    Missing(Prerequisites),
    /// What goes into the PC could not be packed.
    #[error("Cannot pack what the PC boots")]
    Image(#[from] ImageError),
    /// A file could not be read or written.
    #[error("Cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// A path that QEMU's or the kernel's command line cannot carry.
    #[error("The path {} cannot be used: {reason}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A scenario's name is also a folder's and a word in a command.
    #[error("{0:?} is no scenario name: use lower-case letters, digits and hyphens")]
    ScenarioName(String),
    /// QEMU could not be started.
    #[error("Cannot start qemu-system-x86_64")]
    Start(#[source] io::Error),
    /// QEMU refused a command on its control channel.
    #[error("QEMU refused {command}: {reason}")]
    Qmp {
        /// The command's name.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// The PC ended, hung or never came up.
    #[error("The PC {what}\n--- end of {}\n{tail}", console.display())]
    Lost {
        /// What happened to it.
        what: String,
        /// Its console's log.
        console: PathBuf,
        /// The console's last lines, and QEMU's own messages if there were any.
        tail: String,
    },
    /// A capture cannot be read.
    #[error("{} is not a readable capture", path.display())]
    Capture {
        /// The capture.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pcap_file::PcapError,
    },
}

impl RigError {
    /// Adapter for `map_err`: an I/O error with the attempted action and the path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| RigError::Io { action, path, source }
    }
}
