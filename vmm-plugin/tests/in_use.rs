//! R4 and D27: every way in which the host may live on a NIC, and the shapes of real machines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machine;

use machine::Machine;
use vmm_plugin::host::preflight::{self, Check, Override, Overrides, Report};

const HOST: &str = "
    cmdline intel_iommu=on iommu.strict=1
    interrupts IR-PCI-MSI
    iommu dmar0 ecap=f00f5a
    dmar flags=5
    group 3 type=DMA
    pci 0000:00:03.0 8086:1521 020000 group=3 driver=igb net=eth0 reset=flr pcie=endpoint
";
const ADDRESS: &str = "0000:00:03.0";

fn with(lines: &str, overrides: &[Override]) -> Report {
    let overrides: Overrides = overrides.iter().copied().collect();
    Machine::new(&format!("{HOST}\n{lines}")).preflight(&[ADDRESS], &overrides)
}

/// Refused by R4 alone with `needle`, and no longer with the flag.
#[track_caller]
fn used(lines: &str, needle: &str) {
    let report = with(lines, &[]);
    let refusals: Vec<_> = report.refusals().collect();
    assert!(refusals.iter().any(|f| f.finding.contains(needle)), "{needle}:\n{report}");
    assert!(refusals.iter().all(|f| f.id == Check::R4), "{report}");
    let report = with(lines, &[Override::TakeFromHost]);
    assert!(!report.refused(), "{report}");
    assert!(report.warnings().any(|f| f.overridden), "{report}");
}

/// Not refused; R4 warns with `needle`.
#[track_caller]
fn leftover(lines: &str, needle: &str) {
    let report = with(lines, &[]);
    assert!(!report.refused(), "{report}");
    let warnings: Vec<_> = report.warnings().collect();
    assert!(
        matches!(warnings[..], [w] if w.id == Check::R4 && w.finding.contains(needle)),
        "{report}"
    );
}

#[test]
fn interface_up_with_address_is_refused() {
    used("link eth0 up\naddress eth0 192.0.2.7/24", "192.0.2.7/24");
    used("link eth0 up\naddress eth0 2001:db8::7/64", "2001:db8::7/64");
}

#[test]
fn interface_of_default_route_is_refused() {
    used("link eth0 up\nroute eth0 default gateway", "default route");
    used("link eth0 up\nroute eth0 gateway", "a route leaves by eth0");
}

#[test]
fn interface_up_without_address_warns() {
    leftover("link eth0 up", "without address or route");
    leftover("link eth0 up\naddress eth0 fe80::1/64", "without address");
    // The kernel's own route to fe80::/64.
    leftover("link eth0 up\naddress eth0 fe80::1/64\nroute eth0", "without");
}

#[test]
fn interface_down_with_old_lease_warns() {
    leftover("link eth0\naddress eth0 10.0.2.15/24", "still has 10.0.2.15/24");
}

#[test]
fn bridge_bond_and_vlan_on_it_are_refused() {
    used("link br0 up kind=bridge\nlink eth0 up master=br0", "port of br0");
    used("link eth0.7 up kind=vlan lower=eth0\nlink eth0 up", "eth0.7 sits on it");
}

#[test]
fn address_of_the_bridge_above_counts() {
    let lines = "link br0 up kind=bridge\nlink eth0 up master=br0\naddress br0 192.0.2.7/24";
    used(lines, "br0 is up with address 192.0.2.7/24");
}

#[test]
fn xdp_program_is_refused() {
    used("link eth0 up xdp", "XDP");
}

#[test]
fn interface_in_another_namespace_is_refused() {
    let machine = Machine::new(&HOST.replace("net=eth0", ""));
    let report = machine.preflight(&[ADDRESS], &Overrides::new());
    let refusal = report.refusals().next().unwrap();
    assert!(refusal.finding.contains("another network namespace"), "{report}");
}

#[test]
fn rdma_consumer_is_refused() {
    let machine = Machine::new(&HOST.replace("net=eth0", "net=eth0 rdma"));
    let report = machine.preflight(&[ADDRESS], &Overrides::new());
    assert!(report.refusals().any(|f| f.finding.contains("RDMA")), "{report}");
}

#[test]
fn ssh_session_needs_its_own_flag() {
    let lines = "link eth0 up\naddress eth0 192.0.2.7/24\nssh 198.51.100.1 192.0.2.7 eth0";
    let report = with(lines, &[Override::TakeFromHost]);
    let refusals: Vec<_> = report.refusals().collect();
    assert!(matches!(refusals[..], [f] if f.id == Check::D27), "{report}");
    assert_eq!(refusals[0].overridable, Some(Override::CutMeOff));
    let both = [Override::TakeFromHost, Override::CutMeOff];
    assert!(!with(lines, &both).refused());
}

#[test]
fn ssh_session_through_bridge_or_by_address_is_found() {
    let bridged = "link br0 up kind=bridge\nlink eth0 up master=br0\n\
                   address br0 192.0.2.7/24\nssh 198.51.100.1 192.0.2.7 br0";
    let asymmetric = "link eth0 up\naddress eth0 192.0.2.7/24\nlink eth1 up\n\
                      ssh 198.51.100.1 192.0.2.7 eth1";
    let routed = "link eth0 up\naddress eth1 192.0.2.7/24\nssh 198.51.100.1 192.0.2.7 eth0";
    for lines in [bridged, asymmetric, routed] {
        let report = with(lines, &[]);
        assert!(report.refusals().any(|f| f.id == Check::D27), "{report}");
    }
}

