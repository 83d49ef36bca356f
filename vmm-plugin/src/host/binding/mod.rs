//! Moving devices between their host drivers and VFIO's.
//!
//! `driver_override` only: writing `new_id` would let the driver take any device with the same
//! IDs. Order for several devices: every override, every unbind, every probe, because VFIO
//! takes a group only when all its members are ready.

mod bind;
mod plan;
mod release;

use std::path::PathBuf;
use std::time::Duration;

pub use bind::{Bound, bind};
pub use plan::{Step, plan};
pub use release::release;

use super::address::DeviceName;
use super::device::driver;
use super::effects::Effects;
use super::journal::JournalError;
use super::sysfs::{Sysfs, SysfsError};

pub(crate) use release::{DeviceState, give_back};

/// How long a driver may take to let a device go.
const UNBIND_DEADLINE: Duration = Duration::from_secs(30);
/// How long any other write may take, and how long its outcome is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at an outcome.
const LOOK: Duration = Duration::from_millis(50);

/// A device did not move. What was done so far is in the journal: call
/// [`release`] to undo it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// VFIO's driver is not loaded. Nothing was changed.
    #[error("Driver {driver} is not loaded: run `modprobe {driver}`")]
    NoVfioDriver {
        /// `vfio-pci` or `vfio-platform`.
        driver: &'static str,
    },
    /// The journal could not be written; the change it should announce was not made.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The device's entry in sysfs is missing or leads elsewhere.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The kernel refused a write.
    #[error("Writing {value:?} to {path} failed")]
    Write {
        /// The file, without an injected root.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The write succeeded and the driver is not the one wanted.
    #[error(
        "{device} is bound to {found} instead of {wanted}: see the end of `dmesg` for the reason"
    )]
    NotBound {
        /// Which device.
        device: DeviceName,
        /// The driver wanted, or `no driver`.
        wanted: String,
        /// The driver found, or `no driver`.
        found: String,
    },
    /// VFIO offers no file for the device's group.
    #[error(
        "{path} did not appear: another device of the group is still bound to a host driver, or \
         /dev is not a devtmpfs"
    )]
    NoGroupFile {
        /// The file waited for.
        path: PathBuf,
    },
    /// The device can do DMA although nothing drives it.
    #[error(
        "{device} still has bus mastering on with no driver bound, and it cannot be turned off"
    )]
    BusMaster {
        /// Which device.
        device: DeviceName,
    },
}

/// Writes `value` to the kernel's `path`.
fn write(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    path: PathBuf,
    value: &str,
    deadline: Duration,
) -> Result<(), BindError> {
    tracing::info!(path = %path.display(), value = value.trim_end(), "write");
    effects.write(&sysfs.path(&path), value, deadline).map_err(|source| BindError::Write {
        path,
        value: value.to_owned(),
        source,
    })
}

/// Looks at a fact until it holds or [`DEADLINE`] has passed.
fn wait_until(effects: &mut dyn Effects, mut holds: impl FnMut() -> bool) -> bool {
    let looks = DEADLINE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if holds() {
            return true;
        }
        effects.pause(LOOK);
    }
    holds()
}

/// Waits until `device` has exactly the driver `wanted`.
fn wait_for_driver(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    device: &DeviceName,
    wanted: Option<&str>,
) -> Result<(), BindError> {
    if wait_until(effects, || driver(sysfs, device).as_deref() == wanted) {
        return Ok(());
    }
    let text = |driver: Option<&str>| driver.unwrap_or("no driver").to_owned();
    Err(BindError::NotBound {
        device: device.clone(),
        wanted: text(wanted),
        found: text(driver(sysfs, device).as_deref()),
    })
}

fn unbind_path(device: &DeviceName, driver: &str) -> PathBuf {
    PathBuf::from(format!("/sys/bus/{}/drivers/{driver}/unbind", device.bus()))
}

fn bind_path(device: &DeviceName, driver: &str) -> PathBuf {
    PathBuf::from(format!("/sys/bus/{}/drivers/{driver}/bind", device.bus()))
}

fn override_path(device: &DeviceName) -> PathBuf {
    device.directory().join("driver_override")
}

fn probe_path(device: &DeviceName) -> PathBuf {
    PathBuf::from(format!("/sys/bus/{}/drivers_probe", device.bus()))
}
