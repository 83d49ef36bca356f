//! One machine for every refusal and warning, and the good ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machine;

use machine::Machine;
use vmm_plugin::host::preflight::{self, Check, Override, Overrides, Report};

/// A PC on which everything is as it should be; `{}` is where a test puts its own lines.
const GOOD: &str = "
    cmdline intel_iommu=on iommu.strict=1
    interrupts IR-PCI-MSI IR-IO-APIC
    iommu dmar0 ecap=f00f5a
    dmar flags=5
    group 1 type=DMA
    group 3 type=DMA
    pci 0000:00:01.0 8086:1901 060400 group=1 header=1 pcie=root acs=1d driver=pcieport
    file /sys/module/vfio/parameters/enable_unsafe_noiommu_mode N
    file /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts N
";
/// A NIC behind its own port with everything one could wish for.
const NIC: &str = "pci 0000:01:00.0 8086:1521 020000 under=0000:00:01.0 group=3 driver=igb \
                   net=eth0 reset=flr,bus pcie=endpoint";
const ADDRESS: &str = "0000:01:00.0";

fn check(text: &str) -> Report {
    Machine::new(text).preflight(&[ADDRESS], &Overrides::new())
}

/// The good machine and NIC with lines added.
fn with(lines: &str) -> Report {
    check(&format!("{GOOD}\n{NIC}\n{lines}"))
}

/// The good machine with another NIC.
fn nic(line: &str) -> Report {
    check(&format!("{GOOD}\n{line}"))
}

/// Exactly this check refuses; its text says `needle`; the override is `flag`.
#[track_caller]
fn refused(report: &Report, id: Check, needle: &str, flag: Option<Override>) {
    let refusals: Vec<_> = report.refusals().collect();
    let [refusal] = refusals[..] else {
        panic!("not exactly one refusal:\n{report}");
    };
    assert_eq!(refusal.id, id, "{report}");
    assert!(refusal.finding.contains(needle), "{needle}:\n{report}");
    assert!(!refusal.action.is_empty(), "{report}");
    assert_eq!(refusal.overridable, flag, "{report}");
}

/// Nothing refuses, and exactly this check warns with `needle`.
#[track_caller]
fn warned(report: &Report, id: Check, needle: &str) {
    assert!(!report.refused(), "{report}");
    let warnings: Vec<_> = report.warnings().collect();
    let [warning] = warnings[..] else {
        panic!("not exactly one warning:\n{report}");
    };
    assert_eq!(warning.id, id, "{report}");
    assert!(warning.finding.contains(needle), "{needle}:\n{report}");
}

#[test]
fn good_machine_passes_every_check_silently() {
    let report = with("");
    assert!(!report.refused(), "{report}");
    assert_eq!(report.warnings().count(), 0, "{report}");
    let mut checks: Vec<Check> = report.findings.iter().map(|f| f.id).collect();
    checks.sort_unstable();
    checks.dedup();
    use Check::{R1, R2, R3, R4, R5, R6, R7, R8, R9, R17, W10, W11, W12, W13};
    let every = [R1, R2, R3, R4, R5, R6, R7, R8, R9, W10, W11, W12, W13, R17];
    assert_eq!(checks, every, "{report}");
}

#[test]
fn r1_without_iommu_is_refused() {
    let report = check(
        "cmdline quiet
         interrupts IR-IO-APIC
         pci 0000:01:00.0 8086:1521 020000 driver=igb net=eth0 reset=flr",
    );
    let subjects: Vec<&str> = report.refusals().map(|f| f.subject.as_str()).collect();
    assert_eq!(subjects, ["host", ADDRESS], "{report}");
    assert!(report.refusals().all(|f| f.id == Check::R1), "{report}");
}

#[test]
fn r1_iommu_off_on_command_line_is_named() {
    let report = check(
        "cmdline intel_iommu=off
         interrupts IR-IO-APIC
         pci 0000:01:00.0 8086:1521 020000 reset=flr",
    );
    let action = &report.refusals().next().unwrap().action;
    assert!(action.contains("Remove intel_iommu=off"), "{report}");
}

#[test]
fn r1_noiommu_mode_is_refused() {
    let report = with("file /sys/module/vfio/parameters/enable_unsafe_noiommu_mode Y");
    refused(&report, Check::R1, "enable_unsafe_noiommu_mode", None);
}

#[test]
fn r1_noiommu_group_is_refused() {
    let report = with("group 3 type=DMA name=vfio-noiommu");
    refused(&report, Check::R1, "not translated", None);
}

const UNSAFE: Option<Override> = Some(Override::AllowUnsafeInterrupts);

#[test]
fn r2_allow_unsafe_interrupts_is_refused() {
    for module in ["vfio_iommu_type1", "iommufd"] {
        let file = format!("file /sys/module/{module}/parameters/allow_unsafe_interrupts Y");
        refused(&with(&file), Check::R2, module, UNSAFE);
    }
}

#[test]
fn r2_intremap_off_on_command_line_is_refused() {
    for option in ["intremap=off", "nointremap", "intremap=nosid"] {
        let report = with(&format!("cmdline intel_iommu=on {option}"));
        refused(&report, Check::R2, option, UNSAFE);
    }
}

