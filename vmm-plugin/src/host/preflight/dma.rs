//! W10 to W13: memory access outside the time a guest has the device, or around translation.

use super::super::config_space::{ConfigSpace, extended};
use super::super::device::Device;
use super::Facts;
use super::report::{Check, Report};

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    for device in facts.nics.iter().map(|nic| &nic.device) {
        after_return(device, report);
        bypass(facts, device, report);
        before_start(facts, device, report);
    }
    peers(facts, report);
    before_boot(facts, report);
}

/// W10.
fn after_return(device: &Device, report: &mut Report) {
    let Some(group) = &device.group else { return };
    let (finding, action) = match group.domain.as_deref() {
        Some("DMA") => {
            let text = "the host translates strictly too";
            report.ok(Check::W10, &device.name, text);
            return;
        }
        Some("identity") => (
            "with the host's driver it reaches all of memory (identity domain)",
            "Remove iommu=pt from the kernel command line: a NIC that was taken over keeps that \
             reach when it comes back",
        ),
        Some("DMA-FQ") => (
            "with the host's driver its mappings outlive their use for some milliseconds (DMA-FQ)",
            "Add iommu.strict=1 to the kernel command line",
        ),
        _ => (
            "the kernel does not say how the host translates its DMA",
            "Add iommu.strict=1 to the kernel command line and leave out iommu=pt",
        ),
    };
    report.warn(Check::W10, &device.name, finding, action);
}

/// W11.
fn bypass(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let Some(config) = ConfigSpace::read(facts.sysfs, &device.name) else {
        return;
    };
    let subject = &device.name;
    if !config.has_extended() {
        // A conventional function has only 256 bytes, and none of these capabilities.
        return;
    }
    let found: Vec<&str> =
        [(extended::ATS, "ATS"), (extended::PRI, "PRI"), (extended::PASID, "PASID")]
            .into_iter()
            .filter(|(id, _)| config.extended(*id).is_some())
            .map(|(_, name)| name)
            .collect();
    let noats = facts.sysfs.kernel_options().iter().any(|option| {
        option.strip_prefix("pci=").is_some_and(|values| values.split(',').any(|v| v == "noats"))
    });
    if found.is_empty() || noats {
        report.ok(Check::W11, subject, "does not translate addresses itself");
    } else {
        report.warn(
            Check::W11,
            subject,
            format!("offers {}: requests it calls translated are not checked", found.join(", ")),
            "Add pci=noats to the kernel command line",
        );
    }
}

/// W12.
fn peers(facts: Facts<'_>, report: &mut Report) {
    if facts.nics.len() > 1 {
        report.warn(
            Check::W12,
            "host",
            "the VMM maps each device's registers into the others' reach",
            "Turn it off (cloud-hypervisor: --device ...,vfio_p2p_dma=off)",
        );
    } else {
        report.ok(Check::W12, "host", "one device has no peer to reach");
    }
}

/// W13: between unbinding and the VMM's start, and inside the guest's firmware.
fn before_start(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let subject = &device.name;
    let before = report.findings.len();
    let config = ConfigSpace::read(facts.sysfs, subject);
    if device.driver.is_none() && config.is_some_and(|c| c.bus_master()) {
        report.warn(
            Check::W13,
            subject,
            "may do DMA although no driver is bound: firmware left bus mastering on",
            "Nothing: it is turned off before the device is bound",
        );
    }
    if facts.sysfs.exists(device.directory.join("rom")) {
        report.warn(
            Check::W13,
            subject,
            "has an option ROM",
            "Do not show it to the guest: rombar=0 in QEMU; cloud-hypervisor and crosvm run none",
        );
    }
    report.ok_if_silent(before, Check::W13, subject, "quiet, without an option ROM");
}

/// W13: whether firmware kept devices from memory before the kernel did.
fn before_boot(facts: Facts<'_>, report: &mut Report) {
    // Flags follow the ACPI header (36 bytes): in Intel's DMAR behind the address width, bit 2
    // DMA_CTRL_PLATFORM_OPT_IN_FLAG (VT-d 3.2, 8.1); in AMD's IVRS at once, bit 1 DmaRemapSup
    // (AMD IOMMU 3.07, 5.2.1).
    let flag = |table: &str, offset: usize, bit: u8| {
        let table = facts.sysfs.bytes(format!("/sys/firmware/acpi/tables/{table}"), 64);
        let flags = table.as_deref().and_then(|bytes| bytes.get(offset)).copied();
        flags.is_some_and(|flags| flags & (1 << bit) != 0)
    };
    let firmware = flag("DMAR", 37, 2) || flag("IVRS", 36, 1);
    let thunderbolt = facts.sysfs.flag("/sys/bus/thunderbolt/devices/domain0/iommu_dma_protection");
    if firmware || thunderbolt == Some(true) {
        report.ok(Check::W13, "host", "firmware kept devices from memory before boot");
    } else {
        report.warn(
            Check::W13,
            "host",
            "nothing says that firmware kept devices from memory before the kernel started",
            "Enable `kernel DMA protection` (pre-boot DMA protection) in the firmware's setup",
        );
    }
}
