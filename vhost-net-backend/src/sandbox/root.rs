//! A root directory with nothing in it.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, mount_remount, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::PartError;

/// Directories of which one exists on any system that can start a process.
const MOUNT_POINTS: &[&str] = &["/tmp", "/run", "/mnt", "/dev", "/proc", "/sys"];

/// Replaces the root directory by an empty, read-only one. Needs a mount namespace of its own and
/// CAP_SYS_ADMIN; descriptors that are open stay open.
pub fn empty() -> Result<(), PartError> {
    let mount_point =
        MOUNT_POINTS.iter().find(|path| Path::new(path).is_dir()).ok_or(PartError::NoMountPoint)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", *mount_point, "tmpfs", flags, c"mode=0555,size=4k,nr_inodes=1")
        .map_err(PartError::system("mount an empty root"))?;
    let directory = open(*mount_point, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(PartError::system("open the empty root"))?;
    mount_remount(*mount_point, flags | MountFlags::RDONLY, "")
        .map_err(PartError::system("make the empty root read-only"))?;
    fchdir(&directory).map_err(PartError::system("enter the empty root"))?;
    drop(directory);
    match pivot_root(".", ".") {
        // The old root now lies over the new one.
        Ok(()) => {
            unmount(".", UnmountFlags::DETACH).map_err(PartError::system("detach the old root"))?
        }
        // An initramfs cannot be pivoted away from: cover it instead. Nothing leads back below,
        // as the process keeps no directory open and loses CAP_SYS_CHROOT.
        Err(Errno::INVAL) => {
            mount_move(".", "/").map_err(PartError::system("move the empty root over the old"))?;
            chroot(".").map_err(PartError::system("change to the empty root"))?;
        }
        Err(source) => return Err(PartError::system("change roots")(source)),
    }
    chdir("/").map_err(PartError::system("enter the empty root"))
}
