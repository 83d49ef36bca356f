//! Linux on an emulated arm64 machine with an SMMU, booted with trees of ours.
//!
//! The NIC is a virtio network card in a virtio-mmio slot: a platform device with registers, an
//! interrupt and a native driver. QEMU's SMMU translates PCI devices only, so nothing here is about
//! DMA. Debian's kernels have no vfio-platform: where it would take the NIC, the native driver
//! does, as Linux makes a device's IOMMU group when any driver first probes it.

mod machine;

use std::collections::BTreeMap;

use dt_overlay::overlay::{Choices, GuestVmm, PASSTHROUGH, Request, guest_overlay, host_overlay};
use dt_overlay::survey::KeepAway;
use dt_overlay::{Board, Tree, apply};

use machine::{boot, machine_tree};

/// The slot that QEMU fills first.
const NIC: &str = "/virtio_mmio@a003e00";
const DEVICE: &str = "a003e00.virtio_mmio";

const BOARD: &str = r#"
name = "QEMU virt"
compatible = ["linux,dummy-virt"]
hardware = "Tried: this is how."
[[nic]]
path = "/virtio_mmio@a003e00"
iommu = "/smmuv3@9050000"
# Beyond those that PCI's requester ids map to.
streams = [[0x1000]]
"#;

fn changed(keep_away: KeepAway) -> Tree {
    let tree = machine_tree();
    let board = Board::parse(BOARD).expect("a board");
    let choices = Choices { keep_away: Some(keep_away), ..Choices::default() };
    let request = Request { tree: &tree, nic: NIC, board: Some(&board), choices: &choices };
    apply(&tree, &host_overlay(&request).expect("a host overlay")).expect("it applies")
}

fn said<'a>(facts: &'a BTreeMap<String, String>, name: &str) -> &'a str {
    facts.get(name).unwrap_or_else(|| panic!("{name} was not said: {facts:?}"))
}

#[test]
fn without_the_overlay_the_native_driver_has_the_nic_and_no_iommu() {
    let facts = boot(&machine_tree(), DEVICE);
    assert_eq!(said(&facts, "driver"), "virtio-mmio");
    assert_eq!(said(&facts, "group"), "none");
    assert_eq!(said(&facts, "ping"), "yes");
}

#[test]
fn host_overlay_keeps_the_native_driver_away_and_gives_the_nic_a_group_of_its_own() {
    let facts = boot(&changed(KeepAway::Compatible), DEVICE);
    assert_eq!(said(&facts, "compatible"), PASSTHROUGH);
    // The native driver was loaded, and looked at every device.
    assert_eq!(said(&facts, "driver"), "none");
    assert_eq!(said(&facts, "netdev"), "none");
    // Then `driver_override` names a driver, as netvm does with vfio-platform.
    assert_eq!(said(&facts, "overridden-driver"), "virtio-mmio");
    assert_ne!(said(&facts, "overridden-group"), "none");
    assert_eq!(said(&facts, "overridden-members"), DEVICE);
}

#[test]
fn host_overlay_that_leaves_the_node_gives_it_a_group_when_it_is_first_probed() {
    let facts = boot(&changed(KeepAway::DriverOverride), DEVICE);
    assert_eq!(said(&facts, "compatible"), "virtio,mmio");
    assert_ne!(said(&facts, "group"), "none");
    assert_eq!(said(&facts, "members"), DEVICE);
}

#[test]
fn guest_overlay_lets_the_native_driver_find_the_nic_and_use_it() {
    // Made from the host's changed tree, as `netvm up` does.
    let host = changed(KeepAway::Compatible);
    let board = Board::parse(BOARD).expect("a board");
    let choices = Choices::default();
    let request = Request { tree: &host, nic: DEVICE, board: Some(&board), choices: &choices };
    // Where this machine has it: the guest's registers and interrupts are the VMM's to choose.
    let vmm = GuestVmm::Standalone { address: 0x0a00_3000, spi: 0x2f };
    let overlay = guest_overlay(&request, vmm).expect("a guest overlay");
    let mut guest = machine_tree();
    let slots: Vec<String> = {
        use dtoolkit::Node as _;
        let names = guest.root().children().map(|node| node.name().to_owned());
        names.filter(|name| name.starts_with("virtio_mmio@")).collect()
    };
    for slot in slots {
        guest.root_mut().remove_child(&slot);
    }
    let without = boot(&guest, DEVICE);
    assert_eq!(said(&without, "device"), "none");
    let guest = apply(&guest, &overlay).expect("it applies");
    let facts = boot(&guest, DEVICE);
    assert_eq!(said(&facts, "path"), "/netvm-platform/virtio_mmio@a003e00");
    assert_eq!(said(&facts, "compatible"), "virtio,mmio");
    assert_eq!(said(&facts, "driver"), "virtio-mmio");
    assert_eq!(said(&facts, "group"), "none");
    // Registers and the interrupt are the right ones: frames come and go.
    assert_eq!(said(&facts, "ping"), "yes");
}
