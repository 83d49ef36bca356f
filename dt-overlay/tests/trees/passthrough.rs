//! As far as a NIC of a device tree goes without vfio-platform, which Debian's kernels lack: what vmm-plugin gives a guest
//! of a fake device is where our tree for the guest says it is.

use std::sync::Arc;

use crate::survey::board;
use dt_overlay::overlay::{Choices, GuestVmm, Request, guest_overlay, label};
use dt_overlay::survey::survey;
use dt_overlay::tree::value;
use dtoolkit::{Node as _, Property as _};
use vmm_plugin::platform::{HostNode, Line, Placement, PlatformDevice};
use vmm_plugin::vfio::Device as _;
use vmm_plugin::vfio::fake::{FakeInterrupt, FakePlatform, FakeRegion};
use vmm_plugin::vmm::Space;
use vmm_plugin::vmm::fake::FakeVmm;

const WINDOW: u64 = 0xc00_0000;
const SPI: u32 = 112;
const PAGE: u64 = 0x1000;

#[test]
fn guest_finds_registers_and_interrupts_where_its_tree_says() {
    let tree = board(
        "xgmac@5000 { compatible = \"amd,xgbe-seattle-v1a\"; reg = <0x5000 0x1000>, <0x7000 0x300>;
           reg-names = \"xgmac\", \"xpcs\"; interrupts = <0 1 4>, <0 2 4>; iommus = <&smmu 1>;
           dma-coherent; };",
    );
    let nics = survey(&tree, None).expect("the board is surveyed");
    let nic = nics.first().expect("it has a NIC");
    let overlay = guest_overlay(
        &Request { tree: &tree, nic: &nic.path, board: None, choices: &Choices::default() },
        GuestVmm::Standalone { address: WINDOW, spi: SPI },
    )
    .expect("there is a tree for the guest");

    // The device as VFIO would have it: regions and interrupts in the order of the host's node.
    let regions = [FakeRegion::mappable(PAGE), FakeRegion { size: 0x300, mappable: vec![] }];
    let interrupts = [FakeInterrupt::Level, FakeInterrupt::Level];
    let device = Arc::new(FakePlatform::new(&regions, &interrupts, true).expect("a device"));
    let host = HostNode {
        compatible: nic.compatible.clone(),
        region_names: vec!["xgmac".into(), "xpcs".into()],
        interrupt_names: Vec::new(),
        dma_coherent: nic.dma_coherent,
    };
    let sizes: Vec<u64> = nic.regions.iter().map(|region| region.size).collect();
    let placement = Placement::pack(&sizes, WINDOW..=WINDOW + 0xf_ffff, PAGE).expect("it fits");
    let lines = (SPI..SPI + 2).map(|spi| Line { line: spi, spi }).collect();
    let placement = Placement { lines, ..placement };
    let (vmm, symbol) = (FakeVmm::new(), label(nic));
    let passed = PlatformDevice::attach(device.clone(), host, &symbol, &placement, vmm.seam())
        .expect("it is attached");
    passed.start().expect("interrupts begin");

    let described = passed.node();
    let symbols = overlay.node("/__symbols__").expect("the overlay has symbols");
    let path = value::string(symbols, &symbol).expect("the NIC has a label");
    let node = overlay.node(path).expect("the label leads to the NIC");
    assert_eq!(value::string(node, "compatible"), described.compatible.first().map(String::as_str));
    let coherent = node.properties().any(|property| property.name() == "dma-coherent");
    assert_eq!(coherent, described.dma_coherent);
    let cells = value::cells(node, "reg").expect("it has registers");
    let wide = |pair: &[u32]| u64::from(pair[0]) << 32 | u64::from(pair[1]);
    let told: Vec<(u64, u64)> =
        cells.chunks(4).map(|entry| (wide(&entry[..2]), wide(&entry[2..]))).collect();
    let placed: Vec<_> =
        described.regions.iter().map(|region| (region.base, region.size)).collect();
    assert_eq!(told, placed);
    let told = value::cells(node, "interrupts").expect("it has interrupts");
    let routed: Vec<u32> = described.interrupts.iter().flat_map(|it| it.cells()).collect();
    assert_eq!(told, routed);

    // A driver that follows the tree reaches the device, and is reached by it.
    vmm.write(Space::Mmio, placed[1].0 + 8, &[1, 2, 3, 4]);
    let mut data = [0; 4];
    device.read(1, 8, &mut data).expect("the region is read");
    assert_eq!(data, [1, 2, 3, 4]);
    for round in 0..3 {
        device.assert(1, true);
        assert!(vmm.raised(told[4]), "round {round}");
        assert!(!vmm.raised(told[1]), "round {round}");
        vmm.acknowledge(told[4]);
        device.settle();
    }
}
