//! Namespaces with nothing in them.

use rustix::mount::{MountPropagationFlags, mount_change};

use super::{PartError, sys};

/// Enters new mount, network, IPC, UTS and cgroup namespaces. Needs CAP_SYS_ADMIN.
///
/// There is no PID namespace, as that would need a second process; the system call filter lets the
/// process signal nobody but itself instead.
pub fn enter() -> Result<(), PartError> {
    sys::unshare_namespaces().map_err(PartError::system("enter new namespaces"))?;
    // What is mounted from here on must not appear in the namespace the process came from.
    let flags = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", flags).map_err(PartError::system("make the mounts private"))
}
