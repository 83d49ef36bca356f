//! R2: a device can only raise the interrupts the host gave it.
//!
//! Without remapping, a device that can write to memory can write any interrupt message, and so
//! inject any vector into the host.

use super::super::environment::Architecture;
use super::super::sysfs::Sysfs;
use super::Facts;
use super::report::{Check, Override, Report};

const FLAG: (Check, Override) = (Check::R2, Override::AllowUnsafeInterrupts);

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    let before = report.findings.len();
    for module in ["vfio_iommu_type1", "iommufd"] {
        let parameter = format!("/sys/module/{module}/parameters/allow_unsafe_interrupts");
        if facts.sysfs.flag(&parameter) == Some(true) {
            report.refuse_unless(
                FLAG,
                "host",
                format!("{module} is told to accept devices whose interrupts are not remapped"),
                format!("echo N > {parameter}, and remove it from /etc/modprobe.d"),
            );
        }
    }
    match facts.environment.architecture {
        Architecture::X86 => x86(facts.sysfs, report),
        Architecture::Arm => arm(facts.sysfs, report),
        Architecture::Other => report.refuse_unless(
            FLAG,
            "host",
            "it is not known how this architecture confines a device's interrupts",
            "Use an x86-64 or arm64 machine",
        ),
    }
    report.ok_if_silent(before, Check::R2, "host", "interrupts are remapped");
}

/// Whether a chip whose name satisfies `is` appears in `/proc/interrupts`.
fn chip(sysfs: &Sysfs, is: impl Fn(&str) -> bool) -> bool {
    let table = sysfs.text("/proc/interrupts").unwrap_or_default();
    table.split_whitespace().any(is)
}

fn x86(sysfs: &Sysfs, report: &mut Report) {
    let options = sysfs.kernel_options();
    // `nosid` remaps without checking who sends.
    let off = |o: &str| o == "nointremap" || o == "intremap=off" || o == "intremap=nosid";
    if let Some(option) = options.iter().find(|o| off(o)) {
        report.refuse_unless(
            FLAG,
            "host",
            format!("the kernel command line says {option}"),
            "Remove it and reboot",
        );
        return;
    }
    for unit in sysfs.entries("/sys/class/iommu") {
        if without_remapping(sysfs, &unit) {
            report.refuse_unless(
                FLAG,
                "host",
                format!("IOMMU {unit} cannot remap interrupts"),
                "Enable interrupt remapping (or x2APIC) in the firmware's setup; a virtual \
                 machine needs an IOMMU with it (QEMU: intel-iommu,intremap=on with \
                 kernel-irqchip=split)",
            );
            return;
        }
    }
    // The kernel names the chips IR-PCI-MSI and IR-IO-APIC, on Intel and on AMD.
    if !chip(sysfs, |word| word.starts_with("IR-")) {
        report.refuse_unless(
            FLAG,
            "host",
            "no sign that interrupts are remapped: /proc/interrupts shows no IR- chip",
            "Look for `remapping` in dmesg; enable interrupt remapping in the firmware's setup",
        );
    }
}

/// VT-d tells in the extended capability register, bit 3 (VT-d 3.2, 10.4.3). AMD-Vi units and
/// others without that file say nothing here.
fn without_remapping(sysfs: &Sysfs, unit: &str) -> bool {
    let register = sysfs.text(format!("/sys/class/iommu/{unit}/intel-iommu/ecap"));
    match register.map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16)) {
        Some(Ok(ecap)) => ecap & (1 << 3) == 0,
        Some(Err(_)) => true,
        None => false,
    }
}

fn arm(sysfs: &Sysfs, report: &mut Report) {
    if chip(sysfs, |word| word.starts_with("ITS-")) {
        return;
    }
    let (finding, action) = if chip(sysfs, |word| word.starts_with("GICv2m")) {
        (
            "messages go to a GICv2m frame, which does not check who sends",
            "Use a machine whose GICv3 has an ITS",
        )
    } else {
        (
            "no sign of a GIC ITS: /proc/interrupts shows no ITS- chip",
            "Use a machine whose GICv3 has an ITS, and let the device tree describe it",
        )
    };
    report.refuse_unless(FLAG, "host", finding, action);
}
