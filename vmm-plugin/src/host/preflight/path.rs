//! R8: the group's borders are real: every port on the way up keeps peers apart.

use std::path::Path;

use super::super::address::{DeviceName, PciAddress};
use super::super::config_space::{ACS_ISOLATION, ConfigSpace, PortType};
use super::super::device::Device;
use super::Facts;
use super::report::{Check, Override, Report};

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    let options = facts.sysfs.kernel_options();
    if let Some(option) = options.iter().find(|o| o.starts_with("pcie_acs_override")) {
        report.refuse_unless(
            (Check::R8, Override::AllowAcsOverride),
            "host",
            format!("{option} makes groups look smaller than the hardware keeps them"),
            "Remove it from the kernel command line and reboot; the groups seen then are true",
        );
    }
    for device in facts.nics.iter().map(|nic| &nic.device) {
        if device.name.pci().is_some() {
            upwards(facts, device, report);
        }
    }
}

/// The PCI functions above the device, nearest first.
fn ancestors(directory: &Path) -> impl Iterator<Item = PciAddress> {
    directory.ancestors().skip(1).filter_map(|path| path.file_name()?.to_str()?.parse().ok())
}

fn upwards(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let before = report.findings.len();
    for bridge in ancestors(&device.directory).map(DeviceName::Pci) {
        // A bridge inside the group needs no ACS: the group already counts it as one with
        // the device.
        let group = device.group.as_ref();
        if group.is_some_and(|g| g.members.contains(&bridge)) {
            continue;
        }
        let Some(config) = ConfigSpace::read(facts.sysfs, &bridge).filter(|c| c.has_extended())
        else {
            report.warn(
                Check::R8,
                &device.name,
                format!("the capabilities of {bridge} above it cannot be read"),
                "Run as root",
            );
            continue;
        };
        match config.port_type() {
            Some(PortType::RootPort | PortType::Downstream) => match config.acs_control() {
                Some(control) if control & ACS_ISOLATION == ACS_ISOLATION => {}
                control => report.warn(
                    Check::R8,
                    &device.name,
                    format!(
                        "port {bridge} above it {}: the kernel trusts it by a quirk for its model, \
                         or not at all",
                        match control {
                            Some(control) => format!("has ACS partly on ({control:#04x})"),
                            None => "has no ACS".to_owned(),
                        }
                    ),
                    "Compare with drivers/pci/quirks.c (pci_dev_acs_enabled), or use another slot",
                ),
            },
            // The upstream port of a switch forwards upwards only.
            Some(PortType::Upstream | PortType::Other) => {}
            Some(PortType::ToConventional) | None => report.warn(
                Check::R8,
                &device.name,
                format!("{bridge} above it is conventional PCI, yet not in its group"),
                "Devices on one conventional bus cannot be told apart: use a PCIe slot",
            ),
        }
    }
    let text = match ancestors(&device.directory).next() {
        Some(_) => "every port above it keeps peers apart",
        None => "on the root bus, with no port above it",
    };
    report.ok_if_silent(before, Check::R8, &device.name, text);
}
