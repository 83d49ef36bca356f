//! The booted PC: starts QEMU, hands it scenarios, and notices when it dies or hangs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::json;

use crate::qmp::Qmp;
use crate::{Bundle, Claim, Ending, Event, Outcome, Pc, RigError, Scenario, outside};

/// Time the PC has, beyond a scenario's own limit, to end it and clean up behind it.
const GRACE: Duration = Duration::from_secs(90);
/// Time the PC has to power off.
const HALT: Duration = Duration::from_secs(20);
/// How many lines of the console an error shows.
const TAIL_LINES: usize = 40;

/// A running PC.
///
/// QEMU is killed when this is dropped, and when the thread that booted it ends.
#[derive(Debug)]
pub struct Rig {
    folder: PathBuf,
    captures: Vec<(String, String)>,
    qemu: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    qmp: Qmp,
    lost: bool,
}

/// Boots a PC, runs scenarios in turn, and powers it off.
///
/// A scenario that fails or runs out of time does not keep the next one from running; when the PC
/// itself is lost, the scenario at hand is [`Ending::Lost`] and the others are [`Ending::NotRun`].
/// `progress` sees every event as it comes.
///
/// # Errors
/// When something is missing, cannot be packed, or the PC does not come up.
pub fn run(
    pc: &Pc,
    bundle: &Bundle,
    scenarios: &[Scenario],
    folder: &Path,
    mut progress: impl FnMut(&Event),
) -> Result<Vec<Outcome>, RigError> {
    scenarios.iter().try_for_each(Scenario::check)?;
    let mut rig = Rig::boot(pc, bundle, folder, &mut progress)?;
    let outcomes = scenarios
        .iter()
        .map(|scenario| rig.scenario(scenario, &mut progress))
        .collect::<Result<_, _>>()?;
    rig.halt();
    Ok(outcomes)
}

impl Rig {
    /// Boots the PC and waits until it is ready. `folder` receives `console.log`, `qemu.log`,
    /// the whole run's `wire.pcap`, and a folder for each scenario.
    ///
    /// # Errors
    /// As [`run`].
    pub fn boot(
        pc: &Pc,
        bundle: &Bundle,
        folder: &Path,
        progress: &mut dyn FnMut(&Event),
    ) -> Result<Rig, RigError> {
        let packed = bundle.pack()?;
        fs::create_dir_all(folder).map_err(RigError::io("make", folder))?;
        let folder = folder.canonicalize().map_err(RigError::io("find", folder))?;
        outside::serve(&folder)?;

        let (ours, theirs) = UnixStream::pair().map_err(RigError::Start)?;
        let mut arguments = pc.arguments();
        arguments.extend(["-kernel".into(), packed.kernel.clone().into_os_string()]);
        arguments.extend(["-initrd".into(), packed.initrd.path().as_os_str().to_owned()]);
        arguments.extend(["-append".into(), OsString::from(pc.command_line())]);
        let mut qemu = start(&folder, &arguments, theirs.into())?;
        // Both were asked for in start().
        let (commands, output) = match (qemu.stdin.take(), qemu.stdout.take()) {
            (Some(commands), Some(output)) => (commands, output),
            _ => return Err(RigError::Start(std::io::ErrorKind::BrokenPipe.into())),
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(output.read_until(b'\n', &mut line), Ok(length) if length > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });

        let captures = pc
            .nics
            .iter()
            .enumerate()
            .map(|(index, nic)| (nic.id.clone(), nic.capture(index)))
            .collect();
        let qmp = match Qmp::new(ours) {
            Ok(qmp) => qmp,
            Err(error) => {
                // It ended at once: its own message says more than the closed channel.
                let _ = qemu.kill();
                let _ = qemu.wait();
                return Err(lost_at(&folder, &format!("was refused by QEMU ({error})")));
            }
        };
        let mut rig = Rig { folder, captures, qemu, commands, lines, qmp, lost: false };
        let until = Instant::now() + pc.boot_timeout;
        rig.follow(until, progress, &mut |event| matches!(event, Event::Booted { .. }))?;
        Ok(rig)
    }

