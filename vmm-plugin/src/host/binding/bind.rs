//! From the host's driver to VFIO's.

use std::path::PathBuf;

use serde::Serialize;

use super::super::address::DeviceName;
use super::super::config_space::ConfigSpace;
use super::super::device::{driver, driver_override};
use super::super::effects::Effects;
use super::super::group::Group;
use super::super::journal::{Journal, Record};
use super::super::nic::Nic;
use super::super::sysfs::Sysfs;
use super::{
    BindError, DEADLINE, UNBIND_DEADLINE, override_path, probe_path, unbind_path, wait_for_driver,
    wait_until, write,
};

/// A device that VFIO's driver has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// Which one.
    pub device: DeviceName,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// `/dev/vfio/GROUP`, present.
    pub vfio_path: Option<PathBuf>,
}

/// Binds every NIC's device to VFIO's driver, announcing each in the journal first, and reads
/// the outcome back.
///
/// # Errors
///
/// [`BindError`]. Except for [`BindError::NoVfioDriver`] some changes may have been made: call
/// [`release`](super::release).
pub fn bind(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    journal: &mut Journal,
    nics: &[Nic],
) -> Result<Vec<Bound>, BindError> {
    let devices: Vec<&DeviceName> = nics.iter().map(|nic| &nic.device.name).collect();
    for device in &devices {
        let vfio = device.vfio_driver();
        sysfs.device_directory(device)?;
        if !sysfs.exists(format!("/sys/bus/{}/drivers/{vfio}", device.bus())) {
            return Err(BindError::NoVfioDriver { driver: vfio });
        }
    }
    // All announcements come before the first write: recovery then gives the devices of one
    // group back together.
    for device in &devices {
        let record = Record::Device {
            name: (*device).clone(),
            driver: driver(sysfs, device),
            driver_override: driver_override(sysfs, device),
            identity: ConfigSpace::read(sysfs, device).map(|config| config.identity()),
        };
        journal.append(effects, record)?;
    }
    for device in &devices {
        let vfio = device.vfio_driver();
        if driver_override(sysfs, device).as_deref() != Some(vfio) {
            write(sysfs, effects, override_path(device), vfio, DEADLINE)?;
        }
    }
    for device in &devices {
        unbind(sysfs, effects, device)?;
    }
    for device in &devices {
        let vfio = device.vfio_driver();
        if driver(sysfs, device).as_deref() != Some(vfio) {
            let name = device.to_string();
            write(sysfs, effects, probe_path(device), &name, DEADLINE)?;
        }
        wait_for_driver(sysfs, effects, device, Some(vfio))?;
    }
    devices.into_iter().map(|device| bound(sysfs, effects, device)).collect()
}

fn unbind(sysfs: &Sysfs, effects: &mut dyn Effects, device: &DeviceName) -> Result<(), BindError> {
    match driver(sysfs, device) {
        Some(now) if now == device.vfio_driver() => return Ok(()),
        Some(now) => {
            let name = device.to_string();
            write(sysfs, effects, unbind_path(device, &now), &name, UNBIND_DEADLINE)?;
            wait_for_driver(sysfs, effects, device, None)?;
        }
        None => {}
    }
    stop_dma(sysfs, effects, device)
}

/// Nothing drives the device now and no guest has it yet: it must not start DMA. A driver's
/// remove function turns bus mastering off; firmware that booted from the NIC does not.
fn stop_dma(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    device: &DeviceName,
) -> Result<(), BindError> {
    let on = |config: &ConfigSpace| config.bus_master();
    let Some(config) = ConfigSpace::read(sysfs, device).filter(on) else {
        return Ok(());
    };
    let path = device.directory().join("config");
    let command = config.command_without_bus_master();
    effects.write_at(&sysfs.path(&path), ConfigSpace::COMMAND, &command.to_le_bytes()).map_err(
        |source| BindError::Write { path, value: format!("COMMAND = {command:#06x}"), source },
    )?;
    match ConfigSpace::read(sysfs, device).filter(on) {
        Some(_) => Err(BindError::BusMaster { device: device.clone() }),
        None => Ok(()),
    }
}

fn bound(
    sysfs: &Sysfs,
    effects: &mut dyn Effects,
    device: &DeviceName,
) -> Result<Bound, BindError> {
    let group = Group::of(sysfs, device);
    let vfio_path = group.as_ref().map(Group::vfio_path);
    if let Some(path) = &vfio_path
        && !wait_until(effects, || sysfs.exists(path))
    {
        return Err(BindError::NoGroupFile { path: path.clone() });
    }
    Ok(Bound { device: device.clone(), group: group.map(|group| group.number), vfio_path })
}
