//! R3 and R9: the whole group is given away, and nobody has it yet.

use std::collections::BTreeMap;

use super::super::address::DeviceName;
use super::super::config_space::ConfigSpace;
use super::super::device::{Device, driver};
use super::super::group::Group;
use super::super::nic::Nic;
use super::super::sysfs::Sysfs;
use super::Facts;
use super::report::{Check, Report};

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    check_members(facts.sysfs, facts.nics, report);
    owners(facts, report);
}

/// R3. Bridges may stay with the host: they do no DMA of their own, and VFIO allows them.
pub(super) fn check_members(sysfs: &Sysfs, nics: &[Nic], report: &mut Report) {
    // Read again, not taken from `nics`: a supervisor asks what is the case now.
    let groups: BTreeMap<u32, Group> = nics
        .iter()
        .filter_map(|nic| Group::of(sysfs, &nic.device.name))
        .map(|group| (group.number, group))
        .collect();
    for group in groups.values() {
        let subject = format!("group {}", group.number);
        let foreign: Vec<&DeviceName> = group
            .members
            .iter()
            .filter(|member| !nics.iter().any(|nic| nic.device.name == **member))
            .filter(|member| !is_bridge(sysfs, member))
            .collect();
        if foreign.is_empty() {
            let text = "holds nothing but what is given away and bridges above it";
            report.ok(Check::R3, &subject, text);
            continue;
        }
        let list: Vec<String> = foreign.iter().map(|m| describe(sysfs, m)).collect();
        report.refuse(
            Check::R3,
            &subject,
            format!(
                "the hardware cannot tell the NIC from {}: they would share its memory access",
                list.join("; ")
            ),
            "Move the NIC to another slot, or give all of them away by naming each in its own \
             [[nic]]; do not split the group with pcie_acs_override",
        );
    }
}

fn is_bridge(sysfs: &Sysfs, member: &DeviceName) -> bool {
    ConfigSpace::read(sysfs, member).is_some_and(|config| config.header_type() == 1)
}

fn describe(sysfs: &Sysfs, member: &DeviceName) -> String {
    let text = match Device::read(sysfs, member) {
        Ok(device) => device.describe(),
        Err(_) => member.to_string(),
    };
    match driver(sysfs, member) {
        Some(driver) => format!("{text}, bound to {driver}"),
        None => format!("{text}, without a driver"),
    }
}

/// R9.
fn owners(facts: Facts<'_>, report: &mut Report) {
    for (nic, holders) in facts.nics.iter().zip(&facts.environment.holders) {
        let subject = &nic.device.name;
        if holders.is_empty() {
            report.ok(Check::R9, subject, "no process has it open");
            continue;
        }
        let who: Vec<String> = holders.iter().map(ToString::to_string).collect();
        report.refuse(
            Check::R9,
            subject,
            format!("{} already has it open through VFIO", who.join(", ")),
            "Stop that process first; if it is an earlier netvm, run `netvm down`",
        );
    }
}
