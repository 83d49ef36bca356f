//! R5: an endpoint that belongs to nobody else.

use super::super::config_space::ConfigSpace;
use super::Facts;
use super::report::{Check, Report};

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    for nic in facts.nics {
        let device = &nic.device;
        let subject = &device.name;
        if device.name.pci().is_none() {
            continue;
        }
        let before = report.findings.len();
        match ConfigSpace::read(facts.sysfs, &device.name) {
            None => report.refuse(
                Check::R5,
                subject,
                "its configuration space cannot be read",
                "Run as root",
            ),
            Some(config) if config.gone() => report.refuse(
                Check::R5,
                subject,
                "it does not answer (configuration space reads as ones)",
                "Power the machine off and on; the card may be broken",
            ),
            Some(config) if config.header_type() != 0 => report.refuse(
                Check::R5,
                subject,
                "it is a bridge, not an endpoint",
                "Name the NIC behind it",
            ),
            Some(_) => {}
        }
        let functions = facts.sysfs.number(device.directory.join("sriov_numvfs"));
        if let Some(functions) = functions.filter(|n| *n > 0) {
            report.refuse(
                Check::R5,
                subject,
                format!(
                    "{functions} virtual functions are enabled: whoever has the physical one \
                     rules them"
                ),
                format!("echo 0 > {}/sriov_numvfs", device.directory.display()),
            );
        }
        if !device.is_network() && nic.usb.is_none() {
            let class = device.ids.map_or(0, |ids| ids.class);
            report.warn(
                Check::R5,
                subject,
                format!("its class is {class:06x}, which is no network controller's"),
                "Check that this is the device you mean",
            );
        }
        report.ok_if_silent(before, Check::R5, subject, "an endpoint without virtual functions");
    }
}
