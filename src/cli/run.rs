//! From what was typed to what is done, and to an exit status.

use std::path::Path;
use std::time::Duration;

use clap::CommandFactory as _;
use rustix::thread::CpuSet;
use vmm_plugin::host::effects::LiveHost;
use vmm_plugin::host::recovery;
use vmm_plugin::host::sysfs::Sysfs;

use super::{Cli, Command, ImageCommand, Target};
use crate::declaration::{self, Declaration, Parsed, Scenario};
use crate::exit::Exit;
use crate::prepare::{Options, Prepared, prepare};
use crate::run::control;
use crate::run::lock::Lock;
use crate::run::paths::RunDir;
use crate::{demo, development, flags, image, platform};

/// How long `netvm down` waits: processes are given five seconds each, drivers thirty.
const DOWN_PATIENCE: Duration = Duration::from_secs(120);

/// An error and the status that goes with it.
#[derive(Debug)]
pub struct Failure {
    /// The status.
    pub exit: Exit,
    /// What to print.
    pub report: miette::Report,
}

impl Failure {
    /// A failure with any error.
    pub fn new(exit: Exit, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { exit, report: miette::Report::from_err(error) }
    }
}

/// Does what was typed.
pub fn run(cli: Cli) -> Exit {
    match execute(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("{:?}", failure.report);
            failure.exit
        }
    }
}

fn execute(cli: Cli) -> Result<Exit, Failure> {
    let run = RunDir::new(cli.run_dir);
    match cli.command {
        Command::Check { target, json } => check(&run, &target, json),
        Command::Plan { target, json } => plan(&run, &target, json),
        Command::Up { target } => up(&run, &target),
        Command::Down => down(&run),
        Command::Status { json, svg, watch } => status(&run, json, svg, watch),
        Command::Recover { json } => recover(&run, json),
        Command::Flags { guest, declaration, vmm, memory, json } => {
            let declaration = load(&declaration.path)?.declaration;
            flags::print_flags(&declaration, &run, &guest, vmm, memory.as_deref(), json)
        }
        Command::Image { command: ImageCommand::Build { image: directory, kernel, modules } } => {
            image::build(&directory.path, kernel.as_deref(), &modules)
        }
        Command::Image { command: ImageCommand::Show { image: directory, json } } => {
            image::show(&directory.path, json)
        }
        Command::Demo { out, cache, vmm } => demo::demo(&out, &cache, vmm),
        Command::Bench { options } => crate::bench::bench(&options),
        Command::Dt { command } => crate::dt::run(command),
        Command::Schema => print(&declaration::schema()),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "netvm", &mut out);
            print(&String::from_utf8_lossy(&out))
        }
        Command::Man => {
            let mut out = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .section("8")
                .render(&mut out)
                .map_err(|error| Failure::new(Exit::Failed, error))?;
            print(&String::from_utf8_lossy(&out))
        }
    }
}

/// Prints to stdout; a reader that has gone away (`netvm man | head`) is no failure.
pub fn print(text: &str) -> Result<Exit, Failure> {
    use std::io::{ErrorKind, Write as _};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, error))
        }
        _ => Ok(Exit::Done),
    }
}

/// Prints a value as JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<Exit, Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Failed, error))?;
    print(&format!("{text}\n"))
}

fn load(path: &Path) -> Result<Parsed, Failure> {
    let parsed = declaration::load(path)
        .map_err(|error| Failure { exit: Exit::Declaration, report: miette::Report::new(error) })?;
    if !parsed.warnings.is_empty() {
        eprintln!("{:?}", miette::Report::new(parsed.warnings.clone()));
    }
    Ok(parsed)
}

/// Refuses links on CPUs that they could not run on: they inherit what this process may use.
fn check_cpus(parsed: &Parsed) -> Result<(), Failure> {
    let usable = rustix::thread::sched_getaffinity(None)
        .map_err(|error| Failure::new(Exit::Failed, std::io::Error::from(error)))?;
    let is_usable = |cpu: u16| usize::from(cpu) < CpuSet::MAX_CPU && usable.is_set(cpu.into());
    parsed
        .check_cpus(is_usable)
        .map_err(|findings| Failure { exit: Exit::Refused, report: miette::Report::new(findings) })
}

fn look(run: &RunDir, target: &Target) -> Result<(Declaration, Prepared, Sysfs), Failure> {
    let parsed = load(&target.declaration.path)?;
    check_cpus(&parsed)?;
    let declaration = parsed.declaration;
    let sysfs = Sysfs::new("/");
    let overrides = target.overrides.into();
    let options = Options { run, image_dir: &target.image.path, overrides: &overrides };
    let prepared = prepare(&declaration, &sysfs, &options)
        .map_err(|error| Failure::new(Exit::Refused, error))?;
    Ok((declaration, prepared, sysfs))
}

