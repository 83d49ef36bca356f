//! A VMM that is not there, for tests of devices: its bus, slots and interrupts.
//!
//! There is no thread: what a hypervisor does when an eventfd is signalled happens when a test
//! looks, and before a route changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::{
    Bus, GuestRange, Interrupts, LineRoute, Message, MessageRoute, Seam, SeamError, Slot, Slots,
    Space, Trap,
};
use crate::mapping::Mapping;

/// A guest's addresses and interrupts.
#[derive(Clone, Debug, Default)]
pub struct FakeVmm {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    traps: Vec<(GuestRange, Arc<dyn Trap>)>,
    slots: BTreeMap<u32, (u64, Arc<Mapping>, bool)>,
    next_slot: u32,
    /// Slots that can be had at the same time; 0: any number.
    slot_limit: usize,
    messages: BTreeMap<u64, Route>,
    next_route: u64,
    lines: BTreeMap<u32, Line>,
    delivered: Vec<Message>,
    /// The guest does not hear lines: what comes is lost, as with an interrupt controller that
    /// is not there yet.
    deaf: bool,
}

struct Route {
    trigger: EventFd,
    message: Option<Message>,
}

struct Line {
    trigger: EventFd,
    /// `None`: edge-triggered.
    resample: Option<EventFd>,
    raised: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (traps, slots) = (self.traps.len(), self.slots.len());
        write!(f, "{traps} traps, {slots} slots, {} lines", self.lines.len())
    }
}

impl State {
    /// Delivers what was signalled and has a route.
    fn pump(&mut self) {
        for route in self.messages.values() {
            if let Some(message) = route.message
                && route.trigger.read().is_ok()
            {
                self.delivered.push(message);
            }
        }
        for line in self.lines.values_mut() {
            if line.trigger.read().is_ok() && !self.deaf {
                line.raised = true;
            }
        }
    }
}

impl FakeVmm {
    /// A VMM with nothing attached.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a device is given.
    #[must_use]
    pub fn seam(&self) -> Seam {
        let this = Arc::new(self.clone());
        Seam { bus: this.clone(), slots: this.clone(), interrupts: this }
    }

    /// At most this many slots from now on.
    pub fn limit_slots(&self, limit: usize) {
        self.state().slot_limit = limit;
    }

    /// A vCPU reads: from a slot, else from a trap, else ones.
    pub fn read(&self, space: Space, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((mapping, offset)) = self.slot_at(space, address, data.len()) {
            let _ = mapping.read(offset, data);
        } else if let Some((trap, offset)) = self.trap_at(space, address) {
            trap.read(offset, data);
        }
    }

    /// A vCPU writes.
    pub fn write(&self, space: Space, address: u64, data: &[u8]) {
        if let Some((mapping, offset)) = self.slot_at(space, address, data.len()) {
            let _ = mapping.write(offset, data);
        } else if let Some((trap, offset)) = self.trap_at(space, address) {
            trap.write(offset, data);
        }
    }

    fn slot_at(&self, space: Space, address: u64, length: usize) -> Option<(Arc<Mapping>, u64)> {
        let length = u64::try_from(length).ok()?;
        let state = self.state();
        let mut slots = state.slots.values().filter(|_| space == Space::Mmio);
        let (guest, mapping, _) = slots.find(|(guest, mapping, _)| {
            *guest <= address && address.saturating_add(length) <= guest + mapping.size()
        })?;
        Some((mapping.clone(), address - guest))
    }

    fn trap_at(&self, space: Space, address: u64) -> Option<(Arc<dyn Trap>, u64)> {
        let state = self.state();
        let (range, trap) = state.traps.iter().find(|(range, _)| {
            range.space == space && (range.base..range.base + range.size).contains(&address)
        })?;
        Some((trap.clone(), address - range.base))
    }

    /// Ranges with a trap.
    #[must_use]
    pub fn placed(&self) -> Vec<GuestRange> {
        self.state().traps.iter().map(|(range, _)| *range).collect()
    }

    /// Slots in use: guest address and length in bytes.
    #[must_use]
    pub fn slots(&self) -> Vec<(u64, u64)> {
        self.state().slots.values().map(|(guest, mapping, _)| (*guest, mapping.size())).collect()
    }

    /// Routes in use: of messages and of lines.
    #[must_use]
    pub fn routes(&self) -> (usize, usize) {
        let state = self.state();
        (state.messages.len(), state.lines.len())
    }

    /// Messages that the guest got since the last call.
    #[must_use]
    pub fn take_delivered(&self) -> Vec<Message> {
        let mut state = self.state();
        state.pump();
        std::mem::take(&mut state.delivered)
    }

    /// `line` is raised.
    #[must_use]
    pub fn raised(&self, line: u32) -> bool {
        let mut state = self.state();
        state.pump();
        state.lines.get(&line).is_some_and(|line| line.raised)
    }

    /// The guest acknowledges `line`: it falls, and the device is asked again.
    pub fn acknowledge(&self, line: u32) {
        let mut state = self.state();
        state.pump();
        if let Some(line) = state.lines.get_mut(&line) {
            line.raised = false;
            if let Some(resample) = &line.resample {
                let _ = resample.write(1);
            }
        }
    }