#[test]
fn r2_iommu_without_remapping_is_refused() {
    // What QEMU shows with intel-iommu,intremap=off.
    let report = with("iommu dmar0 ecap=f00f52");
    refused(&report, Check::R2, "dmar0 cannot remap", UNSAFE);
}

#[test]
fn r2_no_sign_of_remapping_is_refused() {
    let report = with("interrupts PCI-MSI IO-APIC DMAR-MSI");
    refused(&report, Check::R2, "no sign", UNSAFE);
}

#[test]
fn r2_override_turns_refusal_into_recorded_warning() {
    let machine = Machine::new(&format!("{GOOD}\n{NIC}\ninterrupts IO-APIC"));
    let overrides = Overrides::from([Override::AllowUnsafeInterrupts]);
    let report = machine.preflight(&[ADDRESS], &overrides);
    assert!(!report.refused(), "{report}");
    let warning = report.warnings().next().unwrap();
    assert!(warning.overridden && warning.id == Check::R2, "{report}");
    let json = serde_json::to_value(&report).unwrap();
    let found = json["findings"].as_array().unwrap();
    let found = found.iter().find(|f| f["id"] == "R2").unwrap();
    assert_eq!(found["override"], "allow-unsafe-interrupts");
    assert_eq!(found["severity"], "warn");
}

#[test]
fn r2_arm_gicv2m_is_refused_and_its_accepted() {
    let report = with("arm\ninterrupts GICv3 GICv2m");
    refused(&report, Check::R2, "GICv2m", UNSAFE);
    assert!(!with("arm\ninterrupts GICv3 ITS-PCI-MSI").refused());
}

#[test]
fn r3_endpoint_that_is_not_asked_for_is_refused() {
    let report = with("pci 0000:01:00.1 8086:1521 020000 under=0000:00:01.0 group=3 driver=igb");
    refused(&report, Check::R3, "0000:01:00.1 [8086:1521], bound to igb", None);
}

#[test]
fn r3_unbound_endpoint_is_refused_too() {
    let report = with("pci 0000:01:00.1 8086:1521 020000 under=0000:00:01.0 group=3");
    refused(&report, Check::R3, "without a driver", None);
}

#[test]
fn r3_whole_group_asked_for_passes() {
    let second = NIC.replace("01:00.0", "01:00.1").replace("eth0", "eth1");
    let machine = Machine::new(&format!("{GOOD}\n{NIC}\n{second}"));
    let report = machine.preflight(&[ADDRESS, "0000:01:00.1"], &Overrides::new());
    assert!(!report.refused(), "{report}");
    let ids: Vec<Check> = report.warnings().map(|f| f.id).collect();
    assert_eq!(ids, [Check::W12], "{report}");
}

#[test]
fn r3_port_in_the_group_passes() {
    // A root port without ACS shares its group with what is behind it.
    let report = check(&format!(
        "{}\n{NIC}",
        GOOD.replace("group=1 header=1 pcie=root acs=1d", "group=3 header=1 pcie=root")
    ));
    assert!(!report.refused(), "{report}");
}

#[test]
fn r5_bridge_is_refused() {
    let report = nic("pci 0000:01:00.0 8086:1521 060400 group=3 reset=bus header=1");
    assert!(report.refusals().any(|f| f.id == Check::R5), "{report}");
}

#[test]
fn r5_enabled_virtual_functions_are_refused() {
    let report = nic(&format!("{NIC} vfs=2"));
    refused(&report, Check::R5, "2 virtual functions", None);
}

#[test]
fn r5_function_that_does_not_answer_is_refused() {
    let report = nic(&format!("{NIC} gone"));
    assert!(report.refusals().any(|f| f.finding.contains("does not answer")), "{report}");
}

#[test]
fn r5_device_of_another_class_warns() {
    let line = "pci 0000:01:00.0 8086:2922 010601 under=0000:00:01.0 group=3 driver=ahci \
                reset=flr pcie=endpoint";
    warned(&nic(line), Check::R5, "010601");
}

const NO_RESET: Option<Override> = Some(Override::AllowNoReset);

#[test]
fn r6_no_reset_is_refused() {
    // vmxnet3 on the rig's root bus.
    let line = "pci 0000:01:00.0 15ad:07b0 020000 under=0000:00:01.0 group=3 driver=vmxnet3 \
                net=eth0";
    refused(&nic(line), Check::R6, "cannot be reset", NO_RESET);
    let empty = format!("{line}\nfile /sys/bus/pci/devices/0000:01:00.0/reset_method ");
    refused(&nic(&empty), Check::R6, "cannot be reset", NO_RESET);
}

#[test]
fn r6_pm_only_warns() {
    // e1000e on the rig's root bus.
    let line = "pci 0000:01:00.0 8086:10d3 020000 under=0000:00:01.0 group=3 driver=e1000e \
                net=eth0 reset=pm";
    warned(&nic(line), Check::R6, "(pm)");
}

#[test]
fn r6_old_kernel_that_names_no_method_warns() {
    let line = NIC.replace("reset=flr,bus", "old-reset");
    warned(&nic(&line), Check::R6, "does not say how");
}

