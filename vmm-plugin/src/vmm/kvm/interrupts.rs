//! [`Interrupts`] of a KVM guest: irqfds, and one routing table for all of them.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{KvmIrqRouting, kvm_irq_routing_entry};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use super::routing::Table;
use crate::vmm::{Interrupts, LineRoute, Message, MessageRoute, SeamError};

/// A guest's interrupt routes.
///
/// KVM is always given its routing table whole, so exactly one of these exists for a guest, and a
/// VMM that routes by itself (`KVM_SET_GSI_ROUTING`) gives its entries to this one.
///
/// A message needs an interrupt controller in the kernel (a local APIC at least), a line all of
/// it (`KVM_CREATE_IRQCHIP`): with a split one the VMM has the I/O APIC, and routes lines itself.
/// The device ids that an ARM ITS wants beside a message are not set.
#[derive(Clone)]
pub struct KvmInterrupts {
    inner: Arc<Inner>,
}

struct Inner {
    vm: Arc<VmFd>,
    table: Mutex<Table>,
}

impl KvmInterrupts {
    /// Routes for `vm`: messages get GSIs of `gsis`, which nobody else uses and which are above
    /// the pins; `pins` are the VMM's own routes (`pc_pins` for what `KVM_CREATE_IRQCHIP` made).
    #[must_use]
    pub fn new(vm: Arc<VmFd>, gsis: Range<u32>, pins: Vec<kvm_irq_routing_entry>) -> Self {
        Self { inner: Arc::new(Inner { vm, table: Mutex::new(Table::new(gsis, pins)) }) }
    }

    /// Replaces the VMM's own routes.
    ///
    /// # Errors
    /// KVM refuses them; the old ones stay.
    pub fn set_pins(&self, pins: Vec<kvm_irq_routing_entry>) -> Result<(), SeamError> {
        let mut table = self.inner.table();
        let before = table.set_pins(pins);
        self.inner.send(&table).inspect_err(|_| {
            table.set_pins(before);
        })
    }
}

impl fmt::Debug for KvmInterrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvmInterrupts({:?})", self.inner.table())
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `table` to KVM.
    fn send(&self, table: &Table) -> Result<(), SeamError> {
        let entries = table.entries();
        let routing = KvmIrqRouting::from_entries(&entries).map_err(|_| {
            SeamError::new(format!("{} interrupt routes are more than KVM has", entries.len()))
        })?;
        self.vm.set_gsi_routing(&routing).map_err(|error| {
            let what = format!("KVM refuses {} interrupt routes", entries.len());
            SeamError::because(what, io::Error::from(error))
        })
    }
}

impl Interrupts for KvmInterrupts {
    fn message(&self, trigger: &EventFd) -> Result<Box<dyn MessageRoute>, SeamError> {
        let trigger = duplicate(trigger)?;
        let mut table = self.inner.table();
        let gsi = table.allocate().ok_or_else(|| {
            SeamError::new(format!(
                "all of the GSIs {:?} are used: give the adapter more",
                table.gsis()
            ))
        })?;
        drop(table);
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(Vector { inner, gsi, trigger, listening: false }))
    }

    fn level(
        &self,
        line: u32,
        trigger: &EventFd,
        resample: &EventFd,
    ) -> Result<Box<dyn LineRoute>, SeamError> {
        if self.inner.table().gsis().contains(&line) {
            return Err(SeamError::new(format!("GSI {line} is for messages, not a line")));
        }
        let trigger = duplicate(trigger)?;
        self.inner.vm.register_irqfd_with_resample(&trigger, resample, line).map_err(|error| {
            let what = format!("KVM does not raise line {line}");
            SeamError::because(what, io::Error::from(error))
        })?;
        Ok(Box::new(Line { inner: Arc::clone(&self.inner), line, trigger }))
    }

    fn edge(&self, line: u32, trigger: &EventFd) -> Result<Box<dyn LineRoute>, SeamError> {
        if self.inner.table().gsis().contains(&line) {
            return Err(SeamError::new(format!("GSI {line} is for messages, not a line")));
        }
        let trigger = duplicate(trigger)?;
        self.inner.vm.register_irqfd(&trigger, line).map_err(|error| {
            let what = format!("KVM does not pulse line {line}");
            SeamError::because(what, io::Error::from(error))
        })?;
        Ok(Box::new(Line { inner: Arc::clone(&self.inner), line, trigger }))
    }
}

fn duplicate(eventfd: &EventFd) -> Result<EventFd, SeamError> {
    eventfd
        .try_clone()
        .map_err(|error| SeamError::because("an eventfd cannot be duplicated", error))
}

/// A message's route.
struct Vector {
    inner: Arc<Inner>,
    gsi: u32,
    trigger: EventFd,
    /// KVM waits on the eventfd, and takes its count.
    listening: bool,
}

impl Vector {
    fn listen(&mut self) -> Result<(), SeamError> {
        if !self.listening {
            // A count that is there already makes KVM deliver at once.
            self.inner.vm.register_irqfd(&self.trigger, self.gsi).map_err(|error| {
                let what = format!("KVM does not listen for GSI {}", self.gsi);
                SeamError::because(what, io::Error::from(error))
            })?;
            self.listening = true;
        }
        Ok(())
    }

    fn ignore(&mut self) -> Result<(), SeamError> {
        if self.listening {
            // When this returns nothing is delivered any more, and what was counted has been.
            self.inner.vm.unregister_irqfd(&self.trigger, self.gsi).map_err(|error| {
                let what = format!("KVM keeps listening for GSI {}", self.gsi);
                SeamError::because(what, io::Error::from(error))
            })?;
            self.listening = false;
        }
        Ok(())
    }
}

impl MessageRoute for Vector {
    fn set(&mut self, message: Option<Message>) -> Result<(), SeamError> {
        let Some(message) = message else {
            // Its route stays: an unmasked vector has most often the message it had before.
            return self.ignore();
        };
        let mut table = self.inner.table();
        let before = table.set(self.gsi, Some(message));
        if before != Some(message) {
            self.inner.send(&table).inspect_err(|_| {
                table.set(self.gsi, before);
            })?;
        }
        drop(table);
        self.listen()
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        if let Err(error) = self.ignore() {
            // The GSI is not free then: its messages would go to whoever got it next.
            tracing::error!(gsi = self.gsi, %error, "an interrupt route stays");
            return;
        }
        let mut table = self.inner.table();
        table.free(self.gsi);
        if let Err(error) = self.inner.send(&table) {
            tracing::warn!(gsi = self.gsi, %error, "KVM keeps an unused interrupt route");
        }
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector(GSI {}, listening: {})", self.gsi, self.listening)
    }
}

/// A line's route.
struct Line {
    inner: Arc<Inner>,
    line: u32,
    trigger: EventFd,
}

impl LineRoute for Line {}

impl Drop for Line {
    fn drop(&mut self) {
        if let Err(error) = self.inner.vm.unregister_irqfd(&self.trigger, self.line) {
            tracing::error!(line = self.line, %error, "KVM keeps raising a line");
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.line)
    }
}
