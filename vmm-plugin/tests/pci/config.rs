//! Configuration space: what a guest is shown, and what reaches the device.

use vmm_plugin::pci::{Function, Options, Policy, Report};
use vmm_plugin::vfio::fake::{FakeFunction, Shape, capability};

use crate::bench::{BUS_MASTER, Bench, COMMAND, MEMORY, options};

#[test]
fn ids_are_the_devices() {
    let bench = Bench::new(&Shape::nic());
    assert_eq!(bench.read32(0), 0x10d3_8086);
    assert_eq!(bench.read32(8), 0x0200_0001);
    bench.write32(0, 0);
    assert_eq!(bench.read32(0), 0x10d3_8086);
}

#[test]
fn bus_mastering_is_off_until_the_guest_asks() {
    let bench = Bench::new(&Shape::nic());
    assert_eq!(bench.device.command() & BUS_MASTER, 0);
    assert_eq!(bench.read16(COMMAND), 0);
    bench.write16(COMMAND, BUS_MASTER);
    assert_eq!(bench.device.command() & BUS_MASTER, BUS_MASTER);
    bench.write16(COMMAND, 0);
    assert_eq!(bench.device.command() & BUS_MASTER, 0);
}

#[test]
fn decoding_of_the_device_stays_on() {
    let bench = Bench::new(&Shape::nic());
    assert_eq!(bench.device.command() & 3, 3);
    bench.write16(COMMAND, MEMORY);
    bench.write16(COMMAND, 0);
    assert_eq!(bench.device.command() & 3, 3);
}

#[test]
fn reserved_bits_of_command_are_not_kept() {
    let bench = Bench::new(&Shape::nic());
    bench.write16(COMMAND, 0xffff);
    assert_eq!(bench.read16(COMMAND), 0x0547);
    assert_eq!(bench.device.command(), 0x0547);
}

#[test]
fn status_is_cleared_by_ones_and_by_nothing_else() {
    let bench = Bench::new(&Shape::nic());
    bench.device.poke(7, &[0xf9]);
    // A byte of COMMAND must not clear what STATUS has.
    bench.write32(COMMAND, 0);
    assert_eq!(bench.read16(6), 0xf910);
    bench.function.config_write(7, &[0x80]);
    assert_eq!(bench.read16(6), 0x7910);
}

#[test]
fn bars_are_sized_as_by_any_guest() {
    let shape = Shape {
        bars: [
            Some(vmm_plugin::vfio::fake::FakeBar::memory_64(0x2_0000_0000)),
            None,
            Some(vmm_plugin::vfio::fake::FakeBar::ports(0x20)),
            Some(vmm_plugin::vfio::fake::FakeBar::memory(0x100)),
            None,
            None,
        ],
        capabilities: Vec::new(),
        ..Shape::nic()
    };
    let bench = Bench::new(&shape);
    for bar in 0..6 {
        bench.write32(0x10 + 4 * bar, u32::MAX);
    }
    let sizes: Vec<u32> = (0..6).map(|bar| bench.read32(0x10 + 4 * bar)).collect();
    assert_eq!(sizes, [0xc, 0xffff_fffe, 0xffe1, 0xffff_ff00, 0, 0]);
}

#[test]
fn option_rom_is_hidden() {
    let bench = Bench::new(&Shape::nic());
    bench.device.poke(0x30, &[1, 0, 0xff, 0xff]);
    bench.write32(0x30, u32::MAX);
    assert_eq!(bench.read32(0x30), 0);
}

#[test]
fn interrupt_pin_needs_a_line() {
    assert_eq!(Bench::new(&Shape::nic()).read8(0x3d), 1);
    let without = Options { line: None, ..options() };
    assert_eq!(Bench::with(&Shape::nic(), without).read8(0x3d), 0);
    let shape = Shape { intx: false, ..Shape::nic() };
    assert_eq!(Bench::new(&shape).read8(0x3d), 0);
}

#[test]
fn capabilities_are_those_of_the_list() {
    let mut shape = Shape::nic();
    // HyperTransport, vital product data, enhanced allocation, and one that nobody knows.
    for id in [0x08, 0x03, 0x14, 0x77] {
        shape.capabilities.insert(1, (id, vec![0; 6]));
    }
    let bench = Bench::new(&shape);
    let ids: Vec<u8> = bench.capabilities().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [0x01, 0x05, 0x10, 0x11]);
    // They stay where the device has them.
    assert_eq!(bench.capability(0x11), 0xbc);
}

