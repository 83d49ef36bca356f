//! Opens a NIC that is bound to vfio-pci, and tries everything that a VMM does with it but run a
//! guest: `open_nic check|limited|reset-bus|wait|hand GROUP BDF`.
//!
//! `check` prints a line for each thing that worked, and ends with the first that did not;
//! `reset-bus` resets a NIC with its bus; `limited` maps more memory than it may lock; `wait` holds the NIC until the host wants it;
//! `hand` gives it, opened, to a process without any rights (itself, as `take`).

use std::error::Error;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use event_manager::{EventManager, SubscriberOps};
use kvm_ioctls::Kvm;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR1_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_plugin::dma::{DmaError, GuestDma};
use vmm_plugin::opened::{Opened, OpenedGroup};
use vmm_plugin::vfio::{AddressSpace, Area, Container, Device, Group, OpenDevice, VfioError};
use vmm_plugin::vmm::event_manager::{News, NewsOf};
use vmm_plugin::vmm::kvm::{KvmInterrupts, KvmSlots, KvmVfioFiles, pc_pins};
use vmm_plugin::vmm::{Interrupts, Message, Slots, VfioFiles};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;
const BAR0: u32 = VFIO_PCI_BAR0_REGION_INDEX;
const BAR1: u32 = VFIO_PCI_BAR1_REGION_INDEX;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [action, group, nic] => act(action, group, nic),
        _ => Err("open_nic check|limited|reset-bus|wait|hand GROUP BDF".into()),
    };
    if let Err(error) = outcome {
        println!("failed: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn act(action: &str, group: &str, nic: &str) -> Outcome {
    let group = group.parse()?;
    match action {
        "check" => {
            let before = held()?;
            for _ in 0..3 {
                check(group, nic)?;
                let after = held()?;
                expect(before == after, &format!("{after:?} is held, and was {before:?}"))?;
            }
            println!("given-back {before:?} three times");
            Ok(())
        }
        "limited" => limited(group, nic),
        "wait" => wait(group, nic),
        "reset-bus" => reset_bus(group, nic),
        "hand" => hand(group, nic),
        "take" => take(),
        other => Err(format!("no such action: {other}").into()),
    }
}

fn expect(holds: bool, otherwise: &str) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// Open descriptors, and KiB locked.
fn held() -> Outcome<(usize, String)> {
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    Ok((files, locked.unwrap_or_default().trim().to_owned()))
}

fn check(number: u32, nic: &str) -> Outcome {
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
    guest(&vm, &device)?;
    Ok(())
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
        std::thread::sleep(std::time::Duration::from_millis(10));
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

/// Resets a NIC that is alone on its bus, with the bus.
fn reset_bus(number: u32, nic: &str) -> Outcome {
    let container = Arc::new(Container::open()?);
    let group = container.attach(Group::open(number)?, None)?;
    let device = group.device(nic)?;
    let peers = device.reset_set()?;
    let groups: Vec<i64> = peers.iter().map(|peer| peer.group).collect();
    expect(groups == [i64::from(number)], &format!("{peers:x?} are reset"))?;
    let nothing = device.reset_bus(&[]).err().ok_or("a bus was reset without its groups")?;
    println!("alone {nothing}");
    // The interrupt mask of an RTL8139, through its BAR 1 that is too small to be mapped.
    let mut mask = [1, 0];
    device.write(CONFIG, 4, &[2, 0])?;
    device.write(BAR1, 0x3c, &mask)?;
    device.read(BAR1, 0x3c, &mut mask)?;
    expect(mask == [1, 0], &format!("the mask is {mask:x?}"))?;
    device.reset_bus(&[group.as_fd()])?;
    device.write(CONFIG, 4, &[2, 0])?;
    device.read(BAR1, 0x3c, &mut mask)?;
    expect(mask == [0; 2], &format!("the mask is {mask:x?} after a reset"))?;
    println!("bus-reset of {peers:x?}");
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

fn guest(vm: &Arc<kvm_ioctls::VmFd>, device: &OpenDevice) -> Outcome {
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
    let trigger = EventFd::new(EFD_NONBLOCK)?;
    let mut route = routes.message(&trigger)?;
    let message = Some(Message { address: 0xfee0_0000, data: 0x4031 });
    for _ in 0..2 {
        trigger.write(1)?;
        expect(trigger.read()? == 1, "a masked vector is not pending")?;
        route.set(message)?;
        trigger.write(1)?;
        expect(trigger.read().is_err(), "KVM does not take an unmasked vector")?;
        route.set(None)?;
    }
    let resample = EventFd::new(EFD_NONBLOCK)?;
    let line = routes.level(10, &trigger, &resample)?;
    expect(routes.level(24, &trigger, &resample).is_err(), "a line on a message's GSI")?;
    drop((route, line));
    println!("routes are pending, delivered and free again: {routes:?}");
    Ok(())
}

/// A process with the usual limit, and without the right to ignore it.
fn limited(number: u32, nic: &str) -> Outcome {
    let mut sets = capabilities(None)?;
    sets.effective.remove(CapabilitySet::IPC_LOCK);
    set_capabilities(None, sets)?;
    let limit = Some(8 << 20);
    setrlimit(Resource::Memlock, Rlimit { current: limit, maximum: limit })?;
    let container = Arc::new(Container::open()?);
    let group = container.attach(Group::open(number)?, None)?;
    let _device = group.device(nic)?;
    let ranges = [(GuestAddress(0), 16 << 20)];
    let memory = Arc::new(GuestMemoryMmap::<()>::from_ranges(&ranges)?);
    let error = GuestDma::new(container.clone(), &memory).err().ok_or("locked too much")?;
    expect(matches!(error, DmaError::Memlock { .. }), &error.to_string())?;
    println!("memlock {error}");
    let whole = vmm_plugin::mapping::Mapping::anonymous(16 << 20)?;
    let kernel = container.map(0, &whole, vmm_plugin::vfio::Access::ReadOnly).err();
    println!("kernel {}", kernel.ok_or("the kernel locks more than the limit")?);
    let part = vmm_plugin::mapping::Mapping::anonymous(4 << 20)?;
    container.map(0, &part, vmm_plugin::vfio::Access::ReadOnly)?;
    println!("read-only mapped");
    Ok(())
}

/// Holds the NIC until the host unbinds it.
fn wait(number: u32, nic: &str) -> Outcome {
    let container = Arc::new(Container::open()?);
    let group = container.attach(Group::open(number)?, None)?;
    let device: Arc<dyn Device> = Arc::new(group.device(nic)?);
    let (tell, told) = std::sync::mpsc::channel();
    let mut events = EventManager::new()?;
    events.add_subscriber(NewsOf::new(device, move |news: News| {
        let _ = tell.send(news);
    })?);
    println!("waiting");
    loop {
        events.run_with_timeout(1000)?;
        if let Ok(news) = told.try_recv() {
            println!("news {news:?}");
            return Ok(());
        }
    }
}

/// Opens the NIC, and passes it to a child that may open nothing.
fn hand(number: u32, nic: &str) -> Outcome {
    let container = Arc::new(Container::open()?);
    let group = container.attach(Group::open(number)?, None)?;
    let devices = vec![group.device(nic)?];
    let groups = vec![OpenedGroup { group, devices }];
    let (ours, childs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut child = Command::new("/proc/self/exe")
        .args(["take", "0", "-"])
        .uid(65534)
        .gid(65534)
        .stdin(childs)
        .spawn()?;
    let opened = Opened { container, groups };
    opened.send(&ours)?;
    drop((opened, ours));
    let status = child.wait()?;
    expect(status.success(), &format!("the child ended with {status}"))?;
    // All that it had was ours: now the group can be opened again.
    Group::open(number)?;
    println!("handed over and closed");
    Ok(())
}

/// What [`hand`] passes, on standard input.
fn take() -> Outcome {
    let opened = Opened::receive(std::io::stdin(), None)?;
    let device = opened.groups[0].devices.first().ok_or("no device came")?;
    let mut vendor = [0; 4];
    device.read(CONFIG, 0, &mut vendor)?;
    expect(Group::open(opened.groups[0].group.number()).is_err(), "it may open groups")?;
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 4 << 20)])?;
    let dma = GuestDma::new(opened.container.clone(), &Arc::new(memory))?;
    let user = rustix::process::getuid().as_raw();
    println!("taken {vendor:x?} by user {user}, who has {} bytes mapped", dma.size());
    Ok(())
}
