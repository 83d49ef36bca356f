//! What a function has to tell its VMM.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Something that went wrong behind the guest's back, or that the guest did to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// The device reads as ones or not at all. From now on the guest reads ones, as it does of a
    /// device that was pulled out; detach it.
    Gone,
    /// A BAR is not where the guest put it: outside of the VMM's windows, or over something else.
    NotPlaced {
        /// Number of the BAR, 0 to 5.
        bar: u8,
        /// The guest's address.
        address: u64,
        /// What the VMM said.
        why: String,
    },
    /// Part of a BAR works, but every access to it leaves the guest.
    Trapped {
        /// Number of the BAR, 0 to 5.
        bar: u8,
        /// First byte within the BAR.
        offset: u64,
        /// What the VMM or the kernel said.
        why: String,
    },
    /// An interrupt does not come.
    Interrupt {
        /// `MSI-X`, `MSI` or `INTx`.
        kind: &'static str,
        /// Number of the vector.
        vector: u32,
        /// What the VMM or the kernel said.
        why: String,
    },
    /// A reset that the guest asked for did not happen.
    Reset {
        /// What the kernel said.
        why: String,
    },
    /// The kernel refused something else.
    Refused {
        /// What it said.
        why: String,
    },
}

impl Report {
    pub(super) fn interrupt(kind: &'static str, vector: u32, error: &dyn Error) -> Self {
        Self::Interrupt { kind, vector, why: chain(error) }
    }

    pub(super) fn refused(error: &dyn Error) -> Self {
        Self::Refused { why: chain(error) }
    }
}

/// An error and what caused it, in a line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Some errors have their source's text in their own.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

impl Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => write!(f, "the device is gone"),
            Self::NotPlaced { bar, address, why } => {
                write!(f, "BAR {bar} is not placed at {address:#x}: {why}")
            }
            Self::Trapped { bar, offset, why } => {
                write!(f, "BAR {bar} is trapped from {offset:#x}: {why}")
            }
            Self::Interrupt { kind, vector, why } => {
                write!(f, "{kind} vector {vector} does not come: {why}")
            }
            Self::Reset { why } => write!(f, "the guest's reset did not happen: {why}"),
            Self::Refused { why } => f.write_str(why),
        }
    }
}

/// Reports that wait to be taken. A guest can cause as many as it likes, so few are kept.
#[derive(Debug)]
pub(super) struct Reports {
    waiting: Mutex<VecDeque<Report>>,
    /// Signalled with each that is kept.
    ready: EventFd,
}

/// How many wait at most; later ones are dropped, but for [`Report::Gone`].
pub(super) const KEPT: usize = 32;

impl Reports {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), ready: EventFd::new(EFD_NONBLOCK)? })
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Report>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, report: Report) {
        let mut waiting = self.waiting();
        if waiting.len() < KEPT || report == Report::Gone {
            waiting.push_back(report);
            // Full means signalled.
            let _ = self.ready.write(1);
        }
    }

    pub fn take(&self) -> Vec<Report> {
        let _ = self.ready.read();
        self.waiting().drain(..).collect()
    }

    pub fn ready(&self) -> &EventFd {
        &self.ready
    }
}
