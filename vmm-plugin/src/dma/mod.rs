//! A guest's memory, where its devices find it: at I/O virtual addresses that are the guest's
//! physical ones.
//!
//! Only memory is mapped. Devices' BARs are not, so passed devices cannot reach each other's
//! registers past the guest's processor: peer to peer DMA goes around whatever isolates the
//! functions in between (ACS), and no NIC needs it.

mod error;
mod memlock;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use vm_memory::{Address as _, GuestMemoryBackend, GuestMemoryRegion as _};

pub use self::error::DmaError;
use crate::mapping::Mapping;
use crate::vfio::{Access, AddressSpace, Limits};

/// Guest memory that devices of an address space reach, all of it, until this is dropped.
///
/// The pages are pinned meanwhile: they count against `RLIMIT_MEMLOCK`, are not swapped, and
/// ballooning does not give them back. A container's mappings end when its last group leaves, so
/// drop this before the devices, or at least make a new one for the next device.
pub struct GuestDma {
    space: Arc<dyn AddressSpace>,
    /// In order of their addresses.
    mapped: Vec<Region>,
}

/// One region of guest memory.
struct Region {
    /// I/O virtual and guest physical address.
    iova: u64,
    memory: Mapping,
}

impl Region {
    fn size(&self) -> u64 {
        self.memory.size()
    }

    /// The last address; regions are not empty, and were seen not to wrap.
    fn last(&self) -> u64 {
        self.iova.saturating_add(self.size().saturating_sub(1))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.iova <= other.last() && other.iova <= self.last()
    }

    /// The same bytes at the same place.
    fn is(&self, other: &Self) -> bool {
        (self.iova, self.size(), self.memory.address())
            == (other.iova, other.size(), other.memory.address())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..={:#x}", self.iova, self.last())
    }
}

impl GuestDma {
    /// Maps all of `memory` in `space`, readable and writable.
    ///
    /// Pins pages one by one: about as long as touching all of the memory.
    ///
    /// # Errors
    /// A region is not made of whole pages of the IOMMU or lies in a reserved range; too many
    /// regions; more memory than may be locked; or the kernel refuses. Nothing is mapped then.
    pub fn new<M>(space: Arc<dyn AddressSpace>, memory: &Arc<M>) -> Result<Self, DmaError>
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
    {
        let mut dma = Self { space, mapped: Vec::new() };
        dma.update(memory)?;
        Ok(dma)
    }

    /// `memory` is what the guest has now: maps what is new in it and unmaps what is not there
    /// any more. What stays is not touched, so DMA goes on there.
    ///
    /// # Errors
    /// As [`GuestDma::new`]; what was mapped before is mapped then, unless the error says
    /// otherwise.
    pub fn update<M>(&mut self, memory: &Arc<M>) -> Result<(), DmaError>
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
    {
        let (mut staying, mut added): (Vec<Region>, Vec<Region>) = regions(memory)?
            .into_iter()
            .partition(|region| self.mapped.iter().any(|other| other.is(region)));
        let blocks = |region: &Region| added.iter().any(|other| other.overlaps(region));
        let stays = |region: &Region| staying.iter().any(|other| other.is(region));
        let freed = self.mapped.iter().filter(|&region| blocks(region) && !stays(region));
        self.check(&added, freed)?;

        let mut kept = Vec::new();
        let (mut blocking, mut leaving) = (Vec::new(), Vec::new());
        for region in std::mem::take(&mut self.mapped) {
            if let Some(at) = staying.iter().position(|new| new.is(&region)) {
                // From now on the new memory keeps it mapped in this process.
                kept.push(staying.swap_remove(at));
            } else if blocks(&region) {
                blocking.push(region);
            } else {
                leaving.push(region);
            }
        }
        // What is in the way of new memory has to go first; everything else goes last.
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        let exchanged = self
            .unmap_each(&mut blocking, &mut gone)
            .and_then(|()| self.map_each(&mut added, &mut come));
        if let Err(error) = exchanged {
            let stuck = self.unmap_each(&mut come, &mut Vec::new());
            let lost = self.map_each(&mut gone, &mut kept);
            kept.extend(come.into_iter().chain(blocking).chain(leaving));
            self.mapped = kept;
            return Err(match stuck.and(lost) {
                Ok(()) => error,
                Err(second) => {
                    DmaError::NotRestored { first: Box::new(error), second: Box::new(second) }
                }
            });
        }
        kept.extend(come);
        let done = self.unmap_each(&mut leaving, &mut Vec::new());
        // What could not be unmapped stays known, and its memory stays where it is.
        kept.extend(leaving);
        self.mapped = kept;
        done
    }

