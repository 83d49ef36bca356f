//! How a guest ends: it writes to one of two ports, and whoever runs the machine is told.

use std::sync::Mutex;

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_plugin::vmm::Trap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What ACPI writes to reset the machine.
pub const RESET: u8 = 1;
/// ACPI's sleep type of "soft off", of our choice.
pub const SOFT_OFF: u8 = 5;
/// What ACPI writes to go to sleep: the type, and the bit that says go (ACPI 6.5, 4.8.3.7).
const SLEEP_ENABLE: u8 = 1 << 5;

/// Why the machine stopped.
#[derive(Debug)]
pub enum Ending {
    /// The guest switched itself off.
    PowerOff,
    /// The guest wanted to start anew, which is for whoever started this process to decide.
    Reset,
    /// The guest broke its processor (a triple fault), which some kernels do to reset.
    TripleFault,
    /// Something that the guest cannot go on from.
    Failed(anyhow::Error),
}

/// The switch: first come, first served.
#[derive(Debug)]
pub struct Power {
    ending: Mutex<Option<Ending>>,
    event: EventFd,
}

impl Power {
    /// A machine that is on.
    pub fn new() -> Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")?;
        Ok(Self { ending: Mutex::new(None), event })
    }

    /// Ends the machine. What is said after the first time is not heard.
    pub fn end(&self, ending: Ending) {
        if let Ok(mut first) = self.ending.lock() {
            first.get_or_insert(ending);
        }
        // It fails only when the counter is full, and then the machine ends anyway.
        let _ = self.event.write(1);
    }

    /// Why it ended, if it did.
    pub fn ended(&self) -> Option<Ending> {
        self.ending.lock().ok()?.take()
    }
}

/// ACPI's port.
#[derive(Debug)]
pub struct AcpiPort(pub std::sync::Arc<Power>);

impl Trap for AcpiPort {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        const OFF: u8 = SLEEP_ENABLE | SOFT_OFF << 2;
        match data {
            [RESET] => self.0.end(Ending::Reset),
            [OFF] => self.0.end(Ending::PowerOff),
            _ => {}
        }
    }
}

/// The keyboard controller, of which only the line to the processor's reset is there.
#[derive(Debug)]
pub struct Keyboard(pub std::sync::Arc<Power>);

impl Trap for Keyboard {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data == [0xfe] {
            self.0.end(Ending::Reset);
        }
    }
}

/// Wakes the event loop up; it then sees what [`Power::ended`] says.
#[derive(Debug)]
pub struct Watch(pub std::sync::Arc<Power>);

impl MutEventSubscriber for Watch {
    fn init(&mut self, ops: &mut EventOps) {
        // The loop has just been made: nothing else watches this eventfd.
        let _ = ops.add(Events::new(&self.0.event, EventSet::IN));
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = self.0.event.read();
    }
}
