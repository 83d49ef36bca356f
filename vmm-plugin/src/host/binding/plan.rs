//! The writes that [`bind`](super::bind) would make, for printing.

use std::path::PathBuf;

use serde::Serialize;

use super::super::device::{driver, driver_override};
use super::super::nic::Nic;
use super::super::sysfs::Sysfs;
use super::{override_path, probe_path, unbind_path};

/// One write to sysfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The file.
    pub path: PathBuf,
    /// What is written, without a line end.
    pub value: String,
    /// Why, in a few words.
    pub why: String,
}

/// What [`bind`](super::bind) would write now, in order. Nothing is changed.
#[must_use]
pub fn plan(sysfs: &Sysfs, nics: &[Nic]) -> Vec<Step> {
    let mut overrides = Vec::new();
    let mut unbinds = Vec::new();
    let mut probes = Vec::new();
    for device in nics.iter().map(|nic| &nic.device.name) {
        let vfio = device.vfio_driver();
        let now = driver(sysfs, device);
        if driver_override(sysfs, device).as_deref() != Some(vfio) {
            overrides.push(Step {
                path: override_path(device),
                value: vfio.to_owned(),
                why: format!("{device} may bind {vfio} only"),
            });
        }
        if now.as_deref() == Some(vfio) {
            continue;
        }
        if let Some(now) = now {
            unbinds.push(Step {
                path: unbind_path(device, &now),
                value: device.to_string(),
                why: format!("{device} leaves its host driver {now}"),
            });
        }
        probes.push(Step {
            path: probe_path(device),
            value: device.to_string(),
            why: format!("{device} is taken by {vfio}"),
        });
    }
    [overrides, unbinds, probes].concat()
}
