//! A bus of functions that come and go.

use std::sync::Arc;

use vmm_plugin::pci::{Function, HostBridge, Options};
use vmm_plugin::vfio::fake::{FakeFunction, Shape};
use vmm_plugin::vmm::Trap as _;
use vmm_plugin::vmm::fake::FakeVmm;

const ENABLE: u32 = 1 << 31;

fn function() -> Arc<Function> {
    let device = Arc::new(FakeFunction::new(&Shape::nic()).unwrap());
    let function = Function::attach(device, FakeVmm::new().seam(), Options::default());
    Arc::new(function.unwrap())
}

/// What a guest reads at `register` of `device`, after it wrote the address register.
fn read(bridge: &HostBridge, device: u32, register: u32, offset: u64) -> [u8; 2] {
    let address = ENABLE | device << 11 | register;
    bridge.write(0, &address.to_le_bytes());
    let mut data = [0; 2];
    bridge.read(4 + offset, &mut data);
    data
}

#[test]
fn functions_come_and_go() {
    let bridge = HostBridge::new();
    assert_eq!(bridge.free(), Some(1));
    let (first, second) = (function(), function());
    assert!(bridge.insert(1, first.clone()));
    assert!(!bridge.insert(1, second.clone()));
    assert!(!bridge.insert(0, second.clone()));
    assert!(!bridge.insert(32, second.clone()));
    assert!(bridge.insert(31, second));
    assert_eq!(read(&bridge, 1, 0, 0), [0x86, 0x80]);
    assert_eq!(read(&bridge, 1, 0, 2), [0xd3, 0x10]);
    assert_eq!(read(&bridge, 31, 0, 0), [0x86, 0x80]);
    assert_eq!(read(&bridge, 2, 0, 0), [0xff; 2]);
    bridge.remove(&first);
    assert_eq!(read(&bridge, 1, 0, 0), [0xff; 2]);
    assert_eq!((bridge.free(), Arc::strong_count(&first)), (Some(1), 1));
}

#[test]
fn host_bridge_is_device_0_and_cannot_be_written() {
    let bridge = HostBridge::new();
    assert_eq!(read(&bridge, 0, 0, 0), [0x36, 0x1b]);
    bridge.write(4, &[1, 2, 3, 4]);
    assert_eq!(read(&bridge, 0, 0, 0), [0x36, 0x1b]);
    assert_eq!(read(&bridge, 0, 8, 2), [0, 6]);
    assert_eq!(read(&bridge, 0, 0xfc, 2), [0; 2]);
}

#[test]
fn nothing_answers_at_other_buses_functions_or_while_it_is_off() {
    let bridge = HostBridge::new();
    bridge.insert(1, function());
    for address in [1 << 11, ENABLE | 1 << 16 | 1 << 11, ENABLE | 1 << 11 | 1 << 8] {
        bridge.write(0, &u32::to_le_bytes(address));
        let mut data = [0; 4];
        bridge.read(4, &mut data);
        assert_eq!(data, [0xff; 4], "{address:#x}");
    }
    // Accesses that no processor makes are taken all the same.
    for offset in 0..20 {
        for width in 0..9 {
            bridge.write(offset, &vec![0xff; width]);
            bridge.read(offset, &mut vec![0; width]);
        }
    }
}
