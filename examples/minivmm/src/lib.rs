//! A small VMM that links vmm-plugin, to be read from here: how the parts of a machine come
//! together.
#![cfg(target_arch = "x86_64")]

mod acpi;
mod control;
mod cpu;
mod kernel;
mod layout;
mod memory;
mod options;
mod power;
mod serial;
mod vfio;
mod virtio;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use event_manager::{EventManager, MutEventSubscriber, SubscriberOps as _};
use kvm_ioctls::{Kvm, VmFd};
use vmm_plugin::pci::{Function, HostBridge};
use vmm_plugin::vmm::kvm::{KvmInterrupts, KvmSlots, pc_pins};
use vmm_plugin::vmm::vm_device::Buses;
use vmm_plugin::vmm::{Bus as _, GuestRange, Seam, Slots, Space, Trap};

use crate::control::{Control, Request};
use crate::layout::{gsi, memory as address, pci_options, port};
use crate::memory::Memory;
use crate::options::{Action, Options};
use crate::power::{Port, Power};
use crate::serial::Line;
use crate::vfio::Nics;
use crate::virtio::{Card, LinkOptions};

/// The program: what the command line says.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.action {
        None => run(&options),
        Some(Action::Tell { socket, command }) => {
            control::tell(socket, &command.join(" ")).map(|answer| print!("{answer}"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minivmm: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; many libraries say their cause themselves, which is not said again.
fn in_full(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| match cause.to_string() {
        again if said.contains(&again) => said,
        first if said.is_empty() => first,
        more => format!("{said}: {more}"),
    })
}

/// The parts of the machine that something happens to, besides its processors.
type Events = EventManager<Box<dyn MutEventSubscriber>>;

fn run(options: &Options) -> Result<()> {
    let kvm = Kvm::new().context(
        "Cannot open /dev/kvm; load kvm_intel or kvm_amd, and join the group that the device has",
    )?;
    let vm = Arc::new(kvm.create_vm().context("KVM cannot make a machine")?);
    let most_slots = u32::try_from(kvm.get_nr_memslots()).unwrap_or(32);
    let slots: Arc<dyn Slots> = Arc::new(KvmSlots::new(vm.clone(), 0..most_slots));
    let memory = memory::allocate(slots.as_ref(), options.memory)?;
    create_interrupt_controllers(&vm)?;
    let bus = Buses::new();
    let power = Arc::new(Power::new()?);
    let mut events = Events::new().context("Cannot make an event loop")?;
    events.add_subscriber(Box::new(power.clone()));

    place(&bus, port::POWER, 1, Arc::new(Port(power.clone())))?;
    place_serials(&vm, &bus, &mut events, &options.serials)?;
    let seam = Seam {
        bus: Arc::new(bus.clone()),
        slots,
        interrupts: Arc::new(KvmInterrupts::new(vm.clone(), gsi::MESSAGES, pc_pins())),
    };
    let pci = Arc::new(HostBridge::new());
    place(&bus, port::PCI_CONFIG, 8, pci.clone())?;
    let (sender, requests) = channel();
    let mut nics = Nics::new(&vm, memory.clone(), seam.clone(), pci.clone(), sender.clone())?;
    for address in &options.devices {
        nics.attach(*address, &mut events)?;
    }
    for link in &options.links {
        attach_card(&vm, &memory, link, &seam, &pci, &mut events)?;
    }
    if let Some(path) = &options.api_socket {
        events.add_subscriber(Box::new(Control::listen(path, sender)?));
    }

    acpi::write(&memory, options.cpus)?;
    let kernel = options.kernel.as_deref().context("--kernel is missing")?;
    let entry = kernel::load(&memory, kernel, options.initramfs.as_deref(), &options.cmdline)?;
    let cpus = cpu::create(&kvm, &vm, &memory, options.cpus, entry)?;
    cpu::run(cpus, &bus, &power)?;
    wait(&mut events, &power, &requests, &mut nics)
}

/// A virtio card whose other side is a link.
fn attach_card(
    vm: &Arc<VmFd>,
    memory: &Memory,
    options: &LinkOptions,
    seam: &Seam,
    pci: &HostBridge,
    events: &mut Events,
) -> Result<()> {
    let place = pci.free().context("The PCI bus has no place left")?;
    let card = Arc::new(Card::new(options, memory)?);
    let bus = card.doorbells(seam.bus.clone(), vm)?;
    let seam = Seam { bus: Arc::new(bus), ..seam.clone() };
    let function = Function::attach(card.clone(), seam, pci_options(place))?;
    pci.insert(place, Arc::new(function));
    events.add_subscriber(Box::new(card));
    Ok(())
}

fn create_interrupt_controllers(vm: &VmFd) -> Result<()> {
    let map = address::KVM_IDENTITY_MAP;
    vm.set_tss_address(usize::try_from(address::KVM_TSS)?)
        .and_then(|()| vm.set_identity_map_address(map))
        .and_then(|()| vm.create_irq_chip())
        .context("KVM cannot make interrupt controllers")
}

fn place(bus: &Buses, base: u64, size: u64, trap: Arc<dyn Trap>) -> Result<()> {
    Ok(bus.place(GuestRange { space: Space::Pio, base, size }, trap)?)
}

fn place_serials(vm: &VmFd, bus: &Buses, events: &mut Events, lines: &[Line]) -> Result<()> {
    let lines = if lines.is_empty() { &[Line::Stdio] } else { lines };
    let places = port::SERIAL.into_iter().zip(gsi::SERIAL);
    ensure!(lines.len() <= port::SERIAL.len(), "There are two serial ports, not {}", lines.len());
    for ((ports, gsi), line) in places.zip(lines) {
        events.add_subscriber(Box::new(serial::Port::place(vm, bus, ports, gsi, line)?));
    }
    Ok(())
}

/// Waits for the guest's end, and does what is asked for until then. What is left of the machine
/// ends with this process.
fn wait(
    events: &mut Events,
    power: &Power,
    requests: &Receiver<Request>,
    nics: &mut Nics,
) -> Result<()> {
    loop {
        events.run().map_err(|error| anyhow::anyhow!("Cannot wait for events: {error}"))?;
        for request in requests.try_iter() {
            let result = obey(&request.command, nics, events);
            request.answer(result);
        }
        if let Some(ending) = power.ended() {
            if let Some(why) = ending? {
                eprintln!("minivmm: {why}");
            }
            return Ok(());
        }
    }
}

/// Does what a command says; its answer.
fn obey(command: &str, nics: &mut Nics, events: &mut Events) -> Result<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    match words[..] {
        ["attach", nic] => nics.attach(vfio::address(nic)?, events)?,
        ["detach", nic] => nics.detach(vfio::address(nic)?, events)?,
        ["counters"] => return Ok(nics.counters()),
        _ => bail!("{command:?} is none of `attach BDF`, `detach BDF` and `counters`"),
    }
    Ok(String::new())
}
