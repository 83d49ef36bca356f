//! R6: what one user left in the device does not reach the next.

use super::super::device::Device;
use super::Facts;
use super::report::{Check, Override, Report};

const FLAG: (Check, Override) = (Check::R6, Override::AllowNoReset);

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    for device in facts.nics.iter().map(|nic| &nic.device) {
        match device.name.pci() {
            Some(_) => pci(facts, device, report),
            None => platform(facts, device, report),
        }
    }
}

fn pci(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let subject = &device.name;
    let resettable = facts.sysfs.exists(device.directory.join("reset"));
    let methods = device.reset_methods.as_deref();
    match methods {
        None if resettable => report.warn(
            Check::R6,
            subject,
            "it can be reset, but the kernel (before 5.15) does not say how",
            "Prefer a NIC with function level reset (lspci -vv: FLReset+)",
        ),
        None | Some([]) => report.refuse_unless(
            FLAG,
            subject,
            "it cannot be reset: what a guest leaves in it stays",
            "Use a NIC with function level reset (lspci -vv: FLReset+), or put this one behind a \
             PCIe port of its own, which adds `bus`",
        ),
        Some([only]) if only == "pm" => report.warn(
            Check::R6,
            subject,
            "its only reset is through power states (pm), which not every card takes seriously",
            "Prefer a NIC with function level reset, or a slot with a PCIe port of its own",
        ),
        Some([only]) if only == "bus" => bus_only(facts, device, report),
        Some(methods) => {
            report.ok(Check::R6, subject, format!("can be reset: {}", methods.join(", ")));
        }
    }
}

fn bus_only(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let subject = &device.name;
    let siblings: Vec<String> = facts
        .sysfs
        .pci_devices()
        .into_iter()
        .filter(|other| device.name.pci().is_some_and(|own| own.same_bus(other)))
        .map(super::super::DeviceName::Pci)
        .filter(|other| !facts.nics.iter().any(|nic| nic.device.name == *other))
        .map(|other| other.to_string())
        .collect();
    if siblings.is_empty() {
        report.ok(Check::R6, subject, "can be reset with its bus, on which it is alone");
    } else {
        report.refuse_unless(
            FLAG,
            subject,
            format!("resetting it resets {} as well", siblings.join(", ")),
            "Put it on a bus of its own",
        );
    }
}

fn platform(facts: Facts<'_>, device: &Device, report: &mut Report) {
    let required = facts.sysfs.flag("/sys/module/vfio_platform/parameters/reset_required");
    if required == Some(true) {
        let text = "vfio-platform takes it only with a reset driver";
        report.ok(Check::R6, &device.name, text);
        return;
    }
    report.refuse_unless(
        FLAG,
        &device.name,
        match required {
            None => "vfio-platform is not loaded: whether it insists on a reset driver is unknown",
            Some(_) => "vfio-platform is told to do without a reset driver (reset_required=N)",
        },
        "modprobe vfio-platform reset_required=1, with the reset driver for this device",
    );
}
