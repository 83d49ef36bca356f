//! INTx, MSI and MSI-X: nothing lost, nothing delivered while masked.

use vmm_plugin::vfio::fake::{Fired, Shape, capability};
use vmm_plugin::vmm::Message;

use crate::bench::{BAR3, Bench, COMMAND, LINE};

const PENDING: u32 = BAR3 + 0x2000;

fn message(data: u32) -> Message {
    Message { address: 0xfee0_0000, data }
}

fn set_entry(bench: &Bench, n: u32, data: u32, masked: bool) {
    let entry = BAR3 + 16 * n;
    bench.set_memory32(entry, 0xfee0_0000);
    bench.set_memory32(entry + 4, 0);
    bench.set_memory32(entry + 8, data);
    bench.set_memory32(entry + 12, masked.into());
}

fn msix(bench: &Bench, control: u16) {
    bench.write16(bench.capability(0x11) + 2, control);
}

fn shapes() -> [Shape; 3] {
    let scarce = Shape { available_vectors: 3, ..Shape::nic() };
    [Shape::nic(), Shape { msix_grows: true, ..Shape::nic() }, scarce]
}

#[test]
fn msix_vectors_deliver_their_messages() {
    for shape in shapes() {
        let bench = Bench::running(&shape);
        msix(&bench, 0xc000);
        set_entry(&bench, 0, 0x40, false);
        set_entry(&bench, 2, 0x42, false);
        msix(&bench, 0x8000);
        // Where vectors are scarce, growing signals what it may have lost.
        if shape.available_vectors > 5 {
            assert_eq!(bench.vmm.take_delivered(), []);
        }
        let _ = bench.vmm.take_delivered();
        assert_eq!(bench.device.fire_msix(2), Fired::Signalled);
        assert_eq!(bench.device.fire_msix(0), Fired::Signalled);
        let mut delivered = bench.vmm.take_delivered();
        delivered.sort_by_key(|message| message.data);
        assert_eq!(delivered, [message(0x40), message(0x42)]);
        assert_eq!(bench.function.take_reports(), []);
    }
}

#[test]
fn masked_vector_stays_pending_and_comes_when_unmasked() {
    for shape in shapes() {
        let bench = Bench::running(&shape);
        set_entry(&bench, 1, 0x41, false);
        msix(&bench, 0x8000);
        set_entry(&bench, 1, 0x51, true);
        let _ = bench.vmm.take_delivered();
        bench.device.fire_msix(1);
        assert_eq!(bench.vmm.take_delivered(), []);
        assert_eq!(bench.memory32(PENDING), 0b10);
        // Looking does not take it away.
        assert_eq!(bench.memory32(PENDING), 0b10);
        bench.set_memory32(BAR3 + 16 + 12, 0);
        assert_eq!(bench.vmm.take_delivered(), [message(0x51)]);
        assert_eq!(bench.memory32(PENDING), 0);
    }
}

#[test]
fn vector_that_was_never_unmasked_is_pending_in_the_device() {
    let bench = Bench::running(&Shape::nic());
    msix(&bench, 0x8000);
    set_entry(&bench, 3, 0x43, true);
    assert_eq!(bench.device.fire_msix(3), Fired::Pending);
    assert_eq!(bench.memory32(PENDING), 0b1000);
    bench.set_memory32(BAR3 + 48 + 12, 0);
    assert_eq!(bench.vmm.take_delivered(), [message(0x43)]);
    assert_eq!(bench.memory32(PENDING), 0);
}

#[test]
fn function_mask_masks_all() {
    let bench = Bench::running(&Shape::nic());
    set_entry(&bench, 0, 0x40, false);
    set_entry(&bench, 1, 0x41, false);
    msix(&bench, 0x8000);
    msix(&bench, 0xc000);
    bench.device.fire_msix(0);
    bench.device.fire_msix(1);
    assert_eq!(bench.vmm.take_delivered(), []);
    assert_eq!(bench.memory32(PENDING), 0b11);
    msix(&bench, 0x8000);
    assert_eq!(bench.vmm.take_delivered().len(), 2);
}

