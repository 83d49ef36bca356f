//! Opens a NIC that is bound to vfio-pci, and tries everything that a VMM does with it but run a
//! guest: `open_nic check|adopt|time|limited|reset-bus|wait|hand GROUP BDF`.
//!
//! `check` prints a line for each thing that worked, and ends with the first that did not; `adopt`
//! does part of that with a NIC that the crate vfio-ioctls opened; `time` says how long opening and
//! mapping take; `reset-bus` resets a NIC with its bus; `limited` maps more memory than it may
//! lock; `wait` holds the NIC until the host wants it; `hand` gives it, opened, to a process
//! without any rights (itself, as `take`).

mod check;
#[cfg(target_arch = "x86_64")]
mod guest;
mod time;

use std::error::Error;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use event_manager::{EventManager, SubscriberOps};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR1_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_plugin::dma::{DmaError, GuestDma};
use vmm_plugin::mapping::Mapping;
use vmm_plugin::opened::{Opened, OpenedGroup};
use vmm_plugin::vfio::{Access, AddressSpace, Container, Device, Group};
use vmm_plugin::vmm::event_manager::{News, NewsOf};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;
const BAR0: u32 = VFIO_PCI_BAR0_REGION_INDEX;
const BAR1: u32 = VFIO_PCI_BAR1_REGION_INDEX;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [action, group, nic] => act(action, group, nic),
        _ => Err("open_nic check|adopt|time|limited|reset-bus|wait|hand GROUP BDF".into()),
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
        "check" => three_times(|| check::check(group, nic)),
        "adopt" => three_times(|| check::adopt(nic)),
        "time" => time::time(group, nic),
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

/// Each time as much is held afterwards as before.
fn three_times(check: impl Fn() -> Outcome) -> Outcome {
    let before = held()?;
    for _ in 0..3 {
        check()?;
        let after = held()?;
        expect(before == after, &format!("{after:?} is held, and was {before:?}"))?;
    }
    println!("given-back {before:?} three times");
    Ok(())
}

/// Open descriptors, and KiB locked.
fn held() -> Outcome<(usize, String)> {
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    Ok((files, locked.unwrap_or_default().trim().to_owned()))
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
    let whole = Mapping::anonymous(16 << 20)?;
    let kernel = container.map(0, &whole, Access::ReadOnly).err();
    println!("kernel {}", kernel.ok_or("the kernel locks more than the limit")?);
    let part = Mapping::anonymous(4 << 20)?;
    container.map(0, &part, Access::ReadOnly)?;
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
