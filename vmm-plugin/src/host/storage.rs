//! Which block devices the host's file systems and swap areas are on.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::sysfs::Sysfs;

/// A block device in use, and the hardware below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StorageUse {
    /// What for: `/ (ext4)`, `swap`.
    pub purpose: String,
    /// Directories below `/sys/devices` of the disks it ends up on (several through LVM or
    /// RAID).
    pub disks: Vec<PathBuf>,
}

impl StorageUse {
    /// Whether it needs the device whose own directory is `directory`.
    #[must_use]
    pub fn needs(&self, directory: &Path) -> bool {
        self.disks.iter().any(|disk| disk.starts_with(directory))
    }
}

/// Mounted file systems and active swap areas that are on a block device.
#[must_use]
pub fn in_use(sysfs: &Sysfs) -> Vec<StorageUse> {
    let mounts = sysfs.text("/proc/self/mountinfo").unwrap_or_default();
    let swaps = sysfs.text("/proc/swaps").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| mounted(sysfs, line));
    // The first line of /proc/swaps is a heading.
    let swapped = swaps.lines().skip(1).filter_map(|line| {
        let file = line.split_whitespace().next()?;
        let disks = disks_of(sysfs, by_name(sysfs, file)?);
        (!disks.is_empty()).then(|| StorageUse { purpose: format!("swap on {file}"), disks })
    });
    mounted.chain(swapped).collect()
}

/// A line of mountinfo: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS`.
fn mounted(sysfs: &Sysfs, line: &str) -> Option<StorageUse> {
    let (mount, source) = line.split_once(" - ")?;
    let mut mount = mount.split_whitespace();
    let number = mount.nth(2)?;
    let point = mount.nth(1)?;
    let mut source = source.split_whitespace();
    let kind = source.next()?;
    // btrfs and overlays show a number of no block device: then the name has to do.
    let device = sysfs
        .real(format!("/sys/dev/block/{number}"))
        .or_else(|| by_name(sysfs, source.next()?))?;
    let disks = disks_of(sysfs, device);
    (!disks.is_empty()).then(|| StorageUse { purpose: format!("{point} ({kind})"), disks })
}

fn by_name(sysfs: &Sysfs, file: &str) -> Option<PathBuf> {
    let name = file.strip_prefix("/dev/")?;
    // /dev/mapper/x is a link to /dev/dm-N on every distribution with udev.
    let name = match sysfs.link_name(file) {
        Some(target) => target,
        None => name.to_owned(),
    };
    sysfs.real(format!("/sys/class/block/{name}"))
}

/// Follows `slaves` of device-mapper and md down to hardware.
fn disks_of(sysfs: &Sysfs, device: PathBuf) -> Vec<PathBuf> {
    let mut disks = Vec::new();
    let mut todo = vec![device];
    let mut seen: Vec<PathBuf> = Vec::new();
    while let Some(device) = todo.pop() {
        if seen.contains(&device) {
            continue;
        }
        let slaves = sysfs.entries(device.join("slaves"));
        todo.extend(
            slaves.iter().filter_map(|slave| sysfs.real(device.join("slaves").join(slave))),
        );
        if !device.starts_with("/sys/devices/virtual") {
            disks.push(device.clone());
        }
        seen.push(device);
    }
    disks
}
