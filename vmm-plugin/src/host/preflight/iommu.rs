//! R1 and R7: an IOMMU that translates every address of the device.

use super::super::group::Group;
use super::Facts;
use super::report::{Check, Report};

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    host(facts, report);
    for device in facts.nics.iter().map(|nic| &nic.device) {
        let subject = &device.name;
        match &device.group {
            Some(group) if group.noiommu => report.refuse(
                Check::R1,
                subject,
                format!(
                    "group {} is VFIO's \"no IOMMU\" kind: DMA is not translated",
                    group.number
                ),
                "Turn the IOMMU on, unload vfio and load it without \
                 enable_unsafe_noiommu_mode",
            ),
            Some(group) => {
                report.ok(Check::R1, subject, format!("in IOMMU group {}", group.number));
                kept_mappings(group, report);
            }
            None => report.refuse(
                Check::R1,
                subject,
                "in no IOMMU group: its DMA is not translated",
                match subject.pci() {
                    Some(_) => "Turn the IOMMU on (below), or use a NIC in another slot",
                    None => {
                        "Its device tree node needs an `iommus` property; some platforms add \
                         the device to its group only once a driver has probed it"
                    }
                },
            ),
        }
    }
}

fn host(facts: Facts<'_>, report: &mut Report) {
    let sysfs = facts.sysfs;
    let noiommu = sysfs.flag("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    if noiommu == Some(true) {
        report.refuse(
            Check::R1,
            "host",
            "vfio's enable_unsafe_noiommu_mode is on",
            "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, and remove it from \
             /etc/modprobe.d and the kernel command line",
        );
    }
    if !sysfs.entries("/sys/kernel/iommu_groups").is_empty() {
        return;
    }
    let options = sysfs.kernel_options();
    let off = |option: &&String| {
        matches!(
            option.as_str(),
            "iommu=off" | "intel_iommu=off" | "amd_iommu=off" | "arm-smmu.disable_bypass=0"
        )
    };
    let action = match options.iter().find(off) {
        Some(option) => format!("Remove {option} from the kernel command line and reboot"),
        None => "Enable VT-d (Intel), AMD-Vi (AMD) or the SMMU in the firmware's setup; on Intel \
                 add intel_iommu=on to the kernel command line; reboot"
            .to_owned(),
    };
    let finding = "the kernel uses no IOMMU (/sys/kernel/iommu_groups is empty)";
    report.refuse(Check::R1, "host", finding, action);
}

/// R7: memory the firmware wants mapped for the device even while a guest has it.
fn kept_mappings(group: &Group, report: &mut Report) {
    let subject = format!("group {}", group.number);
    let before = report.findings.len();
    for region in &group.reserved {
        let range = format!("{:#x}-{:#x}", region.first, region.last);
        match region.kind.as_str() {
            "direct" => report.refuse(
                Check::R7,
                &subject,
                format!(
                    "the firmware keeps {range} mapped for it (RMRR): the guest would reach it"
                ),
                "Turn off what needs it in the firmware's setup (often remote management of \
                 the NIC), or use another NIC",
            ),
            "direct-relaxable" => report.warn(
                Check::R7,
                &subject,
                format!("the firmware used {range} for it; the kernel unmaps that for a guest"),
                "Turn off the device's use by firmware (USB legacy support, boot graphics)",
            ),
            _ => {}
        }
    }
    report.ok_if_silent(before, Check::R7, &subject, "no memory kept mapped by the firmware");
}
