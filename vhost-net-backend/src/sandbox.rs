//! What the process gives up before it speaks to anybody.
//!
//! The parts, in this order, each of which stands for itself:
//!
//! 1. [`namespaces`]: mount, network, IPC, UTS and cgroup namespaces of its own, with nothing in
//!    them but a loopback interface that is down;
//! 2. [`root`]: an empty, read-only root directory;
//! 3. [`privileges`]: a user and group of its own, no capability in any set, no_new_privs, not
//!    dumpable, small resource limits;
//! 4. [`landlock`]: no file, no network port, no foreign abstract socket, where the kernel can;
//! 5. [`seccomp`]: only the system calls a running link makes.
//!
//! Enter it before any thread is started: all but the namespaces apply to the calling thread and
//! those it starts.

pub mod landlock;
pub mod namespaces;
pub mod privileges;
pub mod root;
pub mod seccomp;

mod sys;

use crate::cli::SandboxMode;

/// A part of the sandbox that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A system call failed.
    #[error("Cannot {action}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// Why not.
        #[source]
        source: rustix::io::Errno,
    },
    /// The empty root directory needs a mount namespace of its own.
    #[error("Cannot give up the file system without a mount namespace")]
    NoMountNamespace,
    /// No directory is there to mount the empty root on.
    #[error("No directory is there to mount an empty root on")]
    NoMountPoint,
    /// The process runs as root and was given no other user.
    #[error("Still root; pass --uid and --gid, with a user that nothing else runs as")]
    Root,
    /// Capabilities cannot be dropped.
    #[error("Cannot drop capabilities")]
    Capabilities(#[source] caps::errors::CapsError),
    /// Landlock failed on a kernel that has it.
    #[error("Cannot enforce landlock rules")]
    Landlock(#[source] ::landlock::RulesetError),
    /// The filter cannot be built or loaded.
    #[error("Cannot load the system call filter")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PartError {
    fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::System { action, source }
    }
}

/// The sandbox was required and is not complete.
#[derive(Debug, thiserror::Error)]
#[error(
    "The sandbox is not complete: {}. Start the link as root with --uid and --gid, \
     or accept what is missing with --sandbox available", .0.join("; ")
)]
pub struct Incomplete(pub Vec<String>);

/// User and group to run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id; not 0.
    pub uid: u32,
    /// Group id; not 0.
    pub gid: u32,
}

/// Enters the sandbox. Returns what is missing: each part with the reason, `part: reason`.
pub fn enter(mode: SandboxMode, identity: Option<Identity>) -> Result<Vec<String>, Incomplete> {
    if mode == SandboxMode::Off {
        tracing::warn!("no sandbox: whoever breaks into this process has all it has");
        return Ok(vec!["all: switched off".to_owned()]);
    }
    let mut missing = Vec::new();
    let mut check = |part: &str, result: Result<(), PartError>| {
        if let Err(error) = &result {
            let reason = std::error::Error::source(error);
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            missing.push(format!("{part}: {error}{reason}"));
        }
        result.is_ok()
    };
    let separate = check("namespaces", namespaces::enter());
    let emptied = if separate { root::empty() } else { Err(PartError::NoMountNamespace) };
    check("root", emptied);
    check("limits", privileges::limit());
    check("user", privileges::drop_all(identity));
    check("landlock", landlock::restrict());
    check("seccomp", seccomp::load());
    match mode {
        SandboxMode::Required if !missing.is_empty() => Err(Incomplete(missing)),
        _ => {
            for part in &missing {
                tracing::warn!("the sandbox lacks {part}");
            }
            Ok(missing)
        }
    }
}