fn check(run: &RunDir, target: &Target, json: bool) -> Result<Exit, Failure> {
    let (declaration, prepared, sysfs) = look(run, target)?;
    if json {
        print_json(&serde_json::json!({
            "scenario": declaration.scenario,
            "nics": prepared.nics,
            "device_tree": platform::survey(&sysfs),
            "findings": prepared.report.findings,
            "missing": prepared.missing,
            "refused": prepared.refused(),
        }))?;
    } else {
        let mut text = String::new();
        for nic in &prepared.nics {
            text.push_str(&format!("NIC {}\n", nic.device.describe()));
            if let Some(usb) = &nic.usb {
                text.push_str(&format!("  is the host controller of {}\n", usb.nic));
                for other in &usb.others {
                    text.push_str(&format!("  leaves the host with it: {other}\n"));
                }
            }
        }
        for nic in platform::survey(&sysfs) {
            text.push_str(&format!("{}\n", platform::describe(&nic)));
        }
        text.push_str(&prepared.report.to_string());
        for missing in &prepared.missing {
            text.push_str(&format!("{missing}\n"));
        }
        if declaration.scenario == Scenario::Development {
            text.push_str(&development::warning(&declaration));
            text.push('\n');
        }
        text.push_str(if prepared.refused() {
            "\nRefused: `netvm up` would not start.\n"
        } else {
            "\nNothing stands in the way of `netvm up`.\n"
        });
        print(&text)?;
    }
    Ok(if prepared.refused() { Exit::Refused } else { Exit::Done })
}

fn plan(run: &RunDir, target: &Target, json: bool) -> Result<Exit, Failure> {
    let (_, prepared, _) = look(run, target)?;
    let lines: Vec<_> = prepared.plan.steps.iter().flat_map(crate::plan::Step::lines).collect();
    if json {
        print_json(&lines)?;
    } else {
        let mut text = String::new();
        for (number, line) in (1..).zip(&lines) {
            text.push_str(&format!("{number:>3}  {:<9}  {}\n", line.step, line.what));
            if !line.about.is_empty() {
                text.push_str(&format!("{:16}# {}\n", "", line.about));
            }
        }
        print(&text)?;
    }
    refuse(&prepared)?;
    Ok(Exit::Done)
}

/// Prints what is refused.
fn refuse(prepared: &Prepared) -> Result<(), Failure> {
    if !prepared.refused() {
        return Ok(());
    }
    for finding in prepared.report.refusals() {
        eprintln!("{finding}");
    }
    for missing in &prepared.missing {
        eprintln!("{missing}");
    }
    let report = miette::miette!("Refused; nothing was touched");
    Err(Failure { exit: Exit::Refused, report })
}

fn up(run: &RunDir, target: &Target) -> Result<Exit, Failure> {
    // Before the lock, so that a wrong declaration is found even while another one runs.
    load(&target.declaration.path)?;
    let lock = Lock::take(&run.lock()).map_err(|error| Failure::new(Exit::Failed, error))?;
    if run.journal().exists() {
        let error = control::ControlError::NeedsRecovery;
        return Err(Failure::new(Exit::NeedsRecovery, error));
    }
    let (declaration, prepared, sysfs) = look(run, target)?;
    refuse(&prepared)?;
    for finding in prepared.report.warnings() {
        eprintln!("{finding}");
    }
    if declaration.scenario == Scenario::Development {
        eprintln!("{}", development::warning(&declaration));
    }
    let overrides = target.overrides.into();
    let Prepared { plan, fixed, .. } = prepared;
    crate::run::up(run, lock, &sysfs, &plan, fixed, &overrides).map_err(|error| {
        let exit = if run.journal().exists() { Exit::NeedsRecovery } else { Exit::Failed };
        Failure::new(exit, error)
    })?;
    Ok(Exit::Done)
}

fn down(run: &RunDir) -> Result<Exit, Failure> {
    match control::down(run, DOWN_PATIENCE) {
        Ok(true) => Ok(Exit::Done),
        Ok(false) => Err(asking_failed(control::ControlError::NeedsRecovery)),
        Err(error) => Err(asking_failed(error)),
    }
}

fn asking_failed(error: control::ControlError) -> Failure {
    let exit = match error {
        control::ControlError::NeedsRecovery => Exit::NeedsRecovery,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

fn status(run: &RunDir, json: bool, svg: bool, watch: bool) -> Result<Exit, Failure> {
    loop {
        let status = control::status(run).map_err(asking_failed)?;
        if json {
            return print_json(&status);
        }
        if svg {
            return print(&status.drawing().to_string());
        }
        if !watch {
            return print(&status.table());
        }
        // Clear the screen, cursor home (ECMA-48 8.3.39, 8.3.21).
        print(&format!("\x1b[2J\x1b[H{}", status.table()))?;
        std::thread::sleep(Duration::from_secs(2));
    }
}

fn recover(run: &RunDir, json: bool) -> Result<Exit, Failure> {
    let lock = Lock::take(&run.lock()).map_err(|error| Failure::new(Exit::Failed, error))?;
    let outcome = recovery::recover(&Sysfs::new("/"), &mut LiveHost, &run.journal())
        .map_err(|error| Failure::new(Exit::NeedsRecovery, error))?;
    if outcome.complete() {
        crate::run::remove_leftovers(run);
    }
    drop(lock);
    if json {
        print_json(&outcome)?;
    } else if outcome.undone.is_empty() && outcome.complete() {
        print("Nothing to recover.\n")?;
    } else {
        for undone in &outcome.undone {
            print(&format!("undone  {undone}\n"))?;
        }
        for failure in &outcome.failed {
            print(&format!(
                "FAILED  {}: {}\n        -> {}\n",
                failure.subject, failure.why, failure.action
            ))?;
        }
    }
    Ok(if outcome.complete() { Exit::Done } else { Exit::NeedsRecovery })
}
