//! BARs: placed, moved, direct and trapped.

use vmm_plugin::pci::{Options, Report, Windows};
use vmm_plugin::vfio::Device;
use vmm_plugin::vfio::fake::{FakeBar, Shape};
use vmm_plugin::vmm::{Bus, GuestRange, Space, Trap};

use crate::bench::{BAR0, BAR2, BAR3, Bench, COMMAND, MEMORY, options};

fn mmio(base: u32, size: u64) -> GuestRange {
    GuestRange { space: Space::Mmio, base: base.into(), size }
}

fn sorted(mut ranges: Vec<GuestRange>) -> Vec<GuestRange> {
    ranges.sort_by_key(|range| range.base);
    ranges
}

#[test]
fn bars_follow_decoding() {
    let bench = Bench::running(&Shape::nic());
    let ports = GuestRange { space: Space::Pio, base: BAR2.into(), size: 0x20 };
    let all = [ports, mmio(BAR0, 0x2_0000), mmio(BAR3, 0x4000)];
    assert_eq!(sorted(bench.vmm.placed()), all);
    bench.write16(COMMAND, 1);
    assert_eq!(bench.vmm.placed(), [ports]);
    assert_eq!(bench.vmm.slots(), []);
    bench.write16(COMMAND, MEMORY);
    assert_eq!(sorted(bench.vmm.placed()), all[1..]);
    assert_eq!(bench.function.placed(0), Some(all[1]));
    assert_eq!(bench.function.placed(2), None);
}

#[test]
fn pages_without_msix_are_direct() {
    let bench = Bench::running(&Shape::nic());
    let mut slots = bench.vmm.slots();
    slots.sort_unstable();
    // BAR 3 has the table in page 0 and the pending bits in page 2.
    let (bar0, bar3) = (u64::from(BAR0), u64::from(BAR3));
    assert_eq!(slots, [(bar0, 0x2_0000), (bar3 + 0x1000, 0x1000), (bar3 + 0x3000, 0x1000)]);
    bench.set_memory32(BAR0 + 0x100, 0x1234_5678);
    let mut data = [0; 4];
    bench.device.read(0, 0x100, &mut data).unwrap();
    assert_eq!(u32::from_le_bytes(data), 0x1234_5678);
    assert_eq!(bench.memory32(BAR0 + 0x100), 0x1234_5678);
    let counters = bench.function.counters();
    assert_eq!((counters.bar_reads, counters.bar_writes), (0, 0));
}

#[test]
fn ports_are_trapped_and_counted() {
    let bench = Bench::running(&Shape::nic());
    bench.vmm.write(Space::Pio, u64::from(BAR2) + 4, &[1, 2]);
    let mut data = [0; 2];
    bench.vmm.read(Space::Pio, u64::from(BAR2) + 4, &mut data);
    assert_eq!(data, [1, 2]);
    let counters = bench.function.counters();
    assert_eq!((counters.bar_reads, counters.bar_writes), (1, 1));
}