#[test]
fn no_capability_no_list() {
    let shape = Shape { capabilities: vec![(0x77, vec![0; 6])], ..Shape::nic() };
    let bench = Bench::new(&shape);
    assert_eq!(bench.read8(0x34), 0);
    assert_eq!(bench.read16(6) & 0x10, 0);
}

#[test]
fn power_state_reaches_the_device_and_events_do_not() {
    let bench = Bench::running(&Shape::nic());
    let control = bench.capability(1) + 4;
    assert_eq!(bench.read16(control - 2) & 0xffc0, 0);
    bench.write16(control, 0x8103);
    assert_eq!(bench.read16(control), 3);
    assert_eq!(bench.device.peek(control as usize), 3);
    assert_eq!(bench.device.peek(control as usize + 1), 0);
    // Nothing is where the device does not answer.
    assert_eq!(bench.vmm.placed(), []);
    bench.write16(control, 0);
    assert_eq!(bench.vmm.placed().len(), 3);
    // D1 does not exist.
    bench.write16(control, 1);
    assert_eq!(bench.read16(control), 0);
}

#[test]
fn express_endpoint_is_integrated_without_a_port() {
    let bench = Bench::new(&Shape::nic());
    let express = bench.capability(0x10);
    assert_eq!(bench.read16(express + 2), 0x92);
    assert_eq!(bench.read32(express + 0xc), 0);
    let policy = Policy { below_root_port: true, ..Policy::default() };
    let bench = Bench::with(&Shape::nic(), Options { policy, ..options() });
    assert_eq!(bench.read16(express + 2), 0x02);
    assert_eq!(bench.read32(express + 0xc), 0x11);
}

#[test]
fn device_control_passes_ordering_and_read_size_only() {
    let bench = Bench::new(&Shape::nic());
    let control = bench.capability(0x10) + 8;
    bench.write16(control, 0x5fef);
    assert_eq!(bench.read16(control), 0x59ef);
    let at = control as usize;
    assert_eq!([bench.device.peek(at), bench.device.peek(at + 1)], [0, 0x58]);
}

#[test]
fn function_level_reset_is_a_reset_of_the_device() {
    let bench = Bench::running(&Shape::nic());
    let control = bench.capability(0x10) + 8;
    assert_ne!(bench.read32(control - 4) & 1 << 28, 0);
    bench.write16(control, 0x8000);
    assert_eq!(bench.device.resets(), (1, 0));
    assert_eq!(bench.read16(control) & 0x8000, 0);
    assert_eq!(bench.device.peek(control as usize + 1) & 0x80, 0, "the bit reached the device");
    assert_eq!(bench.read16(COMMAND), 0);
    assert_eq!(bench.device.command() & BUS_MASTER, 0);
    assert_eq!(bench.vmm.placed(), []);
}

#[test]
fn function_level_reset_is_not_offered_without_one() {
    let bench = Bench::new(&Shape { resettable: false, ..Shape::nic() });
    let control = bench.capability(0x10) + 8;
    assert_eq!(bench.read32(control - 4) & 1 << 28, 0);
    bench.write16(control, 0x8000);
    assert_eq!(bench.device.resets(), (0, 0));
}

#[test]
fn vendor_capabilities_are_shown_and_writes_a_policy() {
    // Not the library's length but virtio's: registers in BAR 4 (virtio 1.2, 4.1.4).
    let virtio = capability::vendor(&[1, 4, 0, 0, 0, 0, 0x10, 0, 0, 0x38, 0, 0, 0]);
    let shape = Shape { capabilities: vec![virtio], ..Shape::nic() };
    let bench = Bench::new(&shape);
    let at = bench.capability(9);
    assert_eq!(bench.read32(at + 4), 4);
    bench.write32(at + 8, 0x1234_5678);
    assert_eq!(bench.read32(at + 8), 0x1000);
    let policy = Policy { vendor_writes: true, ..Policy::default() };
    let bench = Bench::with(&shape, Options { policy, ..options() });
    bench.write32(at + 8, 0x1234_5678);
    assert_eq!(bench.read32(at + 8), 0x1234_5678);
}

