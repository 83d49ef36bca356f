//! A passed-through device of a device tree between a fake device and a fake VMM.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use vmm_plugin::platform::{HostNode, Line, Placement, PlatformDevice, Trigger};
use vmm_plugin::vfio::Device;
use vmm_plugin::vfio::fake::{FakeInterrupt, FakePlatform, FakeRegion};
use vmm_plugin::vmm::fake::FakeVmm;
use vmm_plugin::vmm::{Interrupts, Space};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const BASE: u64 = 0xc00_0000;
/// The VMM's number of the first interrupt.
const LINE: u32 = 112;

struct Bench {
    device: Arc<FakePlatform>,
    vmm: FakeVmm,
    nic: PlatformDevice,
}

/// Something like a Tegra MGBE: registers that can be mapped, and a region smaller than a page.
fn fake() -> Arc<FakePlatform> {
    let regions = [FakeRegion::mappable(0x1_0000), FakeRegion { size: 0x200, mappable: vec![] }];
    let interrupts = [FakeInterrupt::Level, FakeInterrupt::Level, FakeInterrupt::Edge];
    Arc::new(FakePlatform::new(&regions, &interrupts, true).unwrap())
}

fn host() -> HostNode {
    HostNode {
        compatible: vec!["nvidia,tegra234-mgbe".into()],
        region_names: vec!["mac".into(), "xpcs".into()],
        interrupt_names: vec!["common".into(), "dma".into()],
        dma_coherent: true,
    }
}

fn placement() -> Placement {
    let lines = (0..3).map(|n| Line { line: LINE + n, spi: LINE + n }).collect();
    let packed = Placement::pack(&[0x1_0000, 0x200], BASE..=BASE + 0xf_ffff, 0x1000).unwrap();
    Placement { lines, ..packed }
}

fn bench() -> Bench {
    let (device, vmm) = (fake(), FakeVmm::new());
    let nic =
        PlatformDevice::attach(device.clone(), host(), "mgbe0", &placement(), vmm.seam()).unwrap();
    Bench { device, vmm, nic }
}

impl Bench {
    fn assert_nothing_left(&self) {
        assert_eq!(self.vmm.placed(), []);
        assert_eq!(self.vmm.slots(), []);
        assert_eq!(self.vmm.routes(), (0, 0));
        assert_eq!((self.device.triggers(), self.device.mappings()), (0, 0));
    }
}

#[test]
fn node_describes_what_was_placed() {
    let bench = bench();
    let node = bench.nic.node();
    assert_eq!(node.symbol, "mgbe0");
    assert_eq!(node.compatible, ["nvidia,tegra234-mgbe"]);
    assert!(node.dma_coherent);
    let regions: Vec<_> = node.regions.iter().map(|region| (region.base, region.size)).collect();
    assert_eq!(regions, [(BASE, 0x1_0000), (BASE + 0x1_0000, 0x200)]);
    assert_eq!(node.region("xpcs").unwrap().base, BASE + 0x1_0000);
    assert_eq!(node.interrupt("dma").unwrap().cells(), [0, LINE + 1, 4]);
    // The host's node has fewer names than interrupts.
    assert_eq!(node.interrupts[2].name, None);
    assert_eq!(node.interrupts[2].trigger, Trigger::Edge);
}