#[test]
fn bar_smaller_than_a_page_is_trapped() {
    let mut shape = Shape::nic();
    shape.bars[0] = Some(FakeBar::memory(0x100));
    let bench = Bench::running(&shape);
    bench.set_memory32(BAR0 + 0x10, 7);
    assert_eq!(bench.memory32(BAR0 + 0x10), 7);
    assert_eq!(bench.function.counters().bar_reads, 1);
    // Over the end: what is there is read, the rest is ones.
    let mut data = [0; 8];
    bench.vmm.read(Space::Mmio, u64::from(BAR0) + 0xfc, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn bar_moves_while_decoding() {
    let bench = Bench::running(&Shape::nic());
    bench.set_memory32(BAR0, 42);
    bench.write32(0x10, 0xe800_0000);
    assert_eq!(bench.memory32(0xe800_0000), 42);
    assert_eq!(bench.memory32(BAR0), u32::MAX);
}

#[test]
fn bars_change_places() {
    let mut shape = Shape::nic();
    shape.bars[3] = Some(FakeBar::memory(0x2_0000));
    let bench = Bench::running(&shape);
    bench.write16(COMMAND, 0);
    bench.write32(0x10, BAR3);
    bench.write32(0x1c, BAR0);
    bench.write16(COMMAND, MEMORY);
    assert_eq!(bench.function.placed(0), Some(mmio(BAR3, 0x2_0000)));
    assert_eq!(bench.function.placed(3), Some(mmio(BAR0, 0x2_0000)));
    assert_eq!(bench.function.take_reports(), []);
}

#[test]
fn bar_outside_of_the_windows_is_nowhere_and_reported_once() {
    let bench = Bench::running(&Shape::nic());
    for _ in 0..3 {
        bench.write32(0x10, 0x1000_0000);
    }
    assert_eq!(bench.function.placed(0), None);
    let why = "it is in no window for BARs".to_owned();
    let report = Report::NotPlaced { bar: 0, address: 0x1000_0000, why };
    assert_eq!(bench.function.take_reports(), [report]);
    bench.write32(0x10, BAR0);
    assert_eq!(bench.function.placed(0), Some(mmio(BAR0, 0x2_0000)));
}

#[test]
fn bar_over_another_is_nowhere_until_that_moves() {
    let bench = Bench::running(&Shape::nic());
    bench.write32(0x1c, BAR0 + 0x4000);
    assert_eq!(bench.function.placed(3), None);
    assert!(matches!(bench.function.take_reports()[..], [Report::NotPlaced { bar: 3, .. }]));
    bench.write32(0x10, 0xe800_0000);
    assert_eq!(bench.function.placed(3), Some(mmio(BAR0 + 0x4000, 0x4000)));
}

#[test]
fn bar_over_somebody_elses_registers_is_nowhere() {
    struct Other;
    impl Trap for Other {
        fn read(&self, _: u64, data: &mut [u8]) {
            data.fill(0x5a);
        }
        fn write(&self, _: u64, _: &[u8]) {}
    }
    let bench = Bench::running(&Shape::nic());
    let other = mmio(0xe800_0000, 0x1000);
    bench.vmm.place(other, std::sync::Arc::new(Other)).unwrap();
    bench.write32(0x10, 0xe800_0000);
    assert_eq!(bench.memory32(0xe800_0000), 0x5a5a_5a5a);
    assert_eq!(bench.function.placed(0), None);
}

#[test]
fn without_slots_everything_is_trapped_and_works() {
    let bench = Bench::new(&Shape::nic());
    bench.vmm.limit_slots(1);
    bench.write32(0x10, BAR0);
    bench.write32(0x1c, BAR3);
    bench.write16(COMMAND, MEMORY);
    assert_eq!(bench.vmm.slots().len(), 1);
    bench.set_memory32(BAR3 + 0x1000, 9);
    assert_eq!(bench.memory32(BAR3 + 0x1000), 9);
    assert_eq!(bench.function.counters().bar_reads, 1);
    let reports = bench.function.take_reports();
    assert!(matches!(reports[0], Report::Trapped { bar: 3, offset: 0x1000, .. }), "{reports:?}");
}

#[test]
fn assigned_addresses_come_back_with_a_reset() {
    let bench = Bench::new(&Shape::nic());
    assert!(bench.function.assign_bar(0, BAR0.into()));
    assert!(!bench.function.assign_bar(0, u64::from(BAR0) + 0x1000), "not aligned");
    assert!(!bench.function.assign_bar(0, 1 << 32), "too large");
    assert!(!bench.function.assign_bar(1, 0), "no such BAR");
    bench.write16(COMMAND, MEMORY);
    bench.write32(0x10, 0xe800_0000);
    bench.function.reset().unwrap();
    assert_eq!(bench.read32(0x10), BAR0);
    assert_eq!(bench.vmm.placed(), []);
    bench.write16(COMMAND, MEMORY);
    assert_eq!(bench.function.placed(0), Some(mmio(BAR0, 0x2_0000)));
}

#[test]
fn sixty_four_bits_are_two_writes() {
    let mut shape = Shape::nic();
    shape.capabilities = Vec::new();
    shape.bars[3] = Some(FakeBar::memory_64(0x4000));
    let windows = Windows { memory: vec![1 << 40..=2 << 40], ports: None };
    let bench = Bench::with(&shape, Options { windows, ..options() });
    // No ports in the window, no port BAR.
    assert_eq!(bench.function.bars().len(), 2);
    bench.write32(0x1c, 0x8000_0000);
    bench.write32(0x20, 0x100);
    bench.write16(COMMAND, MEMORY);
    assert_eq!(bench.function.placed(3).unwrap().base, 0x100_8000_0000);
    // One write of both.
    bench.function.config_write(0x1c, &0x0000_0101_0000_0000_u64.to_le_bytes());
    assert_eq!(bench.function.placed(3).unwrap().base, 0x101_0000_0000);
}