    /// Runs one scenario. What becomes of it, the loss of the PC included, is in the outcome.
    ///
    /// # Errors
    /// When the scenario's name is unfit, its folder cannot be made, or QEMU cannot capture.
    pub fn scenario(
        &mut self,
        scenario: &Scenario,
        progress: &mut dyn FnMut(&Event),
    ) -> Result<Outcome, RigError> {
        scenario.check()?;
        let name = &scenario.name;
        let folder = self.folder.join(name);
        let mut outcome = Outcome {
            name: name.clone(),
            ending: Ending::NotRun,
            duration: Duration::ZERO,
            claims: Vec::new(),
            wire: folder.join("wire.pcap"),
            folder: folder.clone(),
        };
        if self.lost {
            return Ok(outcome);
        }
        let script = folder.join("script");
        if script.is_file() {
            // An earlier run's: nothing of it may pass for this one's.
            fs::remove_dir_all(&folder).map_err(RigError::io("empty", &folder))?;
        }
        fs::create_dir_all(&folder).map_err(RigError::io("make", &folder))?;
        fs::write(&script, &scenario.script).map_err(RigError::io("write", &script))?;
        self.capture(name)?;

        let started = Instant::now();
        let seconds = scenario.timeout.as_secs().max(1);
        let mut end = None;
        let followed = writeln!(self.commands, "run {name} {seconds}")
            .and_then(|()| self.commands.flush())
            .map_err(RigError::io("command", &self.folder))
            .and_then(|()| {
                let until = started + scenario.timeout + GRACE;
                self.follow(until, progress, &mut |event| {
                    match event {
                        Event::Claim { id, pass, evidence } => outcome.claims.push(Claim {
                            id: id.clone(),
                            pass: *pass,
                            evidence: evidence.clone(),
                        }),
                        Event::End { scenario, code } if scenario == name => end = Some(*code),
                        _ => {}
                    }
                    end.is_some()
                })
            });
        outcome.duration = started.elapsed();
        outcome.ending = match (followed, end) {
            (Err(error), _) => Ending::Lost(error.to_string()),
            (Ok(()), Some(Some(code))) => Ending::Exit(code),
            (Ok(()), _) => Ending::TimedOut,
        };
        if !self.lost {
            self.end_capture(name)?;
        }
        Ok(outcome)
    }

    /// Powers the PC off; kills it when it does not obey.
    pub fn halt(mut self) {
        if writeln!(self.commands, "halt").is_ok() {
            let until = Instant::now() + HALT;
            while Instant::now() < until && matches!(self.qemu.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(50));
            }
        }
        // Dropping kills what is left.
    }

    /// Hands events to `progress` until `done` says so.
    fn follow(
        &mut self,
        until: Instant,
        progress: &mut dyn FnMut(&Event),
        done: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<(), RigError> {
        loop {
            let line =
                match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(line) => line,
                    Err(RecvTimeoutError::Timeout) => {
                        self.examine();
                        return Err(self.give_up("hangs"));
                    }
                    Err(RecvTimeoutError::Disconnected) => return Err(self.give_up("ended")),
                };
            let Some(event) = Event::parse(&line) else {
                continue;
            };
            progress(&event);
            if let Event::Failed { reason } = &event {
                return Err(self.give_up(&format!("cannot go on: {reason}")));
            }
            if done(&event) {
                return Ok(());
            }
        }
    }

    /// Has a PC that hangs say what it does: its kernel on the console, if that still listens to
    /// the keyboard, and QEMU in `hang.txt`, twice, so that what moves can be told from what stands.
    fn examine(&mut self) {
        let keys = ["8", "l", "w", "t"].map(|key| format!("sendkey alt-sysrq-{key}"));
        let keys = keys.iter().map(String::as_str);
        let commands = ["info status", "info registers -a", "info registers -a", "info pic"];
        let mut said = String::new();
        for command in commands.into_iter().chain(keys) {
            let arguments = json!({ "command-line": command });
            let answer = match self.qmp.execute("human-monitor-command", arguments) {
                Ok(answer) => answer.as_str().unwrap_or_default().replace('\r', ""),
                Err(error) => error.to_string(),
            };
            said.push_str(&format!("== {command}\n{answer}\n"));
            thread::sleep(Duration::from_secs(1));
        }
        // It is for whoever looks; the error is the same without.
        let _ = fs::write(self.folder.join("hang.txt"), said);
    }

    /// Ends QEMU and makes the error that shows why.
    fn give_up(&mut self, what: &str) -> RigError {
        self.lost = true;
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        lost_at(&self.folder, what)
    }

    fn capture(&mut self, scenario: &str) -> Result<(), RigError> {
        for (netdev, file) in &self.captures {
            let arguments = json!({
                "qom-type": "filter-dump",
                "id": format!("{scenario}-{netdev}"),
                "netdev": netdev,
                "file": format!("{scenario}/{file}"),
            });
            self.qmp.execute("object-add", arguments)?;
        }
        Ok(())
    }

    fn end_capture(&mut self, scenario: &str) -> Result<(), RigError> {
        for (netdev, _) in &self.captures {
            self.qmp.execute("object-del", json!({ "id": format!("{scenario}-{netdev}") }))?;
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Nothing to do about a QEMU that is gone already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Starts QEMU in `folder`, with its control channel as file descriptor 3.
fn start(folder: &Path, arguments: &[OsString], control: OwnedFd) -> Result<Child, RigError> {
    let log = folder.join("qemu.log");
    let messages = File::create(&log).map_err(RigError::io("write", &log))?;
    // setpriv: QEMU must not outlive whoever started it, not even after a SIGKILL.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(messages);
    command
        .fd_mappings(vec![FdMapping { parent_fd: control, child_fd: 3 }])
        .map_err(|error| RigError::Start(std::io::Error::other(error)))?;
    command.spawn().map_err(RigError::Start)
}

/// The error for a PC that is no more, with the end of its console.
fn lost_at(folder: &Path, what: &str) -> RigError {
    let console = folder.join("console.log");
    let read = |path: &Path| match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    };
    let text = format!("{}{}", read(&console), read(&folder.join("qemu.log")));
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    RigError::Lost { what: what.to_owned(), console, tail }
}
