//! The seam: all that this crate asks of a VMM, and all that a VMM tells it.
//!
//! The crate has no thread, no event loop and no global of its own. It asks for four things:
//!
//! | | trait | ready adapter |
//! |---|---|---|
//! | answer accesses to a range of guest addresses | [`Bus`] | `vm_device` |
//! | map host memory into the guest | [`Slots`] | `kvm` |
//! | route interrupts | [`Interrupts`] | `kvm` |
//! | say when guest memory comes and goes | [`crate::dma::GuestDma::update`] | any `vm-memory` |
//!
//! may tell the hypervisor which devices a guest has ([`VfioFiles`], `kvm` again), and offers
//! `event_manager` for the few events that somebody must wait for: errors, and the host wanting
//! the device back. Everything may be called from any thread of the VMM, the vCPUs' included.
//!
//! Each adapter is a cargo feature (`kvm`, `vm-device`, `event-manager`, all on by default): a
//! VMM with other versions of those crates leaves it out, and implements the trait.

#[cfg(feature = "event-manager")]
pub mod event_manager;
#[cfg(feature = "fake")]
pub mod fake;
#[cfg(feature = "kvm")]
pub mod kvm;
mod seam;
#[cfg(feature = "vm-device")]
pub mod vm_device;

use std::fmt::{self, Debug};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

pub use self::seam::Seam;
use crate::mapping::Mapping;

/// One of the guest's two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Guest physical addresses.
    Mmio,
    /// I/O ports, 16 bits; x86 only.
    Pio,
}

/// A range of guest addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GuestRange {
    /// Which address space.
    pub space: Space,
    /// First address.
    pub base: u64,
    /// Length in bytes, at least 1; `base + size` does not wrap.
    pub size: u64,
}

impl fmt::Display for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = match self.space {
            Space::Mmio => "guest address",
            Space::Pio => "I/O port",
        };
        write!(f, "{space} {:#x} with {:#x} bytes", self.base, self.size)
    }
}

/// Who answers a trapped access. `offset` is from the start of the range that was placed; `data`
/// has 1, 2, 4 or 8 bytes when a vCPU made the access, and must be taken as it comes otherwise.
pub trait Trap: Send + Sync {
    /// Fills `data`, all ones for what cannot be read.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes `data`; what cannot be written is dropped.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Places traps at guest addresses.
///
/// Called from a trap itself when a guest moves a BAR: an implementation must not hold a lock over
/// [`Trap`]'s methods that placing needs.
pub trait Bus: Debug + Send + Sync {
    /// From now on accesses to `range` go to `trap`.
    ///
    /// # Errors
    /// Something else answers there.
    fn place(&self, range: GuestRange, trap: Arc<dyn Trap>) -> Result<(), SeamError>;

    /// Ends what [`Bus::place`] began with exactly this range.
    ///
    /// # Errors
    /// Nothing is placed there.
    fn remove(&self, range: GuestRange) -> Result<(), SeamError>;
}

/// Maps host memory into the guest.
pub trait Slots: Debug + Send + Sync {
    /// The guest sees `memory` at `guest`, directly; page aligned. The implementation keeps the
    /// mapping alive until [`Slots::unmap`]. It gives the guest the bytes at [`Mapping::address`] of
    /// this process, or has another process map [`Mapping::file`], which every device's has.
    ///
    /// # Errors
    /// No slot is free, or something else is mapped there.
    fn map(&self, guest: u64, memory: Arc<Mapping>, writable: bool) -> Result<Slot, SeamError>;

    /// Ends a mapping; no vCPU reaches the memory when this returns.
    ///
    /// # Errors
    /// There is no such slot.
    fn unmap(&self, slot: Slot) -> Result<(), SeamError>;
}

/// Number of a mapping, chosen by the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

/// What a message-signalled interrupt writes (PCI 3.0, 6.8.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    /// Guest address.
    pub address: u64,
    /// Value.
    pub data: u32,
}

/// Routes interrupts to the guest.
pub trait Interrupts: Debug + Send + Sync {
    /// A route for one message-signalled vector: whenever `trigger` is signalled, the message is
    /// delivered. It starts without a message; until it has one nothing listens to `trigger`, so
    /// that its count stays pending.
    ///
    /// # Errors
    /// No route is free.
    fn message(&self, trigger: &EventFd) -> Result<Box<dyn MessageRoute>, SeamError>;

    /// Raises the level-triggered line `line` (the VMM's own number: a GSI) when `trigger` is
    /// signalled, and signals `resample` when the guest has acknowledged it; the line falls
    /// meanwhile. Ends when dropped.
    ///
    /// # Errors
    /// No such line.
    fn level(
        &self,
        line: u32,
        trigger: &EventFd,
        resample: &EventFd,
    ) -> Result<Box<dyn LineRoute>, SeamError>;

    /// Pulses the edge-triggered line `line` each time `trigger` is signalled. Ends when dropped.
    /// Only platform devices have such interrupts; a VMM without them need not implement this.
    ///
    /// # Errors
    /// No such line, or no edge-triggered ones at all.
    fn edge(&self, line: u32, trigger: &EventFd) -> Result<Box<dyn LineRoute>, SeamError> {
        let _ = trigger;
        Err(SeamError::new(format!("line {line}: this VMM has no edge-triggered lines")))
    }
}

/// A vector's route; ends when dropped.
pub trait MessageRoute: Debug + Send {
    /// Delivers `message` from now on; `None` (masked) delivers nothing and leaves what comes
    /// pending in the eventfd. What was pending is delivered when a message is set.
    ///
    /// # Errors
    /// The hypervisor refuses.
    fn set(&mut self, message: Option<Message>) -> Result<(), SeamError>;
}

/// A line's route; ends when dropped.
pub trait LineRoute: Debug + Send {}

/// Tells the hypervisor which VFIO groups, or devices of iommufd, a guest has.
///
/// KVM wants to know for the caching of a device's memory, and for posted interrupts; on some
/// machines a device does not work without.
pub trait VfioFiles: Debug + Send + Sync {
    /// The guest has what `file` is.
    ///
    /// # Errors
    /// The hypervisor refuses.
    fn add(&self, file: BorrowedFd<'_>) -> Result<(), SeamError>;

    /// The guest has it no longer.
    ///
    /// # Errors
    /// It was not added.
    fn remove(&self, file: BorrowedFd<'_>) -> Result<(), SeamError>;
}

/// What a VMM could not do; the text says what and for which address.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SeamError {
    what: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SeamError {
    /// `what` could not be done.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// `what` could not be done, because of `source`.
    #[must_use]
    pub fn because(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}