    /// Loses lines' interrupts from now on, or no longer.
    pub fn set_deaf(&self, deaf: bool) {
        let mut state = self.state();
        state.pump();
        state.deaf = deaf;
    }
}

impl FakeVmm {
    fn line(
        &self,
        line: u32,
        trigger: &EventFd,
        resample: Option<EventFd>,
    ) -> Result<Box<dyn LineRoute>, SeamError> {
        let trigger = copy(trigger)?;
        let mut state = self.state();
        if state.lines.contains_key(&line) {
            return Err(SeamError::new(format!("line {line} is taken")));
        }
        state.lines.insert(line, Line { trigger, resample, raised: false });
        Ok(Box::new(FakeLineRoute { vmm: self.clone(), line }))
    }
}

impl Bus for FakeVmm {
    fn place(&self, range: GuestRange, trap: Arc<dyn Trap>) -> Result<(), SeamError> {
        let mut state = self.state();
        let end = range.base.checked_add(range.size);
        let end = end.ok_or_else(|| SeamError::new("a range that wraps"))?;
        let over = state.traps.iter().any(|(other, _)| {
            other.space == range.space && other.base < end && range.base < other.base + other.size
        });
        if over {
            return Err(SeamError::new(format!("something is at {:#x}", range.base)));
        }
        state.traps.push((range, trap));
        Ok(())
    }

    fn remove(&self, range: GuestRange) -> Result<(), SeamError> {
        let mut state = self.state();
        let position = state.traps.iter().position(|(other, _)| *other == range);
        let position =
            position.ok_or_else(|| SeamError::new(format!("nothing is at {:#x}", range.base)))?;
        let removed = state.traps.remove(position);
        // What goes with the trap may come back here.
        drop(state);
        drop(removed);
        Ok(())
    }
}

impl Slots for FakeVmm {
    fn map(&self, guest: u64, memory: Arc<Mapping>, writable: bool) -> Result<Slot, SeamError> {
        let mut state = self.state();
        let end = guest.checked_add(memory.size());
        let end = end.ok_or_else(|| SeamError::new("a slot that wraps"))?;
        let over =
            |other: &(u64, Arc<Mapping>, bool)| other.0 < end && guest < other.0 + other.1.size();
        if state.slots.values().any(over) || !guest.is_multiple_of(0x1000) {
            return Err(SeamError::new(format!("no slot can be at {guest:#x}")));
        }
        if state.slot_limit != 0 && state.slots.len() >= state.slot_limit {
            return Err(SeamError::new("no slot is free"));
        }
        let slot = state.next_slot;
        state.next_slot += 1;
        state.slots.insert(slot, (guest, memory, writable));
        Ok(Slot(slot))
    }

    fn unmap(&self, slot: Slot) -> Result<(), SeamError> {
        let removed = self.state().slots.remove(&slot.0);
        removed.map(|_| ()).ok_or_else(|| SeamError::new(format!("no slot {}", slot.0)))
    }
}

impl Interrupts for FakeVmm {
    fn message(&self, trigger: &EventFd) -> Result<Box<dyn MessageRoute>, SeamError> {
        let trigger = copy(trigger)?;
        let mut state = self.state();
        let number = state.next_route;
        state.next_route += 1;
        state.messages.insert(number, Route { trigger, message: None });
        Ok(Box::new(FakeMessageRoute { vmm: self.clone(), number }))
    }

    fn level(
        &self,
        line: u32,
        trigger: &EventFd,
        resample: &EventFd,
    ) -> Result<Box<dyn LineRoute>, SeamError> {
        self.line(line, trigger, Some(copy(resample)?))
    }

    fn edge(&self, line: u32, trigger: &EventFd) -> Result<Box<dyn LineRoute>, SeamError> {
        self.line(line, trigger, None)
    }
}

fn copy(event: &EventFd) -> Result<EventFd, SeamError> {
    event.try_clone().map_err(|error| SeamError::because("no eventfd", error))
}

#[derive(Debug)]
struct FakeMessageRoute {
    vmm: FakeVmm,
    number: u64,
}

impl MessageRoute for FakeMessageRoute {
    fn set(&mut self, message: Option<Message>) -> Result<(), SeamError> {
        let mut state = self.vmm.state();
        // What came before was delivered at once.
        state.pump();
        if let Some(route) = state.messages.get_mut(&self.number) {
            route.message = message;
        }
        Ok(())
    }
}

impl Drop for FakeMessageRoute {
    fn drop(&mut self) {
        let mut state = self.vmm.state();
        state.pump();
        state.messages.remove(&self.number);
    }
}

#[derive(Debug)]
struct FakeLineRoute {
    vmm: FakeVmm,
    line: u32,
}

impl LineRoute for FakeLineRoute {}

impl Drop for FakeLineRoute {
    fn drop(&mut self) {
        self.vmm.state().lines.remove(&self.line);
    }
}
