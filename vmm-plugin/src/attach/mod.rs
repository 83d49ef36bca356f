//! Attaching and detaching at run time: which devices a guest has, and in which order everything
//! of one comes and goes.
//!
//! Memory is mapped before a device can reach it, and unmapped after the last device that could is
//! quiet. [`GuestContainer`] opens PCI functions so; [`Attachments`] is the list. VMMs that keep
//! such a list of their own use [`pci::Function`] and [`PlatformDevice`] themselves.

mod container;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::container::{GuestContainer, OpenError, Opened};
use crate::dma::GuestDma;
use crate::pci::{self, Function, Options};
use crate::platform::{self, HostNode, Placement, PlatformDevice};
use crate::vfio::Device;
use crate::vmm::Seam;

/// The guest's memory as devices of one address space see it. Memory that comes and goes is told
/// with [`GuestDma::update`]; when the last holder is gone, all is unmapped.
pub type SharedDma = Arc<Mutex<GuestDma>>;

/// A device that a guest has.
#[derive(Clone, Debug)]
pub enum Attached {
    /// A PCI function.
    Pci(Arc<Function>),
    /// A device of the device tree.
    Platform(Arc<PlatformDevice>),
}

/// A guest's passed-through devices, by names that the VMM chooses.
#[derive(Debug)]
pub struct Attachments {
    seam: Seam,
    devices: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    device: Attached,
    dma: SharedDma,
}

/// Why a device was not attached. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// Two devices cannot have one name.
    #[error("there is a device called {name} already: detach it, or choose another name")]
    Taken {
        /// The name.
        name: String,
    },
    /// A PCI function could not be attached.
    #[error("{name}: {source}")]
    Pci {
        /// Its name.
        name: String,
        /// Why.
        source: pci::AttachError,
    },
    /// A platform device could not be attached.
    #[error("{name}: {source}")]
    Platform {
        /// Its name.
        name: String,
        /// Why.
        source: platform::AttachError,
    },
}

/// A device that is not there.
#[derive(Debug, thiserror::Error)]
#[error("no device is called {name}")]
pub struct NoSuchDevice {
    name: String,
}

impl Attachments {
    /// No devices yet; all get the same seam.
    #[must_use]
    pub fn new(seam: Seam) -> Self {
        Self { seam, devices: Mutex::default() }
    }

    fn devices(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches a PCI function whose DMA goes through `dma`; the VMM then puts it on its bus and
    /// tells the guest.
    ///
    /// # Errors
    /// The name is taken, or [`Function::attach`] fails.
    pub fn attach_pci(
        &self,
        name: &str,
        device: Arc<dyn Device>,
        dma: SharedDma,
        options: Options,
    ) -> Result<Arc<Function>, AttachmentError> {
        let mut devices = self.devices();
        free(&devices, name)?;
        let function = Function::attach(device, self.seam.clone(), options)
            .map_err(|source| AttachmentError::Pci { name: name.to_owned(), source })?;
        let function = Arc::new(function);
        let entry = Entry { device: Attached::Pci(function.clone()), dma };
        devices.insert(name.to_owned(), entry);
        Ok(function)
    }

    /// Attaches a device of the device tree whose DMA goes through `dma`; its name is also the
    /// symbol of its node.
    ///
    /// # Errors
    /// The name is taken, or [`PlatformDevice::attach`] fails.
    pub fn attach_platform(
        &self,
        name: &str,
        device: Arc<dyn Device>,
        dma: SharedDma,
        host: HostNode,
        placement: &Placement,
    ) -> Result<Arc<PlatformDevice>, AttachmentError> {
        let mut devices = self.devices();
        free(&devices, name)?;
        let device = PlatformDevice::attach(device, host, name, placement, self.seam.clone())
            .map_err(|source| AttachmentError::Platform { name: name.to_owned(), source })?;
        let device = Arc::new(device);
        let entry = Entry { device: Attached::Platform(device.clone()), dma };
        devices.insert(name.to_owned(), entry);
        Ok(device)
    }

    /// The device called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Attached> {
        self.devices().get(name).map(|entry| entry.device.clone())
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.devices().keys().cloned().collect()
    }

    /// Takes the device called `name` from the guest, which should have been told before. Whoever
    /// still holds it finds a device that reads as ones. Says what could not be undone.
    ///
    /// # Errors
    /// There is none.
    pub fn detach(&self, name: &str) -> Result<Vec<String>, NoSuchDevice> {
        let entry = self.devices().remove(name);
        Ok(entry.ok_or_else(|| NoSuchDevice { name: name.to_owned() })?.detach())
    }

    /// Takes all devices from the guest. Says what could not be undone.
    pub fn detach_all(&self) -> Vec<String> {
        let devices = std::mem::take(&mut *self.devices());
        devices.into_values().flat_map(Entry::detach).collect()
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        for error in self.detach_all() {
            tracing::error!(%error, "a device was not detached whole");
        }
    }
}

impl Entry {
    fn detach(self) -> Vec<String> {
        let failed = match &self.device {
            Attached::Pci(function) => {
                // What was to be told before has nobody to act on it any more.
                let _ = function.take_reports();
                function.detach();
                function.take_reports().iter().map(ToString::to_string).collect()
            }
            Attached::Platform(device) => device.detach(),
        };
        // The device is quiet: its memory goes, and then, with its last holder, the device.
        drop(self.dma);
        failed
    }
}

fn free(devices: &BTreeMap<String, Entry>, name: &str) -> Result<(), AttachmentError> {
    if devices.contains_key(name) {
        return Err(AttachmentError::Taken { name: name.to_owned() });
    }
    Ok(())
}
