//! A serial port: vm-superio's 16550, the interrupt that it raises, and the file behind it.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use kvm_ioctls::VmFd;
use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents};
use vmm_plugin::vmm::{Bus, GuestRange, Space, Trap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Eight registers of a byte each.
const REGISTERS: u64 = 8;

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
#[derive(Debug)]
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Says that the guest has read all that was there.
#[derive(Debug)]
struct Emptied(EventFd);

impl SerialEvents for Emptied {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        let _ = self.0.write(1);
    }
}

type Uart = Serial<Interrupt, Emptied, Box<dyn Write + Send>>;

struct Port(Arc<Mutex<Uart>>);

impl Trap for Port {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let (Ok(mut uart), [byte], Ok(offset)) = (self.0.lock(), data, u8::try_from(offset)) {
            *byte = uart.read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(mut uart), [byte], Ok(offset)) = (self.0.lock(), data, u8::try_from(offset)) {
            // A byte that nobody takes is lost, as on any serial line.
            let _ = uart.write(offset, *byte);
        }
    }
}

/// Feeds what comes in to the port, as fast as the guest reads it.
pub struct Input {
    uart: Arc<Mutex<Uart>>,
    emptied: EventFd,
    file: File,
    waiting: bool,
}

/// Places a serial port at `ports` with interrupt `gsi`; the input, if there is any, is for the
/// event loop.
pub fn place(vm: &VmFd, bus: &dyn Bus, ports: u64, gsi: u32, line: &Line) -> Result<Option<Input>> {
    let (output, input): (Box<dyn Write + Send>, Option<File>) = match line {
        Line::Stdio => {
            let input = rustix::io::dup(io::stdin()).context("Standard input is closed")?;
            (Box::new(io::stdout()), Some(File::from(input)))
        }
        Line::Files { output, input } => {
            // Both ways, so that opening a FIFO waits for nobody.
            let open = |path: &PathBuf| {
                let file = File::options().read(true).append(true).create(true).open(path);
                file.with_context(|| format!("Cannot open {} for a serial port", path.display()))
            };
            (Box::new(open(output)?), input.as_ref().map(open).transpose()?)
        }
    };
    let interrupt = EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")?;
    vm.register_irqfd(&interrupt, gsi)
        .with_context(|| format!("KVM does not connect interrupt {gsi}"))?;
    let emptied = EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")?;
    let events = Emptied(emptied.try_clone().context("Cannot duplicate an eventfd")?);
    let uart = Serial::with_events(Interrupt(interrupt), events, output);
    let uart = Arc::new(Mutex::new(uart));
    let range = GuestRange { space: Space::Pio, base: ports, size: REGISTERS };
    bus.place(range, Arc::new(Port(uart.clone())))?;
    Ok(input.map(|file| Input { uart, emptied, file, waiting: false }))
}

impl MutEventSubscriber for Input {
    fn init(&mut self, ops: &mut EventOps) {
        let _ = ops.add(Events::new(&self.emptied, EventSet::IN));
        // A regular file cannot be waited for, and is no serial line: nothing comes from it.
        let _ = ops.add(Events::new(&self.file, EventSet::IN));
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        use std::os::fd::AsRawFd as _;
        if events.fd() == self.emptied.as_raw_fd() {
            let _ = self.emptied.read();
            if std::mem::take(&mut self.waiting) {
                let _ = ops.add(Events::new(&self.file, EventSet::IN));
            }
            return;
        }
        let Ok(mut uart) = self.uart.lock() else { return };
        let mut bytes = vec![0; uart.fifo_capacity()];
        let read = if bytes.is_empty() { Ok(0) } else { self.file.read(&mut bytes) };
        match read {
            Ok(count) if count > 0 => {
                let _ = uart.enqueue_raw_bytes(&bytes[..count]);
            }
            // No room: the guest has to read first. No more input: the file is not looked at again.
            _ => {
                self.waiting = bytes.is_empty();
                let _ = ops.remove(Events::new(&self.file, EventSet::IN));
            }
        }
    }
}