#[test]
fn kernel_with_too_few_vectors_gives_what_it_has() {
    let bench = Bench::running(&Shape { available_vectors: 2, ..Shape::nic() });
    msix(&bench, 0x8000);
    for n in 0..5 {
        set_entry(&bench, n, 0x40 + n, false);
    }
    let _ = bench.vmm.take_delivered();
    assert_eq!(bench.device.fire_msix(0), Fired::Signalled);
    assert_eq!(bench.device.fire_msix(1), Fired::Signalled);
    assert_eq!(bench.vmm.take_delivered().len(), 2);
    assert!(!bench.function.take_reports().is_empty());
}

#[test]
fn growing_signals_what_may_have_been_lost() {
    // One vector first: all five are not to be had at once, and none can be added later.
    let bench = Bench::running(&Shape { available_vectors: 4, ..Shape::nic() });
    msix(&bench, 0x8000);
    set_entry(&bench, 0, 0x40, false);
    assert_eq!(bench.vmm.take_delivered(), []);
    set_entry(&bench, 1, 0x41, false);
    let delivered = bench.vmm.take_delivered();
    assert!(delivered.contains(&message(0x40)), "{delivered:?}");
    assert_eq!(bench.device.msix_given(), 2);
    assert_eq!(bench.device.fire_msix(0), Fired::Signalled);
    assert_eq!(bench.device.fire_msix(1), Fired::Signalled);
    assert_eq!(bench.vmm.take_delivered().len(), 2);
}

#[test]
fn device_has_msix_enabled_with_the_guest() {
    let bench = Bench::running(&Shape { msix_grows: true, ..Shape::nic() });
    assert_eq!(bench.device.msix_given(), 0);
    msix(&bench, 0xc000);
    assert_eq!(bench.device.msix_given(), 1);
    msix(&bench, 0);
    assert_eq!(bench.device.msix_given(), 0);
}

#[test]
fn table_is_read_back_and_reserved_bits_are_not() {
    let bench = Bench::running(&Shape::nic());
    for at in (0..16).step_by(4) {
        bench.set_memory32(BAR3 + 16 + at, u32::MAX);
    }
    assert_eq!(bench.memory32(BAR3 + 16 + 4), u32::MAX);
    assert_eq!(bench.memory32(BAR3 + 16 + 12), 1);
    // The pending bits are not written.
    bench.set_memory32(PENDING, u32::MAX);
    assert_eq!(bench.memory32(PENDING), 0);
    // Behind the table, and before the pending bits, are the device's registers.
    bench.set_memory32(BAR3 + 0x50, 0xabcd);
    assert_eq!(bench.memory32(BAR3 + 0x50), 0xabcd);
}

#[test]
fn access_over_the_end_of_the_table_is_split() {
    let bench = Bench::running(&Shape::nic());
    let (at, data) = (u64::from(BAR3) + 0x4c, [1, 0, 0, 0, 0x11, 0x22, 0x33, 0x44]);
    bench.vmm.write(vmm_plugin::vmm::Space::Mmio, at, &data);
    assert_eq!(bench.memory32(BAR3 + 0x4c), 1);
    assert_eq!(bench.memory32(BAR3 + 0x50), 0x4433_2211);
}

#[test]
fn hostile_msix_capability_is_hidden() {
    for (count, table, pending) in [
        (5, (3, 0x3fc0), (3, 0)),      // table over the end of its BAR
        (2048, (3, 0), (3, 0x2000)),   // longer than its BAR
        (5, (6, 0), (3, 0x2000)),      // no such BAR
        (5, (1, 0), (3, 0x2000)),      // a BAR that is not there
        (5, (3, 0), (3, 0x48)),        // one over the other
        (5, (3, 0), (7, 0xffff_fff8)), // at the end of everything
    ] {
        let mut shape = Shape::nic();
        shape.capabilities = vec![capability::msix(count, table, pending)];
        let bench = Bench::running(&shape);
        assert_eq!(bench.capabilities(), [], "{count} {table:?} {pending:?}");
    }
}

