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
mod pci;
mod power;
mod serial;
mod sys;
mod vfio;
mod virtio;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use event_manager::{EventManager, MutEventSubscriber, SubscriberOps as _};
use kvm_ioctls::{Kvm, VmFd};
use vmm_plugin::host::address::PciAddress;
use vmm_plugin::vmm::kvm::{KvmInterrupts, KvmSlots, pc_pins};
use vmm_plugin::vmm::vm_device::Buses;
use vmm_plugin::vmm::{Bus as _, GuestRange, Seam, Space, Trap};

use crate::control::{Control, Request};
use crate::layout::{gsi, memory as address, port};
use crate::memory::Memory;
use crate::options::{Action, Options};
use crate::pci::PciBus;
use crate::power::{AcpiPort, Ending, Keyboard, Power, Watch};
use crate::serial::Line;
use crate::vfio::Passthrough;
use crate::virtio::{Card, KickBus, LinkOptions};

/// The program: what the command line says.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.action {
        None => run(&options),
        Some(Action::Tell { socket, command }) => control::tell(socket, command),
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
    let memory = memory::allocate(&vm, options.memory)?;
    create_interrupt_controllers(&vm)?;
    let bus = Buses::new();
    let power = Arc::new(Power::new()?);
    let mut events = Events::new().context("Cannot make an event loop")?;
    events.add_subscriber(Box::new(Watch(power.clone())));

    place(&bus, port::POWER, 1, Arc::new(AcpiPort(power.clone())))?;
    place(&bus, port::KEYBOARD, 1, Arc::new(Keyboard(power.clone())))?;
    place_serials(&vm, &bus, &mut events, &options.serials)?;
    let seam = Seam {
        bus: Arc::new(bus.clone()),
        slots: Arc::new(KvmSlots::new(vm.clone(), slots(&kvm))),
        interrupts: Arc::new(KvmInterrupts::new(vm.clone(), gsi::MESSAGES, pc_pins())),
    };
    let mut pci = PciBus::default();
    let mut passthrough = None;
    let mut numbers = Vec::new();
    for address in &options.devices {
        let passthrough = match &mut passthrough {
            Some(passthrough) => passthrough,
            none => none.insert(Passthrough::new(&vm)?),
        };
        let number = pci.attach(passthrough.open(*address, &memory)?, seam.clone())?;
        numbers.push((number, *address));
    }
    for link in &options.links {
        attach_card(&vm, &memory, link, &seam, &mut pci, &mut events)?;
    }
    let pci = Arc::new(pci);
    place(&bus, port::PCI_CONFIG, 8, pci.clone())?;
    for (number, address) in numbers.iter().copied() {
        events.add_subscriber(Box::new(vfio::Watch::new(pci.clone(), number, address)));
    }

    acpi::write(&memory, options.cpus)?;
    let (sender, requests) = channel();
    if let Some(path) = &options.api_socket {
        events.add_subscriber(Box::new(Control::listen(path, sender)?));
    }

    let kernel = options.kernel.as_deref().context("--kernel is missing")?;
    let entry = kernel::load(&memory, kernel, options.initramfs.as_deref(), &options.cmdline)?;
    let cpus = cpu::create(&kvm, &vm, &memory, options.cpus, entry)?;
    cpu::run(cpus, &bus, &power)?;
    let ended = wait(&mut events, &power, &requests, |command| obey(command, &pci, &numbers));
    // Before the guest's memory goes.
    pci.detach_all();
    ended
}

/// Memory slots for what devices map, above those of the guest's memory.
fn slots(kvm: &Kvm) -> Range<u32> {
    sys::LAST_MEMORY_SLOT + 1..u32::try_from(kvm.get_nr_memslots()).unwrap_or(32)
}

/// A virtio card whose other side is a link.
fn attach_card(
    vm: &Arc<VmFd>,
    memory: &Memory,
    options: &LinkOptions,
    seam: &Seam,
    pci: &mut PciBus,
    events: &mut Events,
) -> Result<()> {
    let card = Arc::new(Card::new(options, memory)?);
    let bus = KickBus::new(seam.bus.clone(), vm.clone(), card.kicks()?);
    pci.attach(card.clone(), Seam { bus: Arc::new(bus), ..seam.clone() })?;
    events.add_subscriber(Box::new(virtio::Watch::new(card)?));
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
        if let Some(input) = serial::place(vm, bus, ports, gsi, line)? {
            events.add_subscriber(Box::new(input));
        }
    }
    Ok(())
}

/// Waits for the guest's end. Its processors and their threads end with this process.
fn wait(
    events: &mut Events,
    power: &Power,
    requests: &Receiver<Request>,
    obey: impl Fn(&[String]) -> Result<String>,
) -> Result<()> {
    loop {
        events.run().map_err(|error| anyhow::anyhow!("Cannot wait for events: {error}"))?;
        for request in requests.try_iter() {
            let result = obey(&request.command);
            request.answer(result);
        }
        match power.ended() {
            None => {}
            Some(Ending::PowerOff) => return Ok(()),
            Some(Ending::Reset) => {
                eprintln!("minivmm: the guest wanted to start anew");
                return Ok(());
            }
            Some(Ending::TripleFault) => {
                eprintln!("minivmm: the guest ended by a triple fault");
                return Ok(());
            }
            Some(Ending::Failed(error)) => return Err(error),
        }
    }
}

/// What a command does, and its answer.
fn obey(command: &[String], pci: &PciBus, nics: &[(usize, PciAddress)]) -> Result<String> {
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    match words[..] {
        ["counters"] => Ok(nics
            .iter()
            .map(|(number, address)| vfio::counters(pci, *number, *address))
            .collect()),
        _ => bail!("There is no such command: {}", command.join(" ")),
    }
}