#[test]
fn vital_product_data_can_be_read_but_not_written() {
    let shape = Shape { capabilities: vec![(3, vec![0; 6])], ..Shape::nic() };
    assert_eq!(Bench::new(&shape).capabilities(), []);
    let policy = Policy { vital_product_data: true, ..Policy::default() };
    let bench = Bench::with(&shape, Options { policy, ..options() });
    // The device is done with a read: its flag is set.
    bench.device.poke(0x43, &[0x80]);
    // The low byte alone must not write the flag back, which would write the EEPROM.
    bench.function.config_write(0x42, &[0x10]);
    assert_eq!([bench.device.peek(0x42), bench.device.peek(0x43)], [0x10, 0]);
    bench.write16(0x42, 0x8020);
    assert_eq!([bench.device.peek(0x42), bench.device.peek(0x43)], [0x20, 0]);
    bench.write32(0x44, u32::MAX);
    assert_eq!(bench.device.peek(0x44), 0);
}

#[test]
fn extended_capabilities_are_those_of_the_list() {
    let mut shape = Shape::nic();
    // ATS, PRI, PASID, SR-IOV, resizable BAR, ARI, ACS, a vendor's own.
    shape.extended =
        [0x0f, 0x13, 0x1b, 0x10, 0x15, 0x0e, 0x0d].map(|id| (id, vec![0xff; 60])).to_vec();
    shape.extended.push((3, vec![1, 2, 3, 4, 5, 6, 7, 8]));
    // 12 bytes long.
    shape.extended.push((0x0b, vec![1, 0, 0xc1, 0, 0xaa, 0xbb, 0xcc, 0xdd]));
    let bench = Bench::new(&shape);
    let shown: Vec<u16> = bench.extended().into_iter().map(|(id, _)| id).collect();
    // An empty one starts the list.
    assert_eq!(shown, [0, 3, 0x0b]);
    assert_eq!(bench.read32(bench.extended()[1].1 + 4), 0x0403_0201);
    assert_eq!(bench.read32(bench.extended()[2].1 + 8), 0xddcc_bbaa);
}

#[test]
fn conventional_device_ends_at_256() {
    let shape = Shape { capabilities: vec![capability::power()], ..Shape::nic() };
    let bench = Bench::new(&shape);
    assert_eq!(bench.read32(0x100), u32::MAX);
    assert_eq!(bench.read32(0xfe), 0xffff_0000);
    bench.write32(0xfe, u32::MAX);
}

#[test]
fn any_width_and_place_is_read() {
    let bench = Bench::new(&Shape::nic());
    let mut all = vec![0; 4096];
    bench.function.config_read(0, &mut all);
    for width in 1..9 {
        for offset in 0..512 {
            let mut data = vec![0; width];
            bench.function.config_read(offset as u64, &mut data);
            assert_eq!(data, all[offset..offset + width], "{width} bytes at {offset:#x}");
        }
    }
    let mut data = [0; 8];
    bench.function.config_read(u64::MAX - 3, &mut data);
    assert_eq!(data, [0xff; 8]);
    bench.function.config_write(u64::MAX - 3, &data);
    bench.function.config_read(4092, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn list_in_a_circle_ends() {
    let bench_of = |next: u8| {
        let device = FakeFunction::new(&Shape::nic()).unwrap();
        device.poke(0x49, &[next]);
        let vmm = vmm_plugin::vmm::fake::FakeVmm::new();
        let device = std::sync::Arc::new(device);
        Function::attach(device.clone(), vmm.seam(), options()).map(|function| Bench {
            device,
            vmm,
            function,
        })
    };
    // To itself, to the first, into the header, past everything, unaligned.
    for (next, shown) in [(0x48, 2), (0x40, 2), (0x04, 2), (0xff, 2), (0x4b, 2), (0, 2)] {
        let bench = bench_of(next).unwrap();
        assert_eq!(bench.capabilities().len(), shown, "{next:#x}");
    }
}

#[test]
fn device_that_vanishes_reads_as_ones_and_is_reported_once() {
    let bench = Bench::running(&Shape::nic());
    assert_eq!(bench.function.take_reports(), []);
    bench.device.vanish();
    assert_eq!(bench.read32(0), u32::MAX);
    assert_eq!(bench.function.reports_ready().read().unwrap(), 1);
    assert_eq!(bench.read16(COMMAND), u16::MAX);
    bench.write16(COMMAND, 0);
    assert_eq!(bench.function.take_reports(), [Report::Gone]);
    bench.function.detach();
    bench.assert_nothing_left();
}

#[test]
fn bridge_and_absent_device_are_refused() {
    let device = std::sync::Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let vmm = vmm_plugin::vmm::fake::FakeVmm::new();
    device.poke(0x0e, &[0x81]);
    let error = Function::attach(device.clone(), vmm.seam(), options()).unwrap_err();
    assert!(error.to_string().contains("endpoint"), "{error}");
    device.vanish();
    let error = Function::attach(device, vmm.seam(), options()).unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
}
