//! The capability chains that the kernel appends to what it answers (`vfio_info_cap_header`).

use super::{Area, Limits};

/// `struct vfio_info_cap_header`: id, version, offset of the next.
const HEADER: usize = 8;

/// Most capabilities that are followed; the kernel has fewer kinds than this.
const MOST: usize = 64;

/// The capabilities in `answer`, from the offset `first` on: each id, and its bytes with what
/// follows. Offsets count from the start of the answer; a chain that leaves it or does not end is
/// cut there.
pub(super) fn chain(answer: &[u8], first: u32) -> impl Iterator<Item = (u16, &[u8])> {
    let mut next = first;
    std::iter::from_fn(move || {
        let at = usize::try_from(next).ok().filter(|at| *at > 0)?;
        let capability = answer.get(at..).filter(|bytes| bytes.len() >= HEADER)?;
        next = word(capability, 4)?;
        let id = u16::from_ne_bytes(*capability.first_chunk()?);
        Some((id, capability))
    })
    .take(MOST)
}

/// The pairs of 64-bit numbers that a capability lists: a count at 8, the pairs from 16.
pub(super) fn pairs(capability: &[u8]) -> Vec<(u64, u64)> {
    let count = word(capability, 8).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let list = capability.get(16..).unwrap_or_default();
    list.chunks_exact(16)
        .take(count)
        .filter_map(|pair| Some((long(pair, 0)?, long(pair, 8)?)))
        .collect()
}

/// The 32-bit number at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The 64-bit number at `at`.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// `areas` of a region of `size` bytes: in order, inside of it, none empty or in another.
pub(super) fn tidy(areas: Vec<(u64, u64)>, region: u64) -> Vec<Area> {
    let mut areas: Vec<Area> = areas
        .into_iter()
        .map(|(offset, size)| Area { offset, size })
        .filter(|area| area.size > 0)
        .filter(|area| area.offset.checked_add(area.size).is_some_and(|end| end <= region))
        .collect();
    areas.sort_by_key(|area| area.offset);
    let mut free_from = 0;
    areas.retain(|area| {
        let free = area.offset >= free_from;
        if free {
            free_from = area.offset + area.size;
        }
        free
    });
    areas
}

/// `struct vfio_iommu_type1_info` with its capabilities (`VFIO_IOMMU_GET_INFO`).
pub(super) fn limits(answer: &[u8]) -> Option<Limits> {
    const PAGE_SIZES: u32 = 1;
    const CAPABILITIES: u32 = 1 << 1;
    const IOVA_RANGE: u16 = 1;
    const DMA_AVAIL: u16 = 3;
    let flags = word(answer, 4)?;
    // A kernel that does not say has IOMMUs with pages of 4 KiB.
    let page_sizes = if flags & PAGE_SIZES == 0 { 4096 } else { long(answer, 8)? };
    let first = if flags & CAPABILITIES == 0 { 0 } else { word(answer, 16)? };
    let mut limits = Limits { page_sizes, usable: vec![(0, u64::MAX)], mappings_left: None };
    for (id, capability) in chain(answer, first) {
        match id {
            IOVA_RANGE => {
                limits.usable = pairs(capability);
                limits.usable.retain(|(first, last)| first <= last);
                limits.usable.sort_unstable();
            }
            DMA_AVAIL => limits.mappings_left = word(capability, HEADER),
            _ => {}
        }
    }
    Some(limits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn limits_of_a_pc() {
        // As Linux answers it on x86: two ranges around the MSI window, then what is left.
        let answer = bytes(&[
            96,
            3,
            0x4020_1000,
            0,
            24,
            0, // header; the first capability at 24
            1 | 1 << 16,
            72,
            2,
            0,
            0,
            0,
            0xfedf_ffff,
            0,
            0xfef0_0000,
            0,
            0xffff_ffff,
            0xffff,
            3 | 1 << 16,
            0,
            65_535,
            0,
            0,
            0,
        ]);
        let limits = limits(&answer).unwrap();
        assert_eq!(limits.page_sizes, 0x4020_1000);
        assert_eq!(limits.usable, [(0, 0xfedf_ffff), (0xfef0_0000, 0xffff_ffff_ffff)]);
        assert_eq!(limits.mappings_left, Some(65_535));
    }

    #[test]
    fn old_kernel_says_nothing() {
        let limits = limits(&bytes(&[16, 0, 0, 0])).unwrap();
        assert_eq!(
            limits,
            Limits { page_sizes: 4096, usable: vec![(0, u64::MAX)], mappings_left: None }
        );
    }

    #[test]
    fn circle_ends() {
        let answer = bytes(&[16, 0, 1, 8, 0, 0]);
        assert_eq!(chain(&answer, 8).count(), MOST);
    }

    #[test]
    fn areas_outside_or_overlapping_are_dropped() {
        let areas = vec![
            (0x2000, 0x1000),
            (0, 0x1000),
            (0x800, 0x1000),
            (0x3000, 0x2000),
            (u64::MAX, 2),
            (1, 0),
        ];
        let tidy = tidy(areas, 0x4000);
        assert_eq!(tidy, [Area { offset: 0, size: 0x1000 }, Area { offset: 0x2000, size: 0x1000 }]);
    }

    proptest! {
        #[test]
        fn nothing_panics(answer in proptest::collection::vec(any::<u8>(), 0..200), first: u32) {
            for first in [first, first % 256] {
                for (_, capability) in chain(&answer, first) {
                    prop_assert!(pairs(capability).len() <= answer.len() / 16);
                }
            }
            limits(&answer);
        }
    }
}
