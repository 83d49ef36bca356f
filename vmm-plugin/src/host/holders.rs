//! Which processes have a device file open.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::address::DeviceName;
use super::group::Group;
use super::sysfs::Sysfs;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// What it calls itself (untrusted).
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// The files through which VFIO hands out `device`: its group's, and its own (cdev).
#[must_use]
pub fn vfio_files(sysfs: &Sysfs, device: &DeviceName, group: &Group) -> Vec<PathBuf> {
    let cdevs = sysfs.entries(device.directory().join("vfio-dev"));
    std::iter::once(group.vfio_path())
        .chain(cdevs.iter().map(|name| PathBuf::from("/dev/vfio/devices").join(name)))
        .collect()
}

/// The processes that have one of `files` open, this one included. Without privilege only
/// those of the same user are seen.
#[must_use]
pub fn of_files(sysfs: &Sysfs, files: &[PathBuf]) -> Vec<Holder> {
    let pids = sysfs.entries("/proc").into_iter();
    pids.filter_map(|name| name.parse::<u32>().ok())
        .filter(|pid| {
            let descriptors = format!("/proc/{pid}/fd");
            sysfs.entries(&descriptors).iter().any(|fd| {
                sysfs
                    .link(format!("{descriptors}/{fd}"))
                    .is_some_and(|target| files.contains(&target))
            })
        })
        .map(|pid| Holder {
            pid,
            command: sysfs
                .text(format!("/proc/{pid}/comm"))
                .unwrap_or_default()
                .escape_debug()
                .collect(),
        })
        .collect()
}
