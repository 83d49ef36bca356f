//! Which pages of a BAR or region the guest reaches directly, and which are trapped.

use crate::vfio::{Area, RegionInfo};

/// The pages of `region` that are mapped into the guest, in order, not touching one another.
/// Accesses to everything else leave the guest and are answered one by one.
///
/// A page is direct when all of it
/// - lies in the region, which must be readable, and in an area that the kernel lets map;
/// - holds no byte of `trapped`: registers that are emulated, such as the MSI-X table.
///
/// So a region smaller than a page is trapped, and so is a rest of a page at its end. `page` is
/// the host's page size in bytes, a power of two.
///
/// ```
/// use vmm_plugin::pci::direct_areas;
/// use vmm_plugin::vfio::{Area, RegionInfo};
///
/// let region = RegionInfo {
///     size: 0x4000,
///     readable: true,
///     writable: true,
///     mappable: vec![Area { offset: 0, size: 0x4000 }],
///     msix_mappable: true,
/// };
/// let table = [Area { offset: 0x1800, size: 0x100 }];
/// let direct = direct_areas(&region, &table, 0x1000);
/// assert_eq!(direct, [Area { offset: 0, size: 0x1000 }, Area { offset: 0x2000, size: 0x2000 }]);
/// ```
#[must_use]
pub fn direct_areas(region: &RegionInfo, trapped: &[Area], page: u64) -> Vec<Area> {
    if !region.readable || !page.is_power_of_two() {
        return Vec::new();
    }
    let down = |offset: u64| offset & !(page - 1);
    // First and last page boundary of what can be mapped, as the kernel has it.
    let mut direct: Vec<(u64, u64)> = Vec::new();
    for area in &region.mappable {
        let end = area.offset.saturating_add(area.size).min(region.size);
        let Some(start) = area.offset.checked_next_multiple_of(page) else { continue };
        direct.push((start, down(end)));
    }
    direct.retain(|(start, end)| start < end);
    direct.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in direct {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    for hole in trapped.iter().filter(|hole| hole.size > 0) {
        let start = down(hole.offset);
        let end = hole.offset.saturating_add(hole.size);
        let end = end.checked_next_multiple_of(page).unwrap_or(u64::MAX);
        merged = merged
            .into_iter()
            .flat_map(|(first, last)| [(first, last.min(start)), (first.max(end), last)])
            .filter(|(first, last)| first < last)
            .collect();
    }
    merged.into_iter().map(|(start, end)| Area { offset: start, size: end - start }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 0x1000;

    fn region(size: u64, mappable: &[(u64, u64)]) -> RegionInfo {
        RegionInfo {
            size,
            readable: true,
            writable: true,
            mappable: areas(mappable),
            msix_mappable: true,
        }
    }

    fn areas(list: &[(u64, u64)]) -> Vec<Area> {
        list.iter().map(|(offset, size)| Area { offset: *offset, size: *size }).collect()
    }

    #[test]
    fn whole_bar_without_table_is_direct() {
        let direct = direct_areas(&region(0x2_0000, &[(0, 0x2_0000)]), &[], PAGE);
        assert_eq!(direct, areas(&[(0, 0x2_0000)]));
    }

    #[test]
    fn small_bar_is_trapped() {
        assert!(direct_areas(&region(0x800, &[(0, 0x800)]), &[], PAGE).is_empty());
    }

    #[test]
    fn pages_of_the_table_are_trapped_and_no_other() {
        let table = areas(&[(0x1ff0, 0x20)]);
        let direct = direct_areas(&region(0x4000, &[(0, 0x4000)]), &table, PAGE);
        assert_eq!(direct, areas(&[(0, 0x1000), (0x3000, 0x1000)]));
    }

    #[test]
    fn larger_pages_trap_more() {
        let table = areas(&[(0x1_2000, 0x100)]);
        let direct = direct_areas(&region(0x4_0000, &[(0, 0x4_0000)]), &table, 0x1_0000);
        assert_eq!(direct, areas(&[(0, 0x1_0000), (0x2_0000, 0x2_0000)]));
    }

    #[test]
    fn unreadable_region_is_trapped() {
        let region = RegionInfo { readable: false, ..region(0x1000, &[(0, 0x1000)]) };
        assert!(direct_areas(&region, &[], PAGE).is_empty());
    }

    proptest! {
        /// Page by page, as the documentation says it.
        #[test]
        fn every_page_is_as_documented(
            size in 0..0x9000_u64,
            mappable in prop::collection::vec((0..0xa000_u64, 0..0xa000_u64), 0..4),
            trapped in prop::collection::vec((0..0xa000_u64, 0..0x2000_u64), 0..4),
        ) {
            // Page-aligned, as the kernel's are: what two areas share is a matter of pages then.
            let mappable: Vec<_> =
                mappable.into_iter().map(|(o, s)| (o & !0xfff, s & !0xfff)).collect();
            let region = region(size, &mappable);
            let direct = direct_areas(&region, &areas(&trapped), PAGE);
            for pair in direct.windows(2) {
                prop_assert!(pair[0].offset + pair[0].size < pair[1].offset);
            }
            for page in 0..16 {
                let bytes = page * PAGE..(page + 1) * PAGE;
                let mapped = bytes.end <= size
                    && mappable.iter().any(|(o, s)| *o <= bytes.start && bytes.end <= o + s);
                let hole = trapped.iter().any(|(o, s)| *o < bytes.end && bytes.start < o + s && *s > 0);
                let is_direct =
                    direct.iter().any(|a| a.offset <= bytes.start && bytes.end <= a.offset + a.size);
                prop_assert_eq!(is_direct, mapped && !hole, "page {}", page);
            }
        }

        #[test]
        fn nonsense_is_survived(
            size in any::<u64>(),
            mappable in prop::collection::vec((any::<u64>(), any::<u64>()), 0..4),
            trapped in prop::collection::vec((any::<u64>(), any::<u64>()), 0..4),
            shift in 0..64_u32,
        ) {
            for area in direct_areas(&region(size, &mappable), &areas(&trapped), 1 << shift) {
                prop_assert!(area.size > 0 && area.offset + area.size <= size);
            }
        }
    }
}
