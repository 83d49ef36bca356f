//! What the kernel does when a file of the tree is written: drivers bind and unbind, group
//! files appear. It can stop the program at any single effect, and checks that no host driver
//! ever meets a device whose group a guest could still reach.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vmm_plugin::host::{DeviceName, Effects, Group, LiveHost, Sysfs, device};

/// At which point of an effect the program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it has happened.
    Before,
    /// Half a journal line is written; any other effect has not happened.
    Torn,
    /// It has happened.
    After,
}

pub const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Torn, Moment::After];

/// Thrown through the program's stack instead of a kill.
struct Died;

pub struct Kernel {
    sysfs: Sysfs,
    /// Effects so far.
    pub effects: usize,
    /// Where to die, counted from 0.
    pub die: Option<(usize, Moment)>,
    /// Files whose write fails with this.
    pub refuses: BTreeMap<PathBuf, io::ErrorKind>,
    /// Writes in order: path and value.
    pub writes: Vec<(PathBuf, String)>,
    /// Undo commands run.
    pub commands: Vec<Vec<String>>,
    /// Drivers whose probe fails: the write succeeds, nothing is bound.
    pub broken_drivers: Vec<String>,
}

/// Runs `program`; `None` when it died on the way.
pub fn survive<T>(program: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(program)) {
        Ok(value) => Some(value),
        Err(cause) if cause.is::<Died>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

impl Kernel {
    pub fn new(sysfs: Sysfs) -> Self {
        Self {
            sysfs,
            effects: 0,
            die: None,
            refuses: BTreeMap::new(),
            writes: Vec::new(),
            commands: Vec::new(),
            broken_drivers: Vec::new(),
        }
    }

    pub fn dying(sysfs: Sysfs, at: usize, moment: Moment) -> Self {
        Self { die: Some((at, moment)), ..Self::new(sysfs) }
    }

    /// Does `effect`, or dies around it.
    fn at<T>(&mut self, effect: impl FnOnce(&mut Self, bool) -> T) -> T {
        let here = self.die.filter(|(at, _)| *at == self.effects);
        self.effects += 1;
        match here {
            Some((_, Moment::Before)) => resume_unwind(Box::new(Died)),
            Some((_, Moment::Torn)) => {
                effect(self, true);
                resume_unwind(Box::new(Died))
            }
            Some((_, Moment::After)) => {
                effect(self, false);
                resume_unwind(Box::new(Died))
            }
            None => effect(self, false),
        }
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(self.sysfs.root()).unwrap())
    }

    /// The kernel's reaction to a write below `/sys/bus`.
    fn react(&mut self, path: &Path, value: &str) -> io::Result<()> {
        let parts: Vec<String> =
            path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let no_device = || io::Error::from_raw_os_error(19);
        match parts[..] {
            ["/", "sys", "bus", _, "devices", _, "driver_override"] => {
                let text = match value.trim() {
                    "" => "(null)",
                    text => text,
                };
                fs::write(self.sysfs.path(path), format!("{text}\n"))
            }
            ["/", "sys", "bus", _, "devices", _, "reset"] => Ok(()),
            ["/", "sys", "bus", _, "drivers", driver, "unbind"] => {
                let device = DeviceName::of_member(value.trim()).ok_or_else(no_device)?;
                if device::driver(&self.sysfs, &device).as_deref() != Some(driver) {
                    return Err(no_device());
                }
                self.unbind(&device)
            }
            ["/", "sys", "bus", _, "drivers", driver, "bind"] => {
                let device = DeviceName::of_member(value.trim()).ok_or_else(no_device)?;
                self.bind(&device, driver)
            }
            ["/", "sys", "bus", _, "drivers_probe"] => {
                let device = DeviceName::of_member(value.trim()).ok_or_else(no_device)?;
                match device::driver_override(&self.sysfs, &device) {
                    Some(driver) => self.bind(&device, &driver),
                    None => Ok(()),
                }
            }
            _ => fs::write(self.sysfs.path(path), format!("{}\n", value.trim())),
        }
    }

    fn unbind(&self, device: &DeviceName) -> io::Result<()> {
        fs::remove_file(self.sysfs.path(device.directory().join("driver")))?;
        self.group_file(device)
    }

    fn bind(&self, device: &DeviceName, driver: &str) -> io::Result<()> {
        let held = device::driver_override(&self.sysfs, device);
        let bound = device::driver(&self.sysfs, device);
        if bound.is_some() || held.is_some_and(|held| held != driver) {
            return Err(io::Error::from_raw_os_error(19));
        }
        if self.broken_drivers.iter().any(|broken| broken == driver) {
            return Ok(());
        }
        let members = Group::of(&self.sysfs, device).map(|group| group.members);
        for member in members.iter().flatten() {
            let other = device::driver(&self.sysfs, member);
            let vfio = |name: &str| name.starts_with("vfio-");
            assert!(
                vfio(driver) || !other.as_deref().is_some_and(vfio),
                "{driver} takes {device} while {member} of its group is with VFIO"
            );
        }
        let target = Path::new("/sys/bus").join(device.bus()).join("drivers").join(driver);
        let link = self.sysfs.path(device.directory().join("driver"));
        symlink(self.sysfs.path(target), link)?;
        self.group_file(device)
    }

    /// `/dev/vfio/GROUP` is there while any member is with VFIO.
    fn group_file(&self, device: &DeviceName) -> io::Result<()> {
        let Some(group) = Group::of(&self.sysfs, device) else {
            return Ok(());
        };
        let with_vfio = group.members.iter().any(|member| {
            device::driver(&self.sysfs, member).is_some_and(|d| d.starts_with("vfio-"))
        });
        let file = self.sysfs.path(group.vfio_path());
        match (with_vfio, file.exists()) {
            (true, false) => fs::write(file, "\n"),
            (false, true) => fs::remove_file(file),
            _ => Ok(()),
        }
    }
}

