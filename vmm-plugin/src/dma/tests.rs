//! Against an address space that keeps account as the kernel does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::*;
use crate::vfio::VfioError;

/// Mappings, exactly as they were made: first address to length and address here.
#[derive(Debug)]
struct Space {
    mapped: Mutex<BTreeMap<u64, (u64, u64)>>,
    limits: Limits,
    /// Maps this many more times, and unmaps.
    maps_left: Mutex<u32>,
    unmaps_left: Mutex<u32>,
}

fn refuse(what: &str) -> VfioError {
    VfioError::refused(what)(io::ErrorKind::OutOfMemory.into())
}

fn spend(left: &Mutex<u32>) -> Result<(), VfioError> {
    let mut left = left.lock().unwrap();
    *left = left.checked_sub(1).ok_or_else(|| refuse("one more"))?;
    Ok(())
}

impl AddressSpace for Space {
    fn limits(&self) -> Result<Limits, VfioError> {
        Ok(self.limits.clone())
    }

    fn map(&self, iova: u64, memory: &Mapping, access: Access) -> Result<(), VfioError> {
        assert_eq!(access, Access::ReadWrite);
        spend(&self.maps_left)?;
        let mut mapped = self.mapped.lock().unwrap();
        let end = iova + memory.size();
        if mapped.iter().any(|(other, (size, _))| *other < end && iova < other + size) {
            return Err(refuse("overlapping"));
        }
        mapped.insert(iova, (memory.size(), memory.address()));
        Ok(())
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<(), VfioError> {
        spend(&self.unmaps_left)?;
        let mut mapped = self.mapped.lock().unwrap();
        match mapped.get(&iova) {
            Some((there, _)) if *there == size => {
                mapped.remove(&iova);
                Ok(())
            }
            other => Err(VfioError::OutOfBounds { what: format!("{iova:#x}: {other:?}") }),
        }
    }
}

/// As a PC has it.
fn pc() -> Arc<Space> {
    let usable = vec![(0, 0xfedf_ffff), (0xfef0_0000, 0xff_ffff_ffff)];
    Arc::new(Space {
        mapped: Mutex::default(),
        limits: Limits { page_sizes: 0x4020_1000, usable, mappings_left: Some(3) },
        maps_left: Mutex::new(u32::MAX),
        unmaps_left: Mutex::new(u32::MAX),
    })
}

type Memory = GuestMemoryMmap<()>;

fn memory(ranges: &[(u64, usize)]) -> Arc<Memory> {
    let ranges: Vec<_> = ranges.iter().map(|(at, size)| (GuestAddress(*at), *size)).collect();
    // The library refuses an empty list.
    let memory = if ranges.is_empty() { Ok(Memory::new()) } else { Memory::from_ranges(&ranges) };
    Arc::new(memory.unwrap())
}

impl Space {
    fn ranges(&self) -> Vec<(u64, u64)> {
        self.mapped.lock().unwrap().iter().map(|(at, (size, _))| (*at, *size)).collect()
    }
}

#[test]
fn all_of_a_guest_is_mapped_until_dropped() {
    let space = pc();
    let dma = GuestDma::new(space.clone(), &memory(&[(0, 0x8000), (1 << 32, 0x4000)])).unwrap();
    assert_eq!(space.ranges(), [(0, 0x8000), (1 << 32, 0x4000)]);
    assert_eq!(dma.size(), 0xc000);
    drop(dma);
    assert_eq!(space.ranges(), []);
}

#[test]
fn hot_plugged_memory_comes_and_goes_and_the_rest_stays() {
    let space = pc();
    let before = memory(&[(0, 0x8000)]);
    let mut dma = GuestDma::new(space.clone(), &before).unwrap();
    let here = space.mapped.lock().unwrap()[&0];
    let plugged = GuestRegionMmap::from_range(GuestAddress(1 << 32), 0x4000, None).unwrap();
    let after = Arc::new(before.insert_region(Arc::new(plugged)).unwrap());
    *space.maps_left.lock().unwrap() = 1;
    dma.update(&after).unwrap();
    assert_eq!(space.ranges(), [(0, 0x8000), (1 << 32, 0x4000)]);
    assert_eq!(space.mapped.lock().unwrap()[&0], here);
    *space.unmaps_left.lock().unwrap() = 1;
    dma.update(&before).unwrap();
    assert_eq!(space.ranges(), [(0, 0x8000)]);
}

#[test]
fn guest_memory_lives_as_long_as_it_is_mapped() {
    let space = pc();
    let guest = memory(&[(0, 0x1000)]);
    let dma = GuestDma::new(space, &guest).unwrap();
    let weak = Arc::downgrade(&guest);
    drop(guest);
    assert!(weak.upgrade().is_some());
    drop(dma);
    assert!(weak.upgrade().is_none());
}

#[test]
fn interrupt_window_is_refused_with_its_address() {
    let error = GuestDma::new(pc(), &memory(&[(0xfe00_0000, 0x100_0000)])).unwrap_err();
    assert!(matches!(error, DmaError::Reserved { first: 0xfe00_0000, .. }), "{error}");
    assert!(error.to_string().contains("0xfedfffff"), "{error}");
}

#[test]
fn half_pages_are_refused() {
    let error = GuestDma::new(pc(), &memory(&[(0, 0x1800)])).unwrap_err();
    assert!(matches!(error, DmaError::Unaligned { granule: 0x1000, .. }), "{error}");
}

#[test]
fn too_many_regions_are_refused() {
    let space = pc();
    let ranges: Vec<_> = (0..4).map(|n| (n * 0x10000, 0x1000)).collect();
    let error = GuestDma::new(space.clone(), &memory(&ranges)).unwrap_err();
    assert!(matches!(error, DmaError::TooMany { needed: 4, left: 3 }), "{error}");
    assert_eq!(space.ranges(), []);
}

#[test]
fn failure_midway_leaves_nothing() {
    let space = pc();
    *space.maps_left.lock().unwrap() = 1;
    let error = GuestDma::new(space.clone(), &memory(&[(0, 0x1000), (0x8000, 0x1000)]));
    assert!(matches!(error, Err(DmaError::Map { first: 0x8000, .. })), "{error:?}");
    assert_eq!(space.ranges(), []);
}

#[test]
fn what_cannot_be_restored_is_said() {
    let space = pc();
    let mut dma = GuestDma::new(space.clone(), &memory(&[(0, 0x2000)])).unwrap();
    *space.maps_left.lock().unwrap() = 0;
    let error = dma.update(&memory(&[(0, 0x1000)])).unwrap_err();
    assert!(matches!(error, DmaError::NotRestored { .. }), "{error}");
    assert_eq!((dma.size(), space.ranges()), (0, vec![]));
}

#[test]
fn what_cannot_be_unmapped_stays_known() {
    let space = pc();
    let mut dma = GuestDma::new(space.clone(), &memory(&[(0, 0x1000), (0x8000, 0x1000)])).unwrap();
    *space.unmaps_left.lock().unwrap() = 0;
    let error = dma.update(&memory(&[])).unwrap_err();
    assert!(matches!(error, DmaError::Unmap { .. }), "{error}");
    assert_eq!(dma.size(), 0x2000);
    *space.unmaps_left.lock().unwrap() = u32::MAX;
    drop(dma);
    assert_eq!(space.ranges(), []);
}

proptest! {
    /// Whatever fails when, what is mapped is the memory before or the memory after, unless the
    /// error says that it is not; and everything is unmapped in the end.
    #[test]
    fn memory_before_or_after(
        before in proptest::collection::btree_map(0_u64..12, 1_usize..4, 0..4),
        after in proptest::collection::btree_map(0_u64..12, 1_usize..4, 0..4),
        maps in 0_u32..8,
        unmaps in prop_oneof![Just(u32::MAX), 0_u32..4],
    ) {
        let mut space = pc();
        Arc::get_mut(&mut space).unwrap().limits.mappings_left = None;
        let [before, after] = [before, after].map(|regions| {
            let mut free = 0;
            let mut ranges = Vec::new();
            for (page, pages) in regions {
                if page >= free {
                    free = page + pages as u64;
                    ranges.push((page << 12, pages << 12));
                }
            }
            (memory(&ranges), ranges)
        });
        let as_mapped = |ranges: &[(u64, usize)]| {
            ranges.iter().map(|(at, size)| (*at, *size as u64)).collect::<Vec<_>>()
        };
        let mut dma = GuestDma::new(space.clone(), &before.0).unwrap();
        *space.maps_left.lock().unwrap() = maps;
        *space.unmaps_left.lock().unwrap() = unmaps;
        match dma.update(&after.0) {
            Ok(()) => prop_assert_eq!(space.ranges(), as_mapped(&after.1)),
            Err(DmaError::NotRestored { .. } | DmaError::Unmap { .. }) => {}
            Err(_) => prop_assert_eq!(space.ranges(), as_mapped(&before.1)),
        }
        prop_assert_eq!(dma.size(), space.ranges().iter().map(|(_, size)| size).sum::<u64>());
        *space.maps_left.lock().unwrap() = u32::MAX;
        *space.unmaps_left.lock().unwrap() = u32::MAX;
        if dma.update(&before.0).is_ok() {
            prop_assert_eq!(space.ranges(), as_mapped(&before.1));
        }
        drop(dma);
        prop_assert_eq!(space.ranges(), []);
    }
}