#[test]
fn ssh_session_on_another_interface_is_left_alone() {
    let lines = "link eth1 up\naddress eth1 192.0.2.8/24\nssh 198.51.100.1 192.0.2.8 eth1";
    let report = with(lines, &[]);
    assert!(!report.refused(), "{report}");
}

#[test]
fn south_bridge_group_is_refused_for_siblings_and_storage() {
    // The rig's group of three; the root file system is on LVM on its disk.
    let text = "
        cmdline intel_iommu=on
        interrupts IR-PCI-MSI
        iommu dmar0 ecap=f00f5a
        group 7 type=DMA-FQ direct-relaxable=0x0-0xffffff
        pci 0000:00:1f.0 8086:2918 060100 group=7
        pci 0000:00:1f.2 8086:2922 010601 group=7 driver=ahci
        pci 0000:00:1f.3 8086:2930 0c0500 group=7 driver=i801_smbus
        disk sda2 on=0000:00:1f.2 number=8:2
        disk dm-0 number=254:0 slave=sda2
        mount 254:0 / ext4
        swap /dev/sda2
    ";
    let machine = Machine::new(text);
    let report = machine.preflight(&["0000:00:1f.3"], &Overrides::from(Override::ALL));
    let ids: Vec<Check> = report.refusals().map(|f| f.id).collect();
    assert_eq!(ids, [Check::R3, Check::R4], "{report}");
    let storage = &report.refusals().nth(1).unwrap().finding;
    assert!(storage.contains("/ (ext4), swap on /dev/sda2"), "{report}");
}

#[test]
fn rig_machine_as_it_boots_passes_with_warnings_only() {
    let text = "
        cmdline console=ttyS0 panic=1 intel_iommu=on iommu=pt quiet
        interrupts IR-IO-APIC IR-PCI-MSI-0000:00:03.0
        iommu dmar0 ecap=f00f5a
        dmar flags=1
        group 3 type=identity
        pci 0000:00:03.0 8086:10d3 020000 group=3 driver=e1000e net=eth0 reset=pm bus-master \
           pcie=endpoint rom
        guest root
    "
    .replace("\\\n", "");
    let report = Machine::new(&text).preflight(&[ADDRESS], &Overrides::new());
    assert!(!report.refused(), "{report}");
    let ids: Vec<Check> = report.warnings().map(|f| f.id).collect();
    assert_eq!(ids, [Check::R6, Check::W10, Check::W13, Check::W13], "{report}");
}

#[test]
fn conventional_card_sharing_its_bridges_group_passes() {
    let text = "
        cmdline intel_iommu=on iommu.strict=1
        interrupts IR-PCI-MSI
        group 5 type=DMA
        pci 0000:00:02.0 1b36:000e 060400 group=5 header=1 pcie=bridge
        pci 0000:01:01.0 10ec:8139 020000 under=0000:00:02.0 group=5 driver=8139cp net=eth0 reset=bus
    ";
    let report = Machine::new(text).preflight(&["0000:01:01.0"], &Overrides::new());
    assert!(!report.refused(), "{report}");
}

#[test]
fn other_function_of_the_card_kept_by_the_host_warns() {
    let sibling = "group 4 type=DMA\npci 0000:00:03.1 8086:1521 020000 group=4 driver=igb";
    let report = with(sibling, &[]);
    assert!(!report.refused(), "{report}");
    let warning = report.warnings().next().unwrap();
    assert!(warning.finding.contains("0000:00:03.1"), "{report}");
}

#[test]
fn usb_devices_that_leave_with_the_controller_are_named() {
    let text = "
        cmdline intel_iommu=on iommu.strict=1
        interrupts IR-PCI-MSI
        dmar flags=5
        group 3 type=DMA
        pci 0000:00:14.0 8086:a36d 0c0330 group=3 driver=xhci_hcd reset=flr pcie=endpoint
        usb 1-1 0bda:8153 on=0000:00:14.0 product=LAN net=eth0
        usb 1-2 046d:c31c on=0000:00:14.0 product=Keyboard
    ";
    let machine = Machine::new(text);
    for (selector, leaves_with_it) in
        [(r#"{"usb": "0bda:8153"}"#, false), (r#"{"pci": "0000:00:14.0"}"#, true)]
    {
        let nics = machine.nics(&[selector]);
        let environment = machine.environment(&nics);
        let sysfs = machine.sysfs();
        let report = preflight::run(&sysfs, &nics, &environment, &Overrides::new());
        assert!(!report.refused(), "{report}");
        let warning = report.warnings().find(|f| f.id == Check::R4).unwrap();
        assert!(warning.finding.contains("1-2 [046d:c31c] Keyboard"), "{report}");
        assert_eq!(warning.finding.contains("1-1"), leaves_with_it, "{report}");
    }
}
