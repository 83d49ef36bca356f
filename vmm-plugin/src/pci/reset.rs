//! Resetting a function: alone, or with its bus when all that is on it is ours.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use crate::host::address::PciAddress;
use crate::vfio::{AttachedGroup, Device, ResetPeer, VfioError};

/// Where a function is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostAddress {
    /// PCI domain.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device (upper 5 bits) and function.
    pub devfn: u8,
}

impl std::fmt::Display for HostAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { segment, bus, devfn } = self;
        write!(f, "{segment:04x}:{bus:02x}:{:02x}.{}", devfn >> 3, devfn & 7)
    }
}

impl From<ResetPeer> for HostAddress {
    fn from(peer: ResetPeer) -> Self {
        Self { segment: peer.segment, bus: peer.bus, devfn: peer.devfn }
    }
}

/// Fails for a domain above `ffff`, which no reset of a bus knows.
impl TryFrom<PciAddress> for HostAddress {
    type Error = std::num::TryFromIntError;

    fn try_from(address: PciAddress) -> Result<Self, Self::Error> {
        let (domain, bus, device, function) = address.numbers();
        Ok(Self { segment: domain.try_into()?, bus, devfn: device << 3 | function })
    }
}

/// What a reset of the bus may reset.
#[derive(Clone, Debug, Default)]
pub struct ResetScope {
    /// The functions that this VMM holds, the one itself included. Empty: the bus is never reset.
    pub owned: Vec<HostAddress>,
    /// Their groups, to prove it to the kernel; none for devices of iommufd.
    pub groups: Vec<Arc<AttachedGroup>>,
}

/// Why a function was not reset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// The kernel can reset neither the function nor its bus.
    #[error("no reset: {0}")]
    Vfio(#[from] VfioError),
    /// A reset of the bus would reset a function that this VMM does not hold.
    #[error(
        "the function cannot be reset alone, and a reset of its bus would reset {peer} too; \
         give that away as well"
    )]
    Foreign {
        /// That function.
        peer: HostAddress,
    },
}

/// The first function of `set` that is not ours. The decision over a reset of the bus: it may
/// happen when there is none.
///
/// `iommufd` marks with group -1 what belongs to somebody else, whatever its address is.
#[must_use]
pub fn foreign(set: &[ResetPeer], owned: &[HostAddress]) -> Option<HostAddress> {
    let is_foreign = |peer: &&ResetPeer| peer.group < 0 || !owned.contains(&(**peer).into());
    set.iter().find(is_foreign).map(|peer| (*peer).into())
}

/// Resets `device`: by function-level reset if it has that (`flr`), else with its bus if `scope`
/// covers it, else alone by whatever the kernel has.
///
/// What the kernel has without function-level reset is most often a change of the power state,
/// which some devices survive with their registers, and so with the addresses of their DMA.
pub(super) fn reset(device: &dyn Device, scope: &ResetScope, flr: bool) -> Result<(), ResetError> {
    let alone = || match device.info().resettable {
        true => device.reset(),
        false => Err(VfioError::OutOfBounds { what: "a reset of the function alone".into() }),
    };
    let tried = if flr { Some(alone()) } else { None };
    if let Some(Ok(())) = tried {
        return Ok(());
    }
    let bus = reset_bus(device, scope);
    if let Ok(true) = bus {
        return Ok(());
    }
    match (tried.unwrap_or_else(alone), bus) {
        (Ok(()), _) => Ok(()),
        (Err(_), Err(error)) => Err(error),
        (Err(error), Ok(_)) => Err(error.into()),
    }
}

/// Whether the bus was reset: not if nothing on it is ours.
fn reset_bus(device: &dyn Device, scope: &ResetScope) -> Result<bool, ResetError> {
    if scope.owned.is_empty() {
        return Ok(false);
    }
    let set = device.reset_set()?;
    if let Some(peer) = foreign(&set, &scope.owned) {
        return Err(ResetError::Foreign { peer });
    }
    if set.is_empty() {
        return Ok(false);
    }
    let groups: Vec<_> = scope.groups.iter().map(|group| group.as_fd()).collect();
    device.reset_bus(&groups)?;
    Ok(true)
}
