//! Opening a guest's functions by their addresses, over the legacy interface: one container, its
//! groups, and the guest's memory mapped once for all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vm_memory::GuestMemoryBackend;

use super::SharedDma;
use crate::dma::{DmaError, GuestDma};
use crate::host::address::{DeviceName, PciAddress};
use crate::host::device::Device;
use crate::host::group;
use crate::host::sysfs::{Sysfs, SysfsError};
use crate::pci::{HostAddress, ResetScope};
use crate::vfio::{AttachedGroup, Container, Group, OpenDevice, VfioError};
use crate::vmm::VfioFiles;

/// What a guest's devices share. Nothing of it is there before the first device is opened, nor
/// after the last one is dropped: then no memory is pinned, and the host can have the groups back.
pub struct GuestContainer<M> {
    hypervisor: Option<Arc<dyn VfioFiles>>,
    state: Mutex<State<M>>,
}

struct State<M> {
    memory: Arc<M>,
    dma: Weak<Mutex<GuestDma>>,
    groups: BTreeMap<u32, Weak<AttachedGroup>>,
    devices: BTreeMap<PciAddress, Weak<OpenDevice>>,
}

/// A function that was opened, for [`Attachments::attach_pci`](super::Attachments::attach_pci).
#[derive(Debug)]
pub struct Opened {
    /// The function.
    pub device: Arc<OpenDevice>,
    /// The guest's memory, which the function can reach.
    pub dma: SharedDma,
    /// What may be reset with it, for [`Options::reset`](crate::pci::Options::reset): all that is
    /// in the guest's groups, because nobody else can have those, but for what was open already:
    /// the guest may be using it.
    pub reset: ResetScope,
}

/// Why a function was not opened. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such device.
    #[error(transparent)]
    Host(#[from] SysfsError),
    /// The IOMMU does not know it.
    #[error("{0} has no IOMMU group: switch the IOMMU on in firmware and kernel")]
    NoGroup(PciAddress),
    /// It is open already.
    #[error("{0} is open already: detach it first")]
    Open(PciAddress),
    /// VFIO refused.
    #[error("{address} cannot be passed through: {source}")]
    Vfio {
        /// The function.
        address: PciAddress,
        /// Why.
        source: VfioError,
    },
    /// The guest's memory could not be mapped.
    #[error("the guest's memory cannot be mapped for {address}: {source}")]
    Dma {
        /// The function.
        address: PciAddress,
        /// Why.
        source: DmaError,
    },
}

impl<M: GuestMemoryBackend + Send + Sync + 'static> GuestContainer<M> {
    /// Nothing is open yet. `memory` is all that devices can reach; `hypervisor` is told of their
    /// groups.
    #[must_use]
    pub fn new(memory: Arc<M>, hypervisor: Option<Arc<dyn VfioFiles>>) -> Self {
        let (groups, devices) = (BTreeMap::new(), BTreeMap::new());
        let state = Mutex::new(State { memory, dma: Weak::new(), groups, devices });
        Self { hypervisor, state }
    }

    /// Opens a function that is bound to vfio-pci. With the first one all of the guest's memory is
    /// mapped and pinned, which takes about as long as touching it.
    ///
    /// # Errors
    /// There is no such function, it is in no group, its group is not ready or in use, or memory
    /// cannot be mapped.
    pub fn open(&self, address: PciAddress) -> Result<Opened, OpenError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let facts = Device::read(&Sysfs::default(), &DeviceName::Pci(address))?;
        let number = facts.group.ok_or(OpenError::NoGroup(address))?.number;
        if state.devices.get(&address).is_some_and(|device| device.strong_count() > 0) {
            return Err(OpenError::Open(address));
        }
        let vfio = |source| OpenError::Vfio { address, source };
        let others = state.groups.values().find_map(Weak::upgrade);
        let group = match state.groups.get(&number).and_then(Weak::upgrade) {
            Some(group) => group,
            None => {
                let container = match &others {
                    Some(group) => group.container().clone(),
                    None => Arc::new(Container::open().map_err(vfio)?),
                };
                let group = Group::open(number).map_err(vfio)?;
                container.attach(group, self.hypervisor.clone()).map_err(vfio)?
            }
        };
        // Mappings end with a container's last group, whoever still holds them.
        let mapped = state.dma.upgrade().filter(|_| others.is_some());
        let dma = match mapped {
            Some(dma) => dma,
            None => {
                let dma = GuestDma::new(group.container().clone(), &state.memory);
                Arc::new(Mutex::new(dma.map_err(|source| OpenError::Dma { address, source })?))
            }
        };
        let device = Arc::new(group.device(&address.to_string()).map_err(vfio)?);
        state.dma = Arc::downgrade(&dma);
        state.groups.insert(number, Arc::downgrade(&group));
        state.devices.retain(|_, device| device.strong_count() > 0);
        let reset = state.reset_scope();
        state.devices.insert(address, Arc::downgrade(&device));
        Ok(Opened { device, dma, reset })
    }

    /// `memory` is what the guest has from now on; devices that are open can reach what is new in
    /// it when this returns.
    ///
    /// # Errors
    /// As [`GuestDma::update`]; the guest's memory is what it was then.
    pub fn set_memory(&self, memory: Arc<M>) -> Result<(), DmaError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dma) = state.dma.upgrade() {
            dma.lock().unwrap_or_else(PoisonError::into_inner).update(&memory)?;
        }
        state.memory = memory;
        Ok(())
    }
}

impl<M> State<M> {
    /// All members of the groups that are not open.
    fn reset_scope(&self) -> ResetScope {
        let groups: Vec<_> = self.groups.values().filter_map(Weak::upgrade).collect();
        let members = groups
            .iter()
            .flat_map(|group| group::Group::read(&Sysfs::default(), group.number()).members);
        let unused = members.filter_map(|member| match member {
            DeviceName::Pci(address) if !self.devices.contains_key(&address) => {
                HostAddress::try_from(address).ok()
            }
            _ => None,
        });
        ResetScope { owned: unused.collect(), groups }
    }
}

impl<M> fmt::Debug for GuestContainer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("GuestContainer").field("devices", &state.devices).finish_non_exhaustive()
    }
}
