//! A NIC's registers and interrupts in a guest of a PC that does not run.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use kvm_ioctls::VmFd;
use vmm_plugin::vfio::{Device, OpenDevice};
use vmm_plugin::vmm::kvm::{KvmInterrupts, KvmSlots, pc_pins};
use vmm_plugin::vmm::{Interrupts, Message, Slots};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{BAR0, CONFIG, Outcome, expect};

/// All of it, and taken back again.
pub fn guest(vm: &Arc<VmFd>, device: &OpenDevice) -> Outcome {
    device.write(CONFIG, 4, &[2, 0])?;
    let slots = KvmSlots::new(Arc::clone(vm), 8..9);
    let whole = device.region(BAR0)?.mappable.first().copied().ok_or("not mappable")?;
    let mapping = device.map(BAR0, whole)?;
    let slot = slots.map(0xe000_0000, Arc::clone(&mapping), true)?;
    let full = slots.map(0xe100_0000, mapping, true).err().ok_or("a ninth slot")?;
    println!("slots {full}");
    slots.unmap(slot)?;
    expect(slots.unmap(slot).is_err(), "a slot was unmapped twice")?;

    let routes = KvmInterrupts::new(Arc::clone(vm), 24..26, pc_pins());
    let vcpu = vm.create_vcpu(0)?;
    let mut apic = vcpu.get_lapic()?;
    // Spurious interrupt vector register: the APIC is on.
    apic.regs[0xf0..0xf4].copy_from_slice(&[0xff, 1, 0, 0].map(u8::cast_signed));
    vcpu.set_lapic(&apic)?;
    // Whether vector 0x31 waits in the interrupt request register, which is then cleared.
    let requested = || -> Outcome<bool> {
        for _ in 0..100 {
            let mut apic = vcpu.get_lapic()?;
            if apic.regs[0x210] != 0 || apic.regs[0x212] != 0 {
                let taken = apic.regs[0x212] == 2;
                apic.regs[0x200..0x280].fill(0);
                vcpu.set_lapic(&apic)?;
                return Ok(taken);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(false)
    };
    let trigger = EventFd::new(EFD_NONBLOCK)?;
    let mut route = routes.message(&trigger)?;
    let message = Some(Message { address: 0xfee0_0000, data: 0x4031 });
    for _ in 0..2 {
        trigger.write(1)?;
        expect(!requested()?, "a masked vector was delivered")?;
        route.set(message)?;
        expect(requested()?, "what was pending is not delivered when unmasked")?;
        trigger.write(1)?;
        expect(requested()?, "an unmasked vector is not delivered")?;
        route.set(None)?;
        trigger.write(1)?;
        expect(trigger.read()? == 1, "a masked vector is not pending")?;
    }
    let resample = EventFd::new(EFD_NONBLOCK)?;
    let line = routes.level(10, &trigger, &resample)?;
    expect(routes.level(24, &trigger, &resample).is_err(), "a line on a message's GSI")?;
    drop((route, line));
    println!("routes are pending, delivered and free again: {routes:?}");
    Ok(())
}
