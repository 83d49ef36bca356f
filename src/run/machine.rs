//! Executes a plan step by step and remembers how to undo each step.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vmm_plugin::host::binding::{self, BindError};
use vmm_plugin::host::change::{self, ChangeError};
use vmm_plugin::host::effects::LiveHost;
use vmm_plugin::host::journal::{Journal, JournalError, Record};
use vmm_plugin::host::preflight::Overrides;
use vmm_plugin::host::sysfs::Sysfs;

use super::channel::Channel;
use super::process::{Identity, Process};
use crate::leases::{self, Known};
use crate::plan::{Part, Start, Step, shown};

/// The longest line that netvm's channels are believed to have.
const LINE_BYTES: usize = 8 * 1024;
/// How long a process has to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a step failed: where, and what was said.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A file, directory, socket or channel.
    #[error("Cannot make {path}")]
    Io {
        /// Its path.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A process could not be started.
    #[error("Cannot start {part}: {program}")]
    Start {
        /// What it is.
        part: Part,
        /// Its program.
        program: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// The NIC could not be bound; what had been written is undone.
    #[error("Cannot give the NIC to vfio-pci")]
    Bind(#[source] BindError),
    /// A setting or an owner could not be changed.
    #[error("Cannot change the host")]
    Change(#[source] ChangeError),
    /// The journal.
    #[error("Cannot announce a change in the journal")]
    Journal(#[source] JournalError),
    /// netvm's initramfs.
    #[error("Cannot add the configuration to netvm's image")]
    Initramfs(#[source] netvm_image::ImageError),
}

/// A link as it runs.
#[derive(Debug)]
pub struct LinkProcess {
    /// Its guest.
    pub guest: String,
    /// How to start it again.
    pub start: Start,
    /// The process, unless it is down.
    pub process: Option<Process>,
    /// Our end of its control channel.
    pub control: Option<UnixStream>,
    /// How often it was started again.
    pub restarts: u32,
}

#[derive(Debug)]
enum Undo {
    File(PathBuf),
    Directory(PathBuf),
    Netvm,
    Dnsmasq,
    Links,
    Journal,
}

/// What has been made so far.
#[derive(Debug)]
pub struct Machine {
    sysfs: Sysfs,
    journal: Option<Journal>,
    journal_path: PathBuf,
    listeners: BTreeMap<PathBuf, UnixListener>,
    channels: BTreeMap<PathBuf, Channel>,
    undo: Vec<Undo>,
    /// netvm's VMM.
    pub netvm: Option<Process>,
    /// The host's DHCP server in the `development` scenario.
    pub dnsmasq: Option<Process>,
    /// The links, in the declaration's order.
    pub links: Vec<LinkProcess>,
    /// What links are told when they start.
    pub leases: Known,
}

impl Machine {
    /// Nothing made yet. `journal` is created with the first change that needs it.
    pub fn new(sysfs: Sysfs, journal: PathBuf) -> Self {
        Self {
            sysfs,
            journal: None,
            journal_path: journal,
            listeners: BTreeMap::new(),
            channels: BTreeMap::new(),
            undo: Vec::new(),
            netvm: None,
            dnsmasq: None,
            links: Vec::new(),
            leases: Known::new(),
        }
    }

    /// Begins the journal: from here on the host is changed. `overrides` are noted in it.
    pub fn begin(&mut self, overrides: &Overrides) -> Result<(), StepError> {
        let mut journal = Journal::create(&self.sysfs, &mut LiveHost, &self.journal_path)
            .map_err(StepError::Journal)?;
        let note = Record::Note {
            text: "netvm up".to_owned(),
            overrides: overrides.iter().copied().collect(),
        };
        let noted = journal.append(&mut LiveHost, note).map_err(StepError::Journal);
        self.journal = Some(journal);
        self.undo.push(Undo::Journal);
        noted
    }

    /// Takes one step. [`Step::Await`] is not taken here: it needs the event loop.
    pub fn take(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::Directory { path } => self.directory(path),
            Step::File { path, contents } => self.file(path, contents.as_bytes()),
            Step::Overlay(overlay) => self.file(&overlay.path, &overlay.dtb),
            Step::Fifo { path, owner } => self.fifo(path, *owner),
            Step::Listen { path, owner } => self.listen(path, *owner),
            Step::Initramfs { image, files, path } => {
                netvm_image::config::append(image, files, path).map_err(StepError::Initramfs)?;
                fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(at(path))?;
                self.undo.push(Undo::File(path.clone()));
                Ok(())
            }
            Step::Bind { nics, .. } => {
                let (sysfs, journal) = journaled(&self.sysfs, &mut self.journal)?;
                binding::bind(sysfs, &mut LiveHost, journal, nics)
                    .map(drop)
                    .map_err(StepError::Bind)
            }
            Step::Grant { path, owner } => {
                let (sysfs, journal) = journaled(&self.sysfs, &mut self.journal)?;
                let owner = (owner.uid, owner.gid);
                change::change_owner(sysfs, &mut LiveHost, journal, path, owner)
                    .map_err(StepError::Change)
            }
            Step::Command { argv, undo } => {
                if let Some(undo) = undo {
                    let undo =
                        undo.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                    let record = Record::Command { why: shown(argv), undo };
                    let (_, journal) = journaled(&self.sysfs, &mut self.journal)?;
                    journal.append(&mut LiveHost, record).map_err(StepError::Journal)?;
                }
                run(argv)
            }
            Step::Setting { path, value } => {
                let (sysfs, journal) = journaled(&self.sysfs, &mut self.journal)?;
                change::write_file(sysfs, &mut LiveHost, journal, path, value)
                    .map_err(StepError::Change)
            }
            Step::Start(start) => self.start(start),
            Step::Await { .. } => Ok(()),
        }
    }

    fn directory(&mut self, path: &Path) -> Result<(), StepError> {
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir(path).map_err(at(path))?;
        fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(at(path))?;
        self.undo.push(Undo::Directory(path.to_owned()));
        Ok(())
    }

    fn file(&mut self, path: &Path, contents: &[u8]) -> Result<(), StepError> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(path)
            .map_err(at(path))?;
        self.undo.push(Undo::File(path.to_owned()));
        file.write_all(contents).map_err(at(path))
    }

    fn fifo(&mut self, path: &Path, owner: Identity) -> Result<(), StepError> {
        remove_stale(path)?;
        let channel = Channel::create(path, Some(owner), LINE_BYTES).map_err(at(path))?;
        self.undo.push(Undo::File(path.to_owned()));
        self.channels.insert(path.to_owned(), channel);
        Ok(())
    }

    fn listen(&mut self, path: &Path, owner: Identity) -> Result<(), StepError> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(at(path))?;
        self.undo.push(Undo::File(path.to_owned()));
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(at(path))?;
        chown(path, Some(owner.uid), Some(owner.gid)).map_err(at(path))?;
        self.listeners.insert(path.to_owned(), listener);
        Ok(())
    }

    fn start(&mut self, start: &Start) -> Result<(), StepError> {
        match &start.part {
            Part::Netvm => {
                self.undo.push(Undo::Netvm);
                self.netvm = Some(self.spawn(start, None)?);
            }
            Part::Dnsmasq => {
                self.undo.push(Undo::Dnsmasq);
                self.dnsmasq = Some(self.spawn(start, None)?);
            }
            Part::Link(guest) => {
                if self.links.is_empty() {
                    self.undo.push(Undo::Links);
                }
                self.links.push(LinkProcess {
                    guest: guest.clone(),
                    start: start.clone(),
                    process: None,
                    control: None,
                    restarts: 0,
                });
                self.start_link(self.links.len() - 1)?;
            }
        }
        Ok(())
    }

    /// Starts the link at `index` (again), with the sockets that it had.
    pub fn start_link(&mut self, index: usize) -> Result<(), StepError> {
        let (ours, theirs) = UnixStream::pair().map_err(at(Path::new("control channel")))?;
        ours.set_nonblocking(true).map_err(at(Path::new("control channel")))?;
        let mut start = self.links[index].start.clone();
        if let Some(lease) = self.leases.get(&self.links[index].guest) {
            start.argv.extend(leases::words(lease).into_iter().flatten().map(OsString::from));
        }
        let process = self.spawn(&start, Some(theirs.into()))?;
        let link = &mut self.links[index];
        link.process = Some(process);
        link.control = Some(ours);
        Ok(())
    }

    fn spawn(&self, start: &Start, control: Option<OwnedFd>) -> Result<Process, StepError> {
        let failed = |source| StepError::Start {
            part: start.part.clone(),
            program: start.argv.first().map_or_else(String::new, |p| p.display().to_string()),
            source,
        };
        let mut fds = Vec::new();
        for path in &start.sockets {
            let listener = self
                .listeners
                .get(path)
                .ok_or_else(|| failed(io::Error::other("No such socket")))?;
            fds.push(OwnedFd::from(listener.try_clone().map_err(failed)?));
        }
        fds.extend(control);
        Process::start(start.part.to_string(), &start.argv, start.identity, fds).map_err(failed)
    }

    /// Undoes every step in reverse. What cannot be undone is reported, the rest is undone all the same;
    /// returns whether the host is as it was.
    pub fn undo(mut self) -> bool {
        let mut clean = true;
        let complain = |what: &str, error: &dyn std::fmt::Display| {
            eprintln!("netvm: {what}: {error}");
        };
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Netvm => end(self.netvm.take()),
                Undo::Dnsmasq => end(self.dnsmasq.take()),
                Undo::Links => {
                    for link in self.links.iter_mut().rev() {
                        // A link ends by itself when nobody holds the other end of its control channel.
                        drop(link.control.take());
                        end(link.process.take());
                    }
                }
                Undo::Journal => {
                    let Some(journal) = self.journal.take() else { continue };
                    match binding::release(&self.sysfs, &mut LiveHost, journal) {
                        Ok(recovery) => {
                            for failure in &recovery.failed {
                                clean = false;
                                complain(
                                    &failure.subject,
                                    &format!("{}; {}", failure.why, failure.action),
                                );
                            }
                        }
                        Err(error) => {
                            clean = false;
                            complain("cannot undo", &error);
                        }
                    }
                }
                Undo::File(path) => match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        complain(&path.display().to_string(), &error);
                    }
                    _ => {}
                },
                Undo::Directory(path) => {
                    if let Err(error) = fs::remove_dir(&path) {
                        complain(&path.display().to_string(), &error);
                    }
                }
            }
        }
        clean
    }

    /// Takes out the channel at `path`.
    pub fn channel(&mut self, path: &Path) -> Option<Channel> {
        self.channels.remove(path)
    }

    /// Takes out the listening socket at `path`.
    pub fn listener(&mut self, path: &Path) -> Option<UnixListener> {
        self.listeners.remove(path)
    }
}

