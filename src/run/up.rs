//! `netvm up` from its first step to the last that is undone.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use event_manager::{EventManager, SubscriberOps as _};
use netvm_image::state::Phase;
use rustix::process::{Resource, Rlimit, setrlimit};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vmm_plugin::host::preflight;
use vmm_plugin::host::preflight::Overrides;
use vmm_plugin::host::sysfs::Sysfs;

use super::channel::BoundedLog;
use super::lock::{Lock, LockError};
use super::machine::{Machine, StepError};
use super::paths::RunDir;
use super::supervisor::{Channels, Outcome, Supervisor};
use crate::plan::{Plan, Step};
use crate::status::Fixed;

/// How often it is looked at whether the NIC's IOMMU group still holds nothing else, and leases are kept.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Why a run failed. Whatever had been made is undone.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another one runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A part died or did not come up.
    #[error("{0}")]
    Died(String),
    /// The run ended, but not everything could be undone.
    #[error("Not everything could be undone; run `netvm recover`")]
    NotUndone,
    /// The event loop.
    #[error("Cannot watch what was started")]
    Watch(#[source] io::Error),
}

/// Takes every step of `plan`, stays until told to stop or until a part dies, and undoes it all.
pub fn up(
    run: &RunDir,
    lock: Lock,
    sysfs: &Sysfs,
    plan: &Plan,
    fixed: Fixed,
    overrides: &Overrides,
) -> Result<(), UpError> {
    let signals = signals().map_err(UpError::Watch)?;
    lift_memlock().map_err(UpError::Watch)?;
    let mut machine = Machine::new(sysfs.clone(), run.journal());
    machine.leases = plan.pool.known(run);
    let result = start(&mut machine, plan, overrides).map_err(UpError::from);
    let (machine, result) = match result {
        Ok(()) => supervise(run, machine, sysfs, plan, fixed, signals),
        Err(error) => (Some(machine), Err(error)),
    };
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("Undoing")]);
    if result.is_err() {
        tracing::info!("undoing what was started");
    }
    let clean = machine.is_some_and(Machine::undo);
    drop(lock);
    match (result, clean) {
        (Ok(()), false) => Err(UpError::NotUndone),
        (result, _) => result,
    }
}

/// VFIO pins all of the guest's memory, and the VMM, which inherits our limits, is not root.
fn lift_memlock() -> io::Result<()> {
    let unlimited = Rlimit { current: None, maximum: None };
    Ok(setrlimit(Resource::Memlock, unlimited)?)
}

/// A stream that becomes readable when the process is told to end.
fn signals() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    // A terminal that goes away must not leave the NIC with nobody.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader)
}

fn start(machine: &mut Machine, plan: &Plan, overrides: &Overrides) -> Result<(), StepError> {
    machine.begin(overrides)?;
    plan.steps.iter().try_for_each(|step| machine.take(step))
}

fn supervise(
    run: &RunDir,
    mut machine: Machine,
    sysfs: &Sysfs,
    plan: &Plan,
    fixed: Fixed,
    signals: UnixStream,
) -> (Option<Machine>, Result<(), UpError>) {
    let channels = match (machine.channel(&run.state()), machine.channel(&run.console())) {
        (Some(state), Some(console)) => match BoundedLog::create(&run.console_log()) {
            Ok(log) => Some(Channels { state, console, log }),
            Err(error) => return (Some(machine), Err(UpError::Watch(error))),
        },
        _ => None,
    };
    let Some(control) = machine.listener(&run.control()) else {
        return (Some(machine), Err(UpError::Watch(io::Error::other("No control socket"))));
    };
    let mut manager = match EventManager::<Supervisor>::new() {
        Ok(manager) => manager,
        Err(error) => return (Some(machine), Err(UpError::Watch(io::Error::other(error)))),
    };
    let id = manager.add_subscriber(Supervisor::new(
        machine,
        fixed,
        channels,
        control,
        signals,
        plan.pool.clone(),
        run.clone(),
    ));
    let result = watch(&mut manager, id, run, sysfs, plan);
    match manager.remove_subscriber(id) {
        Ok(mut supervisor) => {
            supervisor.save_leases(&run.leases());
            (Some(supervisor.machine), result)
        }
        Err(error) => (None, Err(UpError::Watch(io::Error::other(error)))),
    }
}

fn watch(
    manager: &mut EventManager<Supervisor>,
    id: event_manager::SubscriberId,
    run: &RunDir,
    sysfs: &Sysfs,
    plan: &Plan,
) -> Result<(), UpError> {
    let other = |error: event_manager::Error| UpError::Watch(io::Error::other(error));
    let limit = plan.steps.iter().find_map(|step| match step {
        Step::Await { seconds } => Some(Duration::from_secs(*seconds)),
        _ => None,
    });
    let mut waiting = limit.map(|limit| Instant::now() + limit);
    if waiting.is_none() {
        ready("running");
    }
    let nics = plan.nics();
    let mut looked = Instant::now();
    loop {
        let pause = if waiting.is_some() { Duration::from_millis(500) } else { LOOK_EVERY };
        manager
            .run_with_timeout(i32::try_from(pause.as_millis()).unwrap_or(i32::MAX))
            .map_err(other)?;
        let supervisor = manager.subscriber_mut(id).map_err(other)?;
        match supervisor.outcome.take() {
            Some(Outcome::Asked) => return Ok(()),
            Some(Outcome::Died(why)) => return Err(UpError::Died(why)),
            None => {}
        }
        if let Some(deadline) = waiting {
            match &supervisor.told.state {
                Some((state, _)) if state.phase == Phase::Failed => {
                    return Err(UpError::Died(format!("netvm gave up: {}", state.reason)));
                }
                Some((state, _)) if state.ruleset && state.phase != Phase::Starting => {
                    ready(&format!("netvm: {}", state.phase));
                    waiting = None;
                }
                _ if Instant::now() > deadline => {
                    let said = match &supervisor.told.state {
                        Some((state, _)) => {
                            format!("it last said {}: {}", state.phase, state.reason)
                        }
                        None => "it has not reported at all".to_owned(),
                    };
                    return Err(UpError::Died(format!("netvm has not come up in time; {said}")));
                }
                _ => {}
            }
        }
        if looked.elapsed() >= LOOK_EVERY && !nics.is_empty() {
            looked = Instant::now();
            supervisor.save_leases(&run.leases());
            if let Some(finding) = preflight::isolation(sysfs, &nics).refusals().next() {
                return Err(UpError::Died(format!("the NIC is no longer alone: {finding}")));
            }
        }
    }
}

fn ready(status: &str) {
    tracing::info!("ready ({status})");
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}
