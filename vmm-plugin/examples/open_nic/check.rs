//! What a VMM does with a NIC before its guest runs: registers, interrupts, memory, KVM.

use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;
use vfio_bindings::bindings::vfio::{VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX};
use vfio_ioctls::{VfioContainer, VfioDevice};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_plugin::dma::GuestDma;
use vmm_plugin::vfio::{AddressSpace, Area, Container, Device, Group, OpenDevice, VfioError};
use vmm_plugin::vmm::VfioFiles;
use vmm_plugin::vmm::kvm::KvmVfioFiles;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{BAR0, CONFIG, Outcome, expect, held};

/// All of it, and everything closed again.
pub fn check(number: u32, nic: &str) -> Outcome {
    let vm = Arc::new(Kvm::new()?.create_vm()?);
    vm.create_irq_chip()?;
    let files: Arc<dyn VfioFiles> = Arc::new(KvmVfioFiles::new(&vm)?);
    let container = Arc::new(Container::open()?);
    expect(container.limits().is_err(), "a container without groups has limits")?;
    let group = container.attach(Group::open(number)?, Some(files))?;
    let busy = Group::open(number).err().ok_or("a group was opened twice")?;
    expect(matches!(busy, VfioError::Open { .. }), &busy.to_string())?;
    println!("second-open {busy}");
    let foreign = group.device("0000:00:1f.0").err().ok_or("opened another group's device")?;
    println!("foreign {foreign}");
    let limits = container.limits()?;
    println!("limits {limits:x?}");

    let device = Arc::new(group.device(nic)?);
    registers(&device)?;
    interrupts(&device)?;
    resets(&device)?;
    dma(&container)?;
    expect(container.limits()? == limits, "mappings are left")?;
    #[cfg(target_arch = "x86_64")]
    super::guest::guest(&vm, &device)?;
    Ok(())
}

/// The same with a NIC that the crate vfio-ioctls has opened, and everything closed again.
pub fn adopt(nic: &str) -> Outcome {
    let theirs = VfioContainer::new(None)?;
    let sysfs = Path::new("/sys/bus/pci/devices").join(nic);
    let theirs = Arc::new(VfioDevice::new(&sysfs, Arc::new(theirs), false)?);
    // From here on it is kept by ours alone, and its group in its container with it.
    let ours = OpenDevice::of_vfio_device(theirs, nic)?;
    registers(&ours)?;
    interrupts(&ours)?;
    resets(&ours)
}

fn registers(device: &OpenDevice) -> Outcome {
    let info = device.info();
    let mut vendor = [0; 4];
    device.read(CONFIG, 0, &mut vendor)?;
    expect(vendor != [0xff; 4], "the device does not answer")?;
    let bar0 = device.region(BAR0)?;
    println!("device {vendor:x?} {info:?}; BAR 0 {bar0:x?}");
    let config = device.region(CONFIG)?;
    let mut beyond = [0; 4];
    let error = device.read(CONFIG, config.size - 2, &mut beyond);
    expect(matches!(error, Err(VfioError::OutOfBounds { .. })), "read beyond the end")?;
    expect(beyond == [0xff; 4], "what is not there does not read as ones")?;
    expect(device.map(CONFIG, Area { offset: 0, size: 4096 }).is_err(), "mapped the header")?;

    let mut register = [0; 4];
    device.write(CONFIG, 4, &[0, 0])?;
    let off = device.read(BAR0, 8, &mut register).err().ok_or("read with decoding off")?;
    expect(matches!(off, VfioError::Refused { .. }), &off.to_string())?;
    println!("decoding-off {off}");
    device.write(CONFIG, 4, &[2, 0])?;
    let whole = *bar0.mappable.first().ok_or("BAR 0 cannot be mapped")?;
    let mapping = device.map(BAR0, whole)?;
    // STATUS of an e1000e.
    device.read(BAR0, 8, &mut register)?;
    let mut mapped = [0; 4];
    mapping.read(8, &mut mapped)?;
    expect(register == mapped, &format!("{register:x?} is {mapped:x?} in the mapping"))?;
    println!("mapped {mapping:?}: STATUS {mapped:x?}");
    Ok(())
}

