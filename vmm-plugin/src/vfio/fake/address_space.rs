//! An IOMMU's address space that is not there.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::invalid;
use crate::mapping::Mapping;
use crate::vfio::{Access, AddressSpace, Limits, VfioError};

/// Records what is mapped, and refuses what the kernel would.
#[derive(Debug)]
pub struct FakeAddressSpace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    /// By address: length in bytes, what devices may do.
    mapped: BTreeMap<u64, (u64, Access)>,
}

impl FakeAddressSpace {
    /// An empty address space with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { state: Mutex::new(State { limits, mapped: BTreeMap::new() }) }
    }

    /// 4 KiB pages, 48 bits, an MSI window at 0xfee00000, 65535 mappings: an Intel PC.
    #[must_use]
    pub fn pc() -> Self {
        Self::new(Limits {
            page_sizes: 0x1000 | 0x20_0000 | 0x4000_0000,
            usable: vec![(0, 0xfedf_ffff), (0xfef0_0000, 0xffff_ffff_ffff)],
            mappings_left: Some(65535),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is mapped: address, length in bytes, access.
    #[must_use]
    pub fn mapped(&self) -> Vec<(u64, u64, Access)> {
        let state = self.state();
        state.mapped.iter().map(|(iova, (size, access))| (*iova, *size, *access)).collect()
    }

    /// Length of everything mapped, in bytes.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.state().mapped.values().map(|(size, _)| size).sum()
    }
}

impl AddressSpace for FakeAddressSpace {
    fn limits(&self) -> Result<Limits, VfioError> {
        Ok(self.state().limits.clone())
    }

    fn map(&self, iova: u64, memory: &Mapping, access: Access) -> Result<(), VfioError> {
        let mut state = self.state();
        let size = memory.size();
        let what = |why: &str| invalid(format!("mapping {size:#x} bytes at {iova:#x}: {why}"));
        let granule = 1_u64.checked_shl(state.limits.page_sizes.trailing_zeros()).unwrap_or(1);
        let last = size.checked_sub(1).and_then(|size| iova.checked_add(size));
        let last = last.ok_or_else(|| what("no such range"))?;
        if !(iova | size).is_multiple_of(granule) {
            return Err(what("not page aligned"));
        }
        if !state.limits.usable.iter().any(|(first, end)| *first <= iova && last <= *end) {
            return Err(what("reserved"));
        }
        let before = state.mapped.range(..=last).next_back();
        if before.is_some_and(|(start, (size, _))| start + (size - 1) >= iova) {
            return Err(what("something is mapped there"));
        }
        if let Some(left) = &mut state.limits.mappings_left {
            *left = left.checked_sub(1).ok_or_else(|| what("no mapping is left"))?;
        }
        state.mapped.insert(iova, (size, access));
        Ok(())
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<(), VfioError> {
        let mut state = self.state();
        let what = || invalid(format!("unmapping {size:#x} bytes at {iova:#x}"));
        let end = iova.checked_add(size).ok_or_else(what)?;
        let inside: Vec<u64> = state.mapped.range(iova..end).map(|(start, _)| *start).collect();
        let whole = inside.last().and_then(|last| Some(last + state.mapped.get(last)?.0));
        let split = state.mapped.range(..iova).next_back();
        if whole.is_none_or(|whole| whole > end)
            || split.is_some_and(|(start, (size, _))| start + size > iova)
        {
            return Err(what());
        }
        for start in inside {
            state.mapped.remove(&start);
            if let Some(left) = &mut state.limits.mappings_left {
                *left = left.saturating_add(1);
            }
        }
        Ok(())
    }
}