#[test]
fn r6_bus_reset_with_sibling_is_refused_and_alone_accepted() {
    let line = NIC.replace("reset=flr,bus", "reset=bus");
    assert!(!nic(&line).refused());
    let sibling = "group 4 type=DMA\n\
                   pci 0000:01:08.0 10ec:8139 020000 under=0000:00:01.0 group=4";
    let report = nic(&format!("{line}\n{sibling}"));
    refused(&report, Check::R6, "resets 0000:01:08.0", NO_RESET);
}

#[test]
fn r7_memory_kept_by_firmware_is_refused() {
    let report = with("group 3 type=DMA direct=0xcd000000-0xcdffffff");
    refused(&report, Check::R7, "0xcd000000-0xcdffffff", None);
}

#[test]
fn r7_relaxable_memory_warns() {
    let report = with("group 3 type=DMA direct-relaxable=0xcd000000-0xcdffffff");
    warned(&report, Check::R7, "unmaps that");
}

#[test]
fn r8_acs_override_is_refused() {
    let report = with("cmdline iommu.strict=1 pcie_acs_override=downstream,multifunction");
    let flag = Some(Override::AllowAcsOverride);
    refused(&report, Check::R8, "pcie_acs_override", flag);
}

#[test]
fn r8_port_without_acs_warns() {
    let report = check(&format!("{}\n{NIC}", GOOD.replace("acs=1d", "")));
    warned(&report, Check::R8, "has no ACS");
    let report = check(&format!("{}\n{NIC}", GOOD.replace("acs=1d", "acs=11")));
    warned(&report, Check::R8, "partly on (0x11)");
}

#[test]
fn r8_conventional_bridge_outside_the_group_warns() {
    let report = check(&format!("{}\n{NIC}", GOOD.replace("pcie=root acs=1d", "")));
    warned(&report, Check::R8, "conventional PCI");
}

#[test]
fn r9_device_open_in_another_process_is_refused() {
    let line = NIC.replace("driver=igb net=eth0", "driver=vfio-pci");
    let report = nic(&format!("{line}\nopen 4242 qemu-system-x86 /dev/vfio/3"));
    refused(&report, Check::R9, "qemu-system-x86 (pid 4242)", None);
    let cdev = "file /sys/bus/pci/devices/0000:01:00.0/vfio-dev/vfio0/dev 511:0";
    let open = "open 4243 crosvm /dev/vfio/devices/vfio0";
    let report = nic(&format!("{line}\n{cdev}\n{open}"));
    refused(&report, Check::R9, "crosvm (pid 4243)", None);
}

#[test]
fn w10_passthrough_and_lazy_domains_warn() {
    warned(&with("group 3 type=identity"), Check::W10, "identity");
    warned(&with("group 3 type=DMA-FQ"), Check::W10, "DMA-FQ");
}

#[test]
fn w11_address_translation_service_warns_unless_off() {
    let ats = format!("{NIC} ats pri pasid");
    warned(&nic(&ats), Check::W11, "ATS, PRI, PASID");
    let off = format!("{ats}\ncmdline pci=realloc,noats");
    assert_eq!(nic(&off).warnings().count(), 0);
}

#[test]
fn w13_rom_bus_master_and_firmware_warn() {
    warned(&nic(&format!("{NIC} rom")), Check::W13, "option ROM");
    let unbound = format!("{} bus-master", NIC.replace("driver=igb net=eth0", ""));
    warned(&nic(&unbound), Check::W13, "bus mastering on");
    warned(&with("dmar flags=1"), Check::W13, "firmware kept");
    assert_eq!(with("dmar flags=0\nivrs flags=2").warnings().count(), 0);
    warned(&with("dmar flags=0\nivrs flags=1"), Check::W13, "firmware kept");
    let thunderbolt = "dmar flags=1\n\
                       file /sys/bus/thunderbolt/devices/domain0/iommu_dma_protection 1";
    assert_eq!(with(thunderbolt).warnings().count(), 0);
}

#[test]
fn r17_memory_lock_limit_counts_guest_and_registers() {
    let limit = |bytes: u64| format!("guest memory=1048576\nmemlock {bytes}");
    let needed = 1_048_576 + 0x20000;
    assert!(!with(&limit(needed)).refused());
    let report = with(&limit(needed - 1));
    refused(&report, Check::R17, "needs 1152 KiB", None);
    let root = format!("{}\nguest root memory=1048576", limit(1));
    assert!(!with(&root).refused());
}

#[test]
fn isolation_notices_a_device_that_joins_the_group_later() {
    let mut machine = Machine::new(&format!("{GOOD}\n{NIC}"));
    let nics = machine.nics(&[r#"{"pci": "0000:01:00.0"}"#]);
    assert!(!preflight::isolation(&machine.sysfs(), &nics).refused());
    machine.add("pci 0000:01:00.1 8086:1521 020000 under=0000:00:01.0 group=3");
    let report = preflight::isolation(&machine.sysfs(), &nics);
    refused(&report, Check::R3, "0000:01:00.1", None);
}