impl Effects for Kernel {
    fn write(&mut self, path: &Path, value: &str, _: Duration) -> io::Result<()> {
        self.at(|kernel, torn| {
            let path = kernel.absolute(path);
            if torn {
                return Ok(());
            }
            if let Some(kind) = kernel.refuses.get(&path) {
                return Err((*kind).into());
            }
            kernel.writes.push((path.clone(), value.to_owned()));
            kernel.react(&path, value)
        })
    }

    fn write_at(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.at(|_, torn| {
            if torn {
                return Ok(());
            }
            let file = fs::OpenOptions::new().write(true).open(path)?;
            file.write_all_at(bytes, offset)
        })
    }

    fn chown(&mut self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        self.at(|_, torn| match torn {
            true => Ok(()),
            false => LiveHost.chown(path, uid, gid),
        })
    }

    fn run(&mut self, argv: &[String]) -> io::Result<()> {
        self.at(|kernel, torn| {
            if !torn {
                kernel.commands.push(argv.to_vec());
            }
            Ok(())
        })
    }

    fn append(&mut self, journal: &mut File, line: &[u8]) -> io::Result<()> {
        self.at(|_, torn| match torn {
            true => journal.write_all(&line[..line.len() / 2]),
            // Nobody pulls the plug here: waiting for the disk would only take time.
            false => journal.write_all(line),
        })
    }

    fn retire(&mut self, journal: &Path, to: &Path) -> io::Result<()> {
        self.at(|_, torn| match torn {
            true => Ok(()),
            false => fs::rename(journal, to),
        })
    }

    fn pause(&mut self, _: Duration) {}
}

/// Everything below `root`: content of files, targets of links with the root left out, and
/// owners of device files.
pub fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let real = fs::canonicalize(root).unwrap();
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if data.is_dir() {
                todo.push(path);
            } else if data.is_symlink() {
                let target = fs::canonicalize(&path).unwrap_or_default();
                let target = target.strip_prefix(&real).unwrap_or(&target);
                found.insert(name, format!("-> {}", target.display()));
            } else {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                found.insert(name, format!("{}: {text}", data.uid()));
            }
        }
    }
    found
}
