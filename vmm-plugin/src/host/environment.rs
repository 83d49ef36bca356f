//! What preflight needs to know beyond the devices themselves.

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::holders::{self, Holder};
use super::network::{NetworkError, NetworkFacts};
use super::nic::Nic;
use super::storage::{self, StorageUse};
use super::sysfs::Sysfs;

/// What will be started with the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// Memory of the guest that gets the devices, in bytes.
    pub guest_memory: u64,
    /// Whether its VMM runs as root (with CAP_IPC_LOCK): limits do not hold it.
    pub vmm_is_root: bool,
}

/// Rules of interrupt delivery differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// x86-64: interrupt remapping of VT-d or AMD-Vi.
    X86,
    /// arm64: MSI isolation by the GIC's ITS.
    Arm,
    /// Any other: nothing is known to protect it.
    Other,
}

/// Facts about the host as a whole, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// Kind of machine.
    pub architecture: Architecture,
    /// The network stack.
    pub network: NetworkFacts,
    /// Processes that have a NIC's VFIO file open, by the NIC's place in the list given.
    pub holders: Vec<Vec<Holder>>,
    /// File systems and swap.
    pub storage: Vec<StorageUse>,
    /// RLIMIT_MEMLOCK of this process, which the VMM inherits, in bytes; `None` is unlimited.
    pub memlock: Option<u64>,
    /// What will be started.
    pub wanted: Wanted,
}

impl Environment {
    /// Reads everything. Must not be called from within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetworkError`]: without the network's facts it is unknown what the host would lose.
    pub fn read(sysfs: &Sysfs, nics: &[Nic], wanted: Wanted) -> Result<Self, NetworkError> {
        Ok(Self::with_network(sysfs, nics, wanted, NetworkFacts::read(sysfs)?))
    }

    /// As [`Environment::read`], with the network's facts given.
    #[must_use]
    pub fn with_network(
        sysfs: &Sysfs,
        nics: &[Nic],
        wanted: Wanted,
        network: NetworkFacts,
    ) -> Self {
        Self {
            architecture: match std::env::consts::ARCH {
                "x86_64" => Architecture::X86,
                "aarch64" => Architecture::Arm,
                _ => Architecture::Other,
            },
            network,
            holders: nics.iter().map(|nic| holders_of(sysfs, nic)).collect(),
            storage: storage::in_use(sysfs),
            memlock: getrlimit(Resource::Memlock).current,
            wanted,
        }
    }
}

fn holders_of(sysfs: &Sysfs, nic: &Nic) -> Vec<Holder> {
    match &nic.device.group {
        Some(group) => {
            holders::of_files(sysfs, &holders::vfio_files(sysfs, &nic.device.name, group))
        }
        None => Vec::new(),
    }
}
