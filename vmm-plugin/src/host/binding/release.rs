//! From VFIO's driver back to the host's.
//!
//! State-driven: it looks at where each device is and moves it to where the journal says it
//! was, so it can be repeated, and does not care after which write the program died.

use super::super::address::DeviceName;
use super::super::config_space::{ConfigSpace, Identity};
use super::super::device::{driver, driver_override};
use super::super::effects::Effects;
use super::super::group::Group;
use super::super::holders;
use super::super::journal::{Journal, JournalError};
use super::super::recovery::{Failure, Recovery, undo_all};
use super::super::sysfs::Sysfs;
use super::{
    DEADLINE, UNBIND_DEADLINE, bind_path, override_path, unbind_path, wait_for_driver, write,
};

/// Undoes everything in the journal, last change first, and retires it when all is undone.
///
/// A device is reset and must still be what it was before its host driver sees it again; one
/// that fails this stays with VFIO's driver and is reported.
///
/// # Errors
///
/// [`JournalError`] when the journal cannot be written. What could not be undone is no error
/// but in [`Recovery::failed`], and the journal stays for another try.
pub fn release(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    journal: Journal,
) -> Result<Recovery, JournalError> {
    undo_all(sysfs, effects, journal)
}

/// Where a device was before it was bound, from the journal.
#[derive(Clone, Debug)]
pub(crate) struct DeviceState {
    pub name: DeviceName,
    pub driver: Option<String>,
    pub driver_override: Option<String>,
    pub identity: Option<Identity>,
}

/// Moves the devices back; for each, in order, what was done or what is in the way.
pub(crate) fn give_back(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    devices: &[DeviceState],
) -> Vec<Result<String, Failure>> {
    let gone: Vec<bool> =
        devices.iter().map(|device| !sysfs.exists(device.name.directory())).collect();
    let left: Vec<Result<(), Failure>> = devices
        .iter()
        .zip(&gone)
        .map(|(device, gone)| match gone {
            true => Ok(()),
            false => leave_vfio(sysfs, effects, device),
        })
        .collect();
    devices
        .iter()
        .zip(gone)
        .zip(left)
        .map(|((device, gone), left)| {
            left?;
            if gone {
                return Ok(format!("{}: no longer in this machine", device.name));
            }
            restore_driver(sysfs, effects, device)
        })
        .collect()
}

fn failure(device: &DeviceState, why: String, action: String) -> Failure {
    Failure { subject: device.name.to_string(), why, action }
}

fn leave_vfio(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    device: &DeviceState,
) -> Result<(), Failure> {
    let vfio = device.name.vfio_driver();
    let now = driver(sysfs, &device.name);
    if now == device.driver {
        return Ok(());
    }
    if now.as_deref() == Some(vfio) {
        refuse_while_held(sysfs, device)?;
        reset(sysfs, effects, device)?;
    }
    if now.is_none() || now.as_deref() == Some(vfio) {
        compare(sysfs, device)?;
    }
    if now.as_deref() != Some(vfio) {
        return Ok(());
    }
    let path = unbind_path(&device.name, vfio);
    let name = device.name.to_string();
    write(sysfs, effects, path, &name, UNBIND_DEADLINE)
        .and_then(|()| wait_for_driver(sysfs, effects, &device.name, None))
        .map_err(|error| {
            failure(
                device,
                explain(&error),
                "Stop whatever uses the device, then run `netvm recover` again".to_owned(),
            )
        })
}

/// Unbinding would block until the last user closes the group.
fn refuse_while_held(sysfs: &Sysfs, device: &DeviceState) -> Result<(), Failure> {
    let Some(group) = Group::of(sysfs, &device.name) else {
        return Ok(());
    };
    let holders = holders::of_files(sysfs, &holders::vfio_files(sysfs, &device.name, &group));
    if holders.is_empty() {
        return Ok(());
    }
    let who: Vec<String> = holders.iter().map(ToString::to_string).collect();
    Err(failure(
        device,
        format!("still in use by {}", who.join(", ")),
        "Stop that process, then run `netvm recover` again".to_owned(),
    ))
}

/// What a guest left in the device's registers must not reach the host's driver.
fn reset(sysfs: &Sysfs, effects: &mut dyn Effects, device: &DeviceState) -> Result<(), Failure> {
    let path = device.name.directory().join("reset");
    if !sysfs.exists(&path) {
        tracing::warn!(device = %device.name, "goes back without a reset: it has none");
        return Ok(());
    }
    write(sysfs, effects, path, "1", DEADLINE).map_err(|error| {
        failure(
            device,
            format!("cannot be reset: {}", explain(&error)),
            "It stays with VFIO's driver, away from the host. Power the machine off and on"
                .to_owned(),
        )
    })
}

fn compare(sysfs: &Sysfs, device: &DeviceState) -> Result<(), Failure> {
    let Some(before) = device.identity else {
        return Ok(());
    };
    let now = ConfigSpace::read(sysfs, &device.name).map(|config| config.identity());
    if now == Some(before) {
        return Ok(());
    }
    Err(failure(
        device,
        format!("is not what it was: was {before:x?}, is now {now:x?}"),
        "No host driver gets it. Power the machine off and on, and examine the card".to_owned(),
    ))
}

fn restore_driver(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    device: &DeviceState,
) -> Result<String, Failure> {
    let name = &device.name;
    let retry = "Run `netvm recover` again, or reboot".to_owned();
    if driver_override(sysfs, name) != device.driver_override {
        // A line end alone clears it.
        let value = device.driver_override.as_deref().unwrap_or("\n");
        write(sysfs, effects, override_path(name), value, DEADLINE)
            .map_err(|error| failure(device, explain(&error), retry.clone()))?;
    }
    let now = driver(sysfs, name);
    match (&device.driver, now) {
        (before, now) if *before == now => {}
        (Some(before), None) => {
            let path = bind_path(name, before);
            if !sysfs.exists(&path) {
                return Err(failure(
                    device,
                    format!("its driver {before} is not loaded"),
                    format!("Run `modprobe {before}`, then `netvm recover` again"),
                ));
            }
            write(sysfs, effects, path, &name.to_string(), DEADLINE)
                .and_then(|()| wait_for_driver(sysfs, effects, name, Some(before)))
                .map_err(|error| failure(device, explain(&error), retry))?;
        }
        (_, Some(now)) => {
            return Ok(format!("{name}: left to {now}, which somebody else bound"));
        }
        (None, None) => {}
    }
    Ok(match &device.driver {
        Some(driver) => format!("{name}: back with {driver}"),
        None => format!("{name}: without a driver, as before"),
    })
}

/// An error with its causes in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
