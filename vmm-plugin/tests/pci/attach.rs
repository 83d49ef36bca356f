//! Attached and detached at run time, reset, wanted back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_plugin::mapping::Mapping;
use vmm_plugin::pci::{Function, HostAddress, Options, ResetError, ResetScope, foreign};
use vmm_plugin::vfio::ResetPeer;
use vmm_plugin::vfio::fake::{FakeFunction, Shape, capability};
use vmm_plugin::vmm::fake::FakeVmm;
use vmm_plugin::vmm::{Seam, SeamError, Slot, Slots};

use crate::bench::{BAR3, BUS_MASTER, Bench, COMMAND, MEMORY, options};

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn everything_is_given_back() {
    let bench = Bench::running(&Shape::nic());
    bench.set_memory32(BAR3 + 12, 0);
    bench.write16(bench.capability(0x11) + 2, 0x8000);
    assert_ne!(bench.device.triggers(), 0);
    assert_ne!(bench.device.mappings(), 0);
    bench.function.detach();
    bench.assert_nothing_left();
    assert_eq!(bench.device.command() & BUS_MASTER, 0);
    assert_eq!(bench.function.take_reports(), []);
    // A VMM may still ask.
    assert_eq!(bench.read32(0), u32::MAX);
    bench.write16(COMMAND, 7);
    bench.function.unmask_line();
    bench.function.reset().unwrap();
    assert!(bench.function.assign_bar(0, 0xe000_0000));
    bench.function.detach();
    bench.assert_nothing_left();
}

#[test]
fn a_thousand_times_leaves_nothing() {
    let first = Bench::running(&Shape::nic());
    first.function.detach();
    let before = open_files();
    let device: std::sync::Arc<dyn vmm_plugin::vfio::Device> = first.device.clone();
    for round in 0..1000 {
        let function =
            vmm_plugin::pci::Function::attach(device.clone(), first.vmm.seam(), options());
        let bench = Bench {
            device: first.device.clone(),
            vmm: first.vmm.clone(),
            function: function.unwrap(),
        };
        bench.function.assign_bar(0, 0xe000_0000);
        bench.function.assign_bar(2, 0xc000);
        bench.function.assign_bar(3, BAR3.into());
        bench.write16(COMMAND, 7);
        bench.set_memory32(BAR3 + 12, 0);
        bench.write16(bench.capability(0x11) + 2, 0x8000);
        assert_eq!(bench.vmm.slots().len(), 3);
        if round % 2 == 0 {
            bench.function.detach();
            assert_eq!(bench.function.take_reports(), []);
        }
        let Bench { function, .. } = bench;
        drop(function);
        first.assert_nothing_left();
    }
    // Other tests of this process open files too; a leak would be thousands.
    let after = open_files();
    assert!(after < before + 500, "{before} files before, {after} after");
}

#[test]
fn errors_and_the_hosts_wish_are_told() {
    let bench = Bench::new(&Shape::nic());
    assert!(bench.function.errors().read().is_err());
    bench.device.fail();
    assert_eq!(bench.function.errors().read().unwrap(), 1);
    bench.device.ask_back();
    assert_eq!(bench.function.requests().read().unwrap(), 1);
}

/// Slots that see whether a device decodes as long as its BARs are shown to the guest.
#[derive(Debug)]
struct Decoding {
    slots: Arc<dyn Slots>,
    device: Arc<FakeFunction>,
    deaf: AtomicBool,
}

impl Slots for Decoding {
    fn map(&self, guest: u64, memory: Arc<Mapping>, writable: bool) -> Result<Slot, SeamError> {
        self.slots.map(guest, memory, writable)
    }

    fn unmap(&self, slot: Slot) -> Result<(), SeamError> {
        self.deaf.fetch_or(self.device.command() & MEMORY == 0, Ordering::Relaxed);
        self.slots.unmap(slot)
    }
}

#[test]
fn device_decodes_until_its_bars_have_left_the_guest() {
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let vmm = FakeVmm::new();
    let slots = Arc::new(Decoding {
        slots: vmm.seam().slots,
        device: device.clone(),
        deaf: AtomicBool::new(false),
    });
    let seam = Seam { slots: slots.clone(), ..vmm.seam() };
    let function = Function::attach(device.clone(), seam, options()).unwrap();
    function.assign_bar(0, 0xe000_0000);
    function.config_write(COMMAND, &[7, 0]);
    assert_eq!(vmm.slots().len(), 1);
    function.detach();
    assert_eq!(vmm.slots(), []);
    assert!(!slots.deaf.load(Ordering::Relaxed), "a vCPU would have ended there");
    assert_eq!(device.command() & (MEMORY | BUS_MASTER), 0);
}

fn peer(bus: u8, devfn: u8, group: i64) -> ResetPeer {
    ResetPeer { group, segment: 0, bus, devfn }
}

#[test]
fn bus_is_reset_when_all_on_it_is_ours() {
    let address = |devfn| HostAddress { segment: 0, bus: 3, devfn };
    let reset = ResetScope { owned: vec![address(0), address(1)], groups: Vec::new() };
    let shape = Shape { resettable: false, ..Shape::nic() };
    let bench = Bench::with(&shape, Options { reset, ..options() });
    bench.device.set_reset_set(vec![peer(3, 0, 7), peer(3, 1, 7)]);
    bench.function.reset().unwrap();
    assert_eq!(bench.device.resets(), (0, 1));
    bench.device.set_reset_set(vec![peer(3, 0, 7), peer(3, 2, 8)]);
    let error = bench.function.reset().unwrap_err();
    assert!(matches!(error, ResetError::Foreign { peer } if peer == address(2)), "{error}");
    assert!(error.to_string().contains("0000:03:00.2"), "{error}");
    assert_eq!(bench.device.resets(), (0, 1));
}

#[test]
fn function_alone_is_preferred() {
    let reset = ResetScope {
        owned: vec![HostAddress { segment: 0, bus: 3, devfn: 0 }],
        groups: Vec::new(),
    };
    let bench = Bench::with(&Shape::nic(), Options { reset, ..options() });
    bench.device.set_reset_set(vec![peer(3, 0, 7)]);
    bench.function.reset().unwrap();
    assert_eq!(bench.device.resets(), (1, 0));
}

#[test]
fn bus_is_preferred_to_a_change_of_the_power_state() {
    let shape = Shape { capabilities: vec![capability::power()], ..Shape::nic() };
    let reset = ResetScope {
        owned: vec![HostAddress { segment: 0, bus: 3, devfn: 0 }],
        groups: Vec::new(),
    };
    let bench = Bench::with(&shape, Options { reset, ..options() });
    // No bus to be reset, somebody else's device on it, and at last all of it ours.
    bench.function.reset().unwrap();
    assert_eq!(bench.device.resets(), (1, 0));
    bench.device.set_reset_set(vec![peer(3, 0, 7), peer(3, 1, 8)]);
    bench.function.reset().unwrap();
    assert_eq!(bench.device.resets(), (2, 0));
    bench.device.set_reset_set(vec![peer(3, 0, 7)]);
    bench.function.reset().unwrap();
    assert_eq!(bench.device.resets(), (2, 1));
}

#[test]
fn foreign_is_who_is_not_listed_or_marked() {
    let ours = [HostAddress { segment: 0, bus: 3, devfn: 0 }];
    assert_eq!(foreign(&[peer(3, 0, 7)], &ours), None);
    assert_eq!(foreign(&[peer(3, 0, -1)], &ours), Some(ours[0]));
    assert!(foreign(&[peer(3, 0, 7), peer(4, 0, 7)], &ours).is_some());
}
