//! A serial port: vm-superio's 16550, the interrupt that it raises, and the file behind it.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use kvm_ioctls::VmFd;
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vmm_plugin::vmm::{Bus, GuestRange, Space, Trap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Eight registers of a byte each. Number 1 says which interrupts are wanted, its bit 0 that for bytes
/// that came; number 2 says which there is: 1 for none, 4 for bytes that came.
const REGISTERS: u64 = 8;
const ENABLED: u8 = 1;
const INTERRUPT: u8 = 2;
const NONE: u8 = 0b0001;
const RECEIVED: u8 = 0b0100;

/// What is behind a serial port: `stdio`, or `OUTPUT[,in=INPUT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Standard input and output.
    Stdio,
    /// Files, FIFOs or terminals.
    Files {
        /// Where the guest writes.
        output: PathBuf,
        /// Where it reads, if it does.
        input: Option<PathBuf>,
    },
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (output, input) = match text.split_once(",in=") {
            _ if text == "stdio" => return Ok(Line::Stdio),
            Some((output, input)) => (output, Some(input)),
            None => (text, None),
        };
        if output.is_empty() || input.is_some_and(str::is_empty) {
            return Err("expected `stdio`, or OUTPUT[,in=INPUT] with paths".to_owned());
        }
        Ok(Line::Files { output: output.into(), input: input.map(PathBuf::from) })
    }
}

/// The interrupt line: an eventfd that KVM waits for.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

type Uart = Serial<Interrupt, NoEvents, Box<dyn Write + Send>>;

/// A serial port.
pub struct Port {
    uart: Mutex<Uart>,
    /// Bytes that it has room for when the guest has read all.
    room: usize,
    input: Option<File>,
}

impl Port {
    /// A port at `ports` with interrupt `gsi`, which is for the event loop as well.
    pub fn place(vm: &VmFd, bus: &dyn Bus, ports: u64, gsi: u32, line: &Line) -> Result<Arc<Self>> {
        let (output, input): (Box<dyn Write + Send>, Option<File>) = match line {
            Line::Stdio => {
                let input = rustix::io::dup(io::stdin()).context("Standard input is closed")?;
                (Box::new(io::stdout()), Some(File::from(input)))
            }
            Line::Files { output, input } => {
                // Both ways, so that opening a FIFO waits for nobody.
                let open = |path: &PathBuf| {
                    let file = File::options().read(true).append(true).create(true).open(path);
                    file.with_context(|| {
                        format!("Cannot open {} for a serial port", path.display())
                    })
                };
                (Box::new(open(output)?), input.as_ref().map(open).transpose()?)
            }
        };
        let interrupt = EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")?;
        vm.register_irqfd(&interrupt, gsi)
            .with_context(|| format!("KVM does not connect interrupt {gsi}"))?;
        let uart = Serial::new(Interrupt(interrupt), output);
        let room = uart.fifo_capacity();
        let port = Arc::new(Self { uart: Mutex::new(uart), room, input });
        let range = GuestRange { space: Space::Pio, base: ports, size: REGISTERS };
        bus.place(range, port.clone())?;
        Ok(port)
    }

    /// Feeds what has come in to a guest that has read all: then there is room, and it will ask
    /// again what there is to do.
    fn feed(&self, uart: &mut Uart) {
        let Some(mut input) = self.input.as_ref() else { return };
        let waiting = rustix::io::ioctl_fionread(input).unwrap_or(0);
        let mut bytes = vec![0; self.room.min(usize::try_from(waiting).unwrap_or(usize::MAX))];
        if !bytes.is_empty()
            && uart.fifo_capacity() == self.room
            && let Ok(count) = input.read(&mut bytes)
        {
            let _ = uart.enqueue_raw_bytes(&bytes[..count]);
        }
    }
}

impl Trap for Port {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (Ok(mut uart), [byte], Ok(offset)) = (self.uart.lock(), data, u8::try_from(offset)) {
            if offset == INTERRUPT {
                self.feed(&mut uart);
            }
            *byte = uart.read(offset);
            // vm-superio takes the interrupt back with the first byte that is read, a 16550 with
            // the last.
            let more = uart.fifo_capacity() < self.room && uart.read(ENABLED) & 1 != 0;
            if offset == INTERRUPT && *byte & NONE != 0 && more {
                *byte ^= NONE | RECEIVED;
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(mut uart), [byte], Ok(offset)) = (self.uart.lock(), data, u8::try_from(offset)) {
            // A byte that nobody takes is lost, as on any serial line.
            let _ = uart.write(offset, *byte);
        }
    }
}

impl EventSubscriber for Port {
    fn init(&self, ops: &mut EventOps) {
        // Once for all that comes: what the guest has no room for must not wake anybody again. A
        // regular file cannot be waited for, and is no serial line: nothing comes from it.
        if let Some(input) = &self.input {
            let _ = ops.add(Events::new(input, EventSet::IN | EventSet::EDGE_TRIGGERED));
        }
    }

    fn process(&self, _events: Events, _ops: &mut EventOps) {
        if let Ok(mut uart) = self.uart.lock() {
            self.feed(&mut uart);
        }
    }
}