#[test]
fn line_is_raised_acknowledged_and_raised_again() {
    let bench = Bench::running(&Shape::nic());
    assert_eq!(bench.vmm.routes(), (0, 1));
    bench.device.assert_intx(true);
    assert!(bench.vmm.raised(LINE));
    bench.vmm.acknowledge(LINE);
    assert!(!bench.vmm.raised(LINE));
    bench.device.settle();
    assert!(bench.vmm.raised(LINE), "still asserted, so it comes again");
    bench.device.assert_intx(false);
    bench.vmm.acknowledge(LINE);
    bench.device.settle();
    assert!(!bench.vmm.raised(LINE));
}

#[test]
fn line_disabled_by_command_is_quiet() {
    let bench = Bench::running(&Shape::nic());
    bench.write16(COMMAND, 0x407);
    bench.device.assert_intx(true);
    assert!(!bench.vmm.raised(LINE));
    bench.write16(COMMAND, 7);
    assert!(bench.vmm.raised(LINE));
}

#[test]
fn line_that_nobody_heard_comes_again_with_the_driver() {
    let bench = Bench::running(&Shape::nic());
    bench.vmm.set_deaf(true);
    bench.device.assert_intx(true);
    bench.vmm.set_deaf(false);
    assert!(!bench.vmm.raised(LINE));
    // What a driver does when it is loaded.
    bench.write16(COMMAND, 7);
    assert!(bench.vmm.raised(LINE));
}

#[test]
fn kinds_replace_one_another() {
    let bench = Bench::running(&Shape::nic());
    let msi = bench.capability(5);
    assert_eq!(bench.vmm.routes(), (0, 1));
    bench.write32(msi + 4, 0xfee0_0000);
    bench.write16(msi + 12, 0x30);
    bench.write16(msi + 2, 1);
    assert_eq!(bench.vmm.routes(), (1, 0));
    assert_eq!(bench.device.fire_msi(0), Fired::Signalled);
    assert_eq!(bench.vmm.take_delivered(), [message(0x30)]);
    set_entry(&bench, 0, 0x40, false);
    msix(&bench, 0x8000);
    assert_eq!(bench.device.fire_msi(0), Fired::Lost);
    assert_eq!(bench.device.fire_msix(0), Fired::Signalled);
    assert_eq!(bench.vmm.take_delivered(), [message(0x40)]);
    msix(&bench, 0);
    assert_eq!(bench.device.fire_msi(0), Fired::Signalled);
    bench.write16(msi + 2, 0);
    assert_eq!(bench.vmm.routes(), (0, 1));
    assert_eq!(bench.function.take_reports(), []);
}

#[test]
fn msi_messages_differ_in_their_low_bits() {
    let mut shape = Shape::nic();
    shape.capabilities[1] = capability::msi(3, true);
    let bench = Bench::running(&shape);
    let msi = bench.capability(5);
    assert_eq!(bench.read16(msi + 2), 0x0186);
    bench.write32(msi + 4, 0xfee0_0000);
    bench.write16(msi + 12, 0x37);
    // Four of eight, one masked.
    bench.write32(msi + 16, 0b100);
    bench.write16(msi + 2, 0x0021);
    for n in 0..4 {
        assert_eq!(bench.device.fire_msi(n), Fired::Signalled);
    }
    assert_eq!(bench.device.fire_msi(4), Fired::Lost);
    let delivered = bench.vmm.take_delivered();
    assert_eq!(delivered, [0x34, 0x35, 0x37].map(message));
    assert_eq!(bench.read32(msi + 20), 0b100);
    bench.write32(msi + 16, 0);
    assert_eq!(bench.vmm.take_delivered(), [message(0x36)]);
    assert_eq!(bench.read32(msi + 20), 0);
    // Other messages while enabled: all are set up anew.
    bench.write16(msi + 2, 0x0001);
    assert_eq!(bench.vmm.routes().0, 1);
    assert_eq!(bench.function.take_reports(), []);
}