/// Removes what a killed run left behind; only the holder of the lock gets here.
fn remove_stale(path: &Path) -> Result<(), StepError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn journaled<'a>(
    sysfs: &'a Sysfs,
    journal: &'a mut Option<Journal>,
) -> Result<(&'a Sysfs, &'a mut Journal), StepError> {
    match journal {
        Some(journal) => Ok((sysfs, journal)),
        None => Err(StepError::Io {
            path: "journal".to_owned(),
            source: io::Error::other("A change to the host before the journal was begun"),
        }),
    }
}

fn end(process: Option<Process>) {
    if let Some(mut process) = process
        && let Err(error) = process.end(PATIENCE)
    {
        eprintln!("netvm: cannot end {}: {error}", process.name);
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StepError + '_ {
    move |source| StepError::Io { path: path.display().to_string(), source }
}

/// Runs a command to its end.
fn run(argv: &[OsString]) -> Result<(), StepError> {
    let failed =
        |status: String, stderr| StepError::Command { command: shown(argv), status, stderr };
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| failed(error.to_string(), String::new()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        output.status.to_string(),
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use netvm_image::config::KnownLease;

    use super::*;

    /// What a link that is a shell writes down about its own command line.
    fn written(path: &Path) -> String {
        let start = Instant::now();
        loop {
            match fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ if start.elapsed() > PATIENCE => panic!("{} is not written", path.display()),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    #[test]
    fn a_link_that_starts_again_is_told_the_lease_of_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words");
        let script = format!("echo \"$*\" >{0}.new && mv {0}.new {0}", path.display());
        let argv = ["sh", "-c", &script, "link", "--dynamic"].map(OsString::from).to_vec();
        let part = Part::Link("b".to_owned());
        let start = Start { part, argv, identity: None, sockets: Vec::new() };
        let mut machine = Machine::new(Sysfs::new(directory.path()), "journal".into());
        machine.take(&Step::Start(start)).unwrap();
        assert_eq!(written(&path), "--dynamic\n");
        for last in [7, 8] {
            fs::remove_file(&path).unwrap();
            let lease = KnownLease { address: Ipv4Addr::new(100, 64, 0, last), expires: 0 };
            machine.leases = Known::from([("b".to_owned(), lease), ("c".to_owned(), lease)]);
            machine.start_link(0).unwrap();
            let wanted = format!("--dynamic --lease 100.64.0.{last},4294967295\n");
            assert_eq!(written(&path), wanted);
        }
        assert!(machine.undo());
    }
}
