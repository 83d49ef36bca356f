//! All of it from several threads at once, as vCPUs do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_plugin::vfio::fake::Shape;

use crate::bench::{BAR0, BAR3, Bench, COMMAND};

#[test]
fn vcpus_do_not_wait_for_one_another_for_ever() {
    let bench = Bench::running(&Shape { msix_grows: true, ..Shape::nic() });
    let control = bench.capability(0x11) + 2;
    let done = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_millis(300);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bench.write32(0x10, 0xe800_0000);
                bench.write16(COMMAND, 0);
                bench.write32(0x10, BAR0);
                bench.write16(COMMAND, 7);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bench.set_memory32(BAR3 + 12, 0);
                bench.set_memory32(BAR3 + 12, 1);
                let _ = bench.memory32(BAR3 + 0x2000);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bench.write16(control, 0x8000);
                bench.device.fire_msix(0);
                bench.write16(control, 0);
                let _ = bench.function.reset();
            }
        });
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        bench.function.detach();
        done.store(true, Ordering::Relaxed);
    });
    bench.assert_nothing_left();
}

#[test]
fn reports_do_not_pile_up() {
    let bench = Bench::running(&Shape::nic());
    for n in 0..1000 {
        bench.write32(0x10, n << 17);
    }
    assert!(bench.function.take_reports().len() <= 32);
    // The last word of a device is never lost in the crowd.
    for n in 0..1000 {
        bench.write32(0x10, n << 17);
    }
    bench.device.vanish();
    assert_eq!(bench.read32(0), u32::MAX);
    assert_eq!(bench.function.take_reports().last(), Some(&vmm_plugin::pci::Report::Gone));
}