fn interrupts(device: &OpenDevice) -> Outcome {
    let msix = device.interrupt(VFIO_PCI_MSIX_IRQ_INDEX)?;
    let [first, second] = [EventFd::new(EFD_NONBLOCK)?, EventFd::new(EFD_NONBLOCK)?];
    let third = EventFd::new(EFD_NONBLOCK)?;
    // One vector is left out, then only it is set.
    device.set_triggers(VFIO_PCI_MSIX_IRQ_INDEX, 0, &[Some(&first), None, Some(&second)])?;
    device.set_triggers(VFIO_PCI_MSIX_IRQ_INDEX, 1, &[Some(&third)])?;
    device.set_triggers(VFIO_PCI_MSIX_IRQ_INDEX, 0, &[None])?;
    let many = vec![Some(&first); 4096];
    let error = device.set_triggers(VFIO_PCI_MSIX_IRQ_INDEX, 0, &many);
    expect(matches!(error, Err(VfioError::OutOfBounds { .. })), "4096 vectors were set")?;
    device.disable(VFIO_PCI_MSIX_IRQ_INDEX)?;
    let line = device.interrupt(VFIO_PCI_INTX_IRQ_INDEX)?;
    expect(line.automasked, "INTx is not level triggered")?;
    device.set_triggers(VFIO_PCI_INTX_IRQ_INDEX, 0, &[Some(&first)])?;
    device.set_resample(VFIO_PCI_INTX_IRQ_INDEX, 0, Some(&second))?;
    device.set_mask(VFIO_PCI_INTX_IRQ_INDEX, 0, true)?;
    device.set_mask(VFIO_PCI_INTX_IRQ_INDEX, 0, false)?;
    // An e1000e raises what is written to ICS and allowed by IMS: the line is masked once, and
    // again after it was resampled.
    device.write(BAR0, 0xd0, &4_u32.to_le_bytes())?;
    device.write(BAR0, 0xc8, &4_u32.to_le_bytes())?;
    expect(signalled(&first), "INTx did not come")?;
    expect(!signalled(&first), "INTx came twice, masked")?;
    second.write(1)?;
    expect(signalled(&first), "INTx did not come again after it was resampled")?;
    device.write(BAR0, 0xd8, &u32::MAX.to_le_bytes())?;
    device.set_resample(VFIO_PCI_INTX_IRQ_INDEX, 0, None)?;
    device.disable(VFIO_PCI_INTX_IRQ_INDEX)?;
    println!("interrupts {msix:?} {line:?}");
    Ok(())
}

/// It is, within a second.
fn signalled(eventfd: &EventFd) -> bool {
    for _ in 0..100 {
        if eventfd.read().is_ok() {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    false
}

fn resets(device: &OpenDevice) -> Outcome {
    // Not more is asked of it: QEMU's e1000e keeps its registers when it only changes its power
    // state. The other NIC shows that a reset resets.
    device.reset()?;
    println!("reset alone");
    Ok(())
}

fn dma(container: &Arc<Container>) -> Outcome {
    let size = 512 << 20;
    let memory = Arc::new(GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), size)])?);
    let (_, before) = held()?;
    let start = Instant::now();
    let dma = GuestDma::new(container.clone(), &memory)?;
    let mapping = start.elapsed();
    let (_, locked) = held()?;
    expect(locked == "524288 kB", &format!("{locked} is locked"))?;
    let start = Instant::now();
    drop(dma);
    let unmapping = start.elapsed();
    let (_, after) = held()?;
    expect(before == after, &format!("{after} stays locked"))?;
    println!("dma 512 MiB mapped in {mapping:?}, unmapped in {unmapping:?}");

    let window = [(GuestAddress(0xfee0_0000), 4096)];
    let window = Arc::new(GuestMemoryMmap::<()>::from_ranges(&window)?);
    let error = GuestDma::new(container.clone(), &window).err().ok_or("mapped the MSI window")?;
    println!("window {error}");
    Ok(())
}