    /// Bytes that are mapped.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.mapped.iter().map(Region::size).sum()
    }
}

impl GuestDma {
    /// `added` can be mapped when `freed` is not any more.
    fn check<'a>(
        &self,
        added: &[Region],
        freed: impl Iterator<Item = &'a Region>,
    ) -> Result<(), DmaError> {
        if added.is_empty() {
            return Ok(());
        }
        let limits = self.space.limits().map_err(DmaError::Limits)?;
        for region in added {
            fits(region, &limits)?;
        }
        let (mut fewer, mut freed_bytes) = (0_usize, 0_u64);
        for region in freed {
            fewer += 1;
            freed_bytes = freed_bytes.saturating_add(region.size());
        }
        let needed = added.len().saturating_sub(fewer);
        if let Some(left) = limits.mappings_left
            && usize::try_from(left).is_ok_and(|left| needed > left)
        {
            return Err(DmaError::TooMany { needed, left });
        }
        let bytes = added.iter().map(Region::size).fold(0, u64::saturating_add);
        memlock::Memlock::of_this_process().allows(bytes.saturating_sub(freed_bytes))
    }

    /// Maps `regions` and moves them to `done`, up to the first that fails.
    fn map_each(&self, regions: &mut Vec<Region>, done: &mut Vec<Region>) -> Result<(), DmaError> {
        while let Some(region) = regions.pop() {
            match self.space.map(region.iova, &region.memory, Access::ReadWrite) {
                Ok(()) => done.push(region),
                Err(source) => {
                    let error = DmaError::Map { first: region.iova, last: region.last(), source };
                    regions.push(region);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Unmaps `regions` and moves them to `done`; those that fail stay.
    fn unmap_each(
        &self,
        regions: &mut Vec<Region>,
        done: &mut Vec<Region>,
    ) -> Result<(), DmaError> {
        let mut outcome = Ok(());
        for region in std::mem::take(regions) {
            match self.space.unmap(region.iova, region.size()) {
                Ok(()) => done.push(region),
                Err(source) => {
                    let (first, last) = (region.iova, region.last());
                    outcome = outcome.and(Err(DmaError::Unmap { first, last, source }));
                    regions.push(region);
                }
            }
        }
        outcome
    }
}

impl Drop for GuestDma {
    fn drop(&mut self) {
        let mut mapped = std::mem::take(&mut self.mapped);
        // A container whose last group left has no mappings, and says so here.
        if let Err(error) = self.unmap_each(&mut mapped, &mut Vec::new()) {
            tracing::debug!(%error, "guest memory was not mapped any more");
        }
    }
}

impl fmt::Debug for GuestDma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestDma").field("mapped", &self.mapped).finish_non_exhaustive()
    }
}

/// What `memory` consists of, the last region first.
fn regions<M>(memory: &Arc<M>) -> Result<Vec<Region>, DmaError>
where
    M: GuestMemoryBackend + Send + Sync + 'static,
{
    let starts: Vec<u64> = memory.iter().map(|region| region.start_addr().raw_value()).collect();
    let mut regions = Vec::new();
    for (index, iova) in starts.into_iter().enumerate() {
        let memory = Mapping::of_guest_memory(memory, index).ok_or(DmaError::NotHere { iova })?;
        if memory.size() == 0 {
            continue;
        }
        if iova.checked_add(memory.size() - 1).is_none() {
            return Err(DmaError::Wraps { iova, size: memory.size() });
        }
        regions.push(Region { iova, memory });
    }
    regions.sort_by_key(|region| std::cmp::Reverse(region.iova));
    Ok(regions)
}

/// `region` consists of the IOMMU's pages, at addresses that it translates.
fn fits(region: &Region, limits: &Limits) -> Result<(), DmaError> {
    let granule = 1_u64.checked_shl(limits.page_sizes.trailing_zeros()).unwrap_or(4096);
    let (first, last) = (region.iova, region.last());
    if [first, region.size(), region.memory.address()].iter().any(|n| !n.is_multiple_of(granule)) {
        let address = region.memory.address();
        return Err(DmaError::Unaligned { first, size: region.size(), address, granule });
    }
    let usable = |(from, to): &(u64, u64)| *from <= first && last <= *to;
    if limits.usable.iter().any(usable) {
        Ok(())
    } else {
        Err(DmaError::Reserved { first, last, usable: limits.usable.clone() })
    }
}
