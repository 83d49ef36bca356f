//! How a guest ends: whoever notices says so, and whoever runs the machine is told.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use vmm_plugin::vmm::Trap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What ACPI writes to reset the machine.
pub const RESET: u8 = 1;
/// ACPI's sleep type of "soft off", of our choice.
pub const SOFT_OFF: u8 = 5;
/// What ACPI writes to go to sleep: the type, and the bit that says go (ACPI 6.5, 4.8.3.7).
const SLEEP_ENABLE: u8 = 1 << 5;

/// Why a machine ends: with a word about it or without one, or by an error that the guest cannot go
/// on from.
pub type Ending = Result<Option<&'static str>>;

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

/// Wakes the event loop up; it then sees what [`Power::ended`] says.
impl EventSubscriber for Power {
    fn init(&self, ops: &mut EventOps) {
        // The loop has just been made: nothing else watches this eventfd.
        let _ = ops.add(Events::new(&self.event, EventSet::IN));
    }

    fn process(&self, _events: Events, _ops: &mut EventOps) {
        let _ = self.event.read();
    }
}

/// The port that ACPI tells the guest of.
pub struct Port(pub Arc<Power>);

impl Trap for Port {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        const OFF: u8 = SLEEP_ENABLE | SOFT_OFF << 2;
        match data {
            [OFF] => self.0.end(Ok(None)),
            // That is for whoever started this process to do.
            [RESET] => self.0.end(Ok(Some("the guest wanted to start anew"))),
            _ => {}
        }
    }
}
