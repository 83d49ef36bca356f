//! Command lines of the VMMs, always as lists of arguments, never as shell text.
//!
//! Two kinds: [`netvm_command`] starts netvm itself; [`guest_flags`] is what the user of a guest
//! adds to the command line that the guest has already.

mod cloud_hypervisor;
mod crosvm;
mod machine;
mod minivmm;
mod options;
mod qemu;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::machine::{CommandLineError, GuestLink, LinkCard, NetvmVm, VfioDevice};
pub use self::qemu::Reconnect;

/// A virtual machine monitor that can run netvm and guests.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Vmm {
    /// cloud-hypervisor.
    CloudHypervisor,
    /// crosvm.
    Crosvm,
    /// minivmm, the small VMM of this project.
    Minivmm,
    /// QEMU.
    Qemu,
}

impl Vmm {
    /// The name that it has in netvm.toml and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Vmm::CloudHypervisor => "cloud-hypervisor",
            Vmm::Crosvm => "crosvm",
            Vmm::Minivmm => "minivmm",
            Vmm::Qemu => "qemu",
        }
    }

    /// The usual name of its program, to be found in `PATH`.
    pub fn program(self) -> &'static str {
        match self {
            Vmm::CloudHypervisor => "cloud-hypervisor",
            Vmm::Crosvm => "crosvm",
            Vmm::Minivmm => "minivmm",
            Vmm::Qemu if cfg!(target_arch = "aarch64") => "qemu-system-aarch64",
            Vmm::Qemu => "qemu-system-x86_64",
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is added to a guest's command line so that its card is `link`'s guest end.
///
/// # Errors
///
/// The socket's path cannot be written on this VMM's command line.
pub fn guest_flags(vmm: Vmm, link: &GuestLink) -> Result<Vec<OsString>, CommandLineError> {
    match vmm {
        Vmm::CloudHypervisor => cloud_hypervisor::guest_flags(link),
        Vmm::Crosvm => crosvm::guest_flags(link),
        Vmm::Minivmm => minivmm::guest_flags(link),
        Vmm::Qemu => Ok(qemu::guest_flags(link)),
    }
}

/// The whole command line of netvm, program first.
///
/// Whoever runs it opens both FIFOs for reading before: each VMM waits for the reader.
///
/// # Errors
///
/// A path cannot be written on this VMM's command line, or the VMM cannot carry the devices.
pub fn netvm_command(vmm: Vmm, netvm: &NetvmVm) -> Result<Vec<OsString>, CommandLineError> {
    match vmm {
        Vmm::CloudHypervisor => cloud_hypervisor::netvm_command(netvm),
        Vmm::Crosvm => crosvm::netvm_command(netvm),
        Vmm::Minivmm => minivmm::netvm_command(netvm),
        Vmm::Qemu => qemu::netvm_command(netvm),
    }
}

/// `arguments` as one line that a POSIX shell reads back as the same arguments.
///
/// ```
/// let line = netvm::vmm::shell_quote(["-append", "quiet panic=1"]).unwrap();
/// assert_eq!(line, "-append 'quiet panic=1'");
/// ```
///
/// # Errors
///
/// An argument has a zero byte, which no process can be given.
pub fn shell_quote<S: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<OsString, CommandLineError> {
    let arguments: Vec<S> = arguments.into_iter().collect();
    let words = arguments.iter().map(|argument| argument.as_ref().as_bytes());
    match shlex::bytes::Quoter::new().join(words) {
        Ok(line) => Ok(OsString::from_vec(line)),
        Err(_) => Err(CommandLineError::ZeroByte),
    }
}