#[test]
fn registers_are_direct_and_small_regions_trapped() {
    let bench = bench();
    assert_eq!(bench.vmm.slots(), [(BASE, 0x1_0000)]);
    bench.vmm.write(Space::Mmio, BASE + 0x1234, &[1, 2, 3, 4]);
    let mut data = [0; 4];
    bench.device.read(0, 0x1234, &mut data).unwrap();
    assert_eq!(data, [1, 2, 3, 4]);
    assert_eq!(bench.nic.trapped_accesses(), 0);
    bench.vmm.write(Space::Mmio, BASE + 0x1_01fc, &[5, 6, 7, 8]);
    let mut data = [0; 8];
    bench.vmm.read(Space::Mmio, BASE + 0x1_01fc, &mut data);
    assert_eq!(data, [5, 6, 7, 8, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(bench.nic.trapped_accesses(), 2);
}

#[test]
fn level_interrupt_comes_again_until_it_is_served() {
    let bench = bench();
    bench.nic.start().unwrap();
    bench.device.assert(0, true);
    for _ in 0..3 {
        assert!(bench.vmm.raised(LINE));
        assert!(bench.device.masked(0));
        bench.vmm.acknowledge(LINE);
        bench.device.settle();
    }
    bench.device.assert(0, false);
    bench.vmm.acknowledge(LINE);
    bench.device.settle();
    assert!(!bench.vmm.raised(LINE));
    assert!(!bench.device.masked(0));
    assert!(!bench.vmm.raised(LINE + 1));
}

#[test]
fn edges_come_each_time() {
    let bench = bench();
    bench.nic.start().unwrap();
    for _ in 0..3 {
        bench.device.assert(2, true);
        assert!(bench.vmm.raised(LINE + 2));
        bench.vmm.acknowledge(LINE + 2);
    }
}

/// What other VMMs do, as the reason for the two tests behind it: a trigger from the beginning.
#[test]
fn armed_too_early_a_level_interrupt_is_the_last_one() {
    let (device, vmm) = (fake(), FakeVmm::new());
    let event = || EventFd::new(EFD_NONBLOCK).unwrap();
    let (trigger, resample) = (event(), event());
    let _route = vmm.level(LINE, &trigger, &resample).unwrap();
    device.set_triggers(0, 0, &[Some(&trigger)]).unwrap();
    device.set_resample(0, 0, Some(&resample)).unwrap();
    vmm.set_deaf(true);
    device.assert(0, true);
    vmm.set_deaf(false);
    // The guest listens now, and the device asserts still.
    for _ in 0..10 {
        device.settle();
        assert!(!vmm.raised(LINE), "no interrupts, no packets");
    }
    assert!(device.masked(0));
}

#[test]
fn interrupt_before_the_guest_listens_is_not_lost() {
    let bench = bench();
    bench.vmm.set_deaf(true);
    bench.device.assert(0, true);
    assert!(!bench.device.masked(0), "nothing is armed yet");
    bench.vmm.set_deaf(false);
    bench.nic.start().unwrap();
    assert!(bench.vmm.raised(LINE));
    bench.nic.start().unwrap();
    bench.vmm.acknowledge(LINE);
    bench.device.settle();
    assert!(bench.vmm.raised(LINE), "it goes on");
}

#[test]
fn interrupt_that_was_lost_later_comes_again_when_unmasked() {
    let bench = bench();
    bench.nic.start().unwrap();
    // The guest's interrupt controller is reset, by kexec for example.
    bench.vmm.set_deaf(true);
    bench.device.assert(1, true);
    bench.vmm.set_deaf(false);
    bench.device.settle();
    assert!(!bench.vmm.raised(LINE + 1));
    bench.nic.unmask().unwrap();
    assert!(bench.vmm.raised(LINE + 1));
    assert!(!bench.vmm.raised(LINE), "what is not asserted does not come");
}

#[test]
fn reset_keeps_interrupts() {
    let bench = bench();
    bench.nic.start().unwrap();
    bench.nic.reset().unwrap();
    assert_eq!(bench.device.resets(), 1);
    bench.device.assert(0, true);
    assert!(bench.vmm.raised(LINE));
}

#[test]
fn a_thousand_times_leaves_nothing() {
    let bench = bench();
    bench.nic.detach();
    for round in 0..1000 {
        let nic = PlatformDevice::attach(
            bench.device.clone(),
            host(),
            "mgbe0",
            &placement(),
            bench.vmm.seam(),
        )
        .unwrap();
        nic.start().unwrap();
        assert_ne!(bench.device.triggers(), 0);
        if round % 2 == 0 {
            assert_eq!(nic.detach(), [] as [&str; 0]);
        }
        drop(nic);
        bench.assert_nothing_left();
    }
}

#[test]
fn failing_midway_leaves_nothing() {
    let (device, vmm) = (fake(), FakeVmm::new());
    // The second region lies over the first.
    let over = Placement { regions: vec![BASE, BASE], ..placement() };
    PlatformDevice::attach(device.clone(), host(), "mgbe0", &over, vmm.seam()).unwrap_err();
    assert_eq!((vmm.placed().len(), vmm.slots().len(), device.mappings()), (0, 0, 0));
    let few = Placement { lines: vec![], ..placement() };
    let error = PlatformDevice::attach(device.clone(), host(), "x", &few, vmm.seam()).unwrap_err();
    assert_eq!(error.to_string(), "the device has 3 interrupts, and places were given for 0");
    // The third interrupt's line is taken.
    let event = || EventFd::new(EFD_NONBLOCK).unwrap();
    let _taken = vmm.level(LINE + 2, &event(), &event()).unwrap();
    let nic =
        PlatformDevice::attach(device.clone(), host(), "x", &placement(), vmm.seam()).unwrap();
    nic.start().unwrap_err();
    assert_eq!(device.triggers(), 0);
    assert_eq!(vmm.routes(), (0, 1));
}
