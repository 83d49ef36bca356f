//! A device's regions, and which parts of them can be mapped.

use std::io;
use std::os::fd::BorrowedFd;

use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
};

use super::capability::{chain, long, pairs, tidy, word};
use super::{Area, RegionInfo, VfioError, sys};

/// `struct vfio_region_info` without capabilities.
const HEADER: usize = 32;

/// Most bytes of capabilities that are read: thousands of sparse areas.
const MOST: usize = 1 << 20;

/// A region and where it is in its device's file.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub(super) info: RegionInfo,
    file_offset: u64,
}

impl Region {
    /// Asks for region `index`; one that the kernel does not know has size 0, so that the numbers
    /// of the others stay (a function without VGA has no region 8, but may have a 9).
    pub(super) fn query(device: BorrowedFd<'_>, name: &str, index: u32) -> Result<Self, VfioError> {
        let refused = || VfioError::refused(format!("asking {name} for region {index}"));
        let mut length = HEADER;
        // Twice: what the capabilities need is in the first answer. It does not change.
        for _ in 0..2 {
            let mut answer = vec![0; length];
            answer[8..12].copy_from_slice(&index.to_ne_bytes());
            match sys::call_tailed(device, sys::Tailed::RegionInfo, &mut answer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Ok(Self::default());
                }
                Err(error) => return Err(refused()(error)),
            }
            let wanted = word(&answer, 0).and_then(|size| usize::try_from(size).ok());
            match wanted {
                Some(wanted) if wanted > length && wanted <= MOST => length = wanted,
                _ => return Ok(Self::parse(&answer).unwrap_or_default()),
            }
        }
        Err(refused()(io::Error::other("its capabilities keep growing")))
    }

    /// `struct vfio_region_info`: argsz, flags, index, `cap_offset`, size, offset.
    fn parse(answer: &[u8]) -> Option<Self> {
        let flags = word(answer, 4)?;
        let size = long(answer, 16)?;
        let file_offset = long(answer, 24)?;
        // A region that wraps would make every sum of offsets wrap.
        file_offset.checked_add(size)?;
        let first = if flags & VFIO_REGION_INFO_FLAG_CAPS == 0 { 0 } else { word(answer, 12)? };
        let mut sparse = None;
        let mut msix_mappable = false;
        for (id, capability) in chain(answer, first) {
            match u32::from(id) {
                VFIO_REGION_INFO_CAP_SPARSE_MMAP => sparse = Some(pairs(capability)),
                VFIO_REGION_INFO_CAP_MSIX_MAPPABLE => msix_mappable = true,
                _ => {}
            }
        }
        let mappable = match sparse {
            _ if flags & VFIO_REGION_INFO_FLAG_MMAP == 0 => Vec::new(),
            Some(areas) => tidy(areas, size),
            None => tidy(vec![(0, size)], size),
        };
        let info = RegionInfo {
            size,
            readable: flags & VFIO_REGION_INFO_FLAG_READ != 0,
            writable: flags & VFIO_REGION_INFO_FLAG_WRITE != 0,
            mappable,
            msix_mappable,
        };
        Some(Self { info, file_offset })
    }

    /// Where `length` bytes at `offset` are in the device's file, if they are in the region.
    pub(super) fn position(&self, offset: u64, length: u64) -> Option<u64> {
        let end = offset.checked_add(length)?;
        (end <= self.info.size).then(|| self.file_offset.checked_add(offset)).flatten()
    }

    /// All of `area` lies in one of the areas that can be mapped, and has whole pages.
    pub(super) fn mappable(&self, area: Area) -> bool {
        let page = rustix::param::page_size() as u64;
        let Some(end) = area.offset.checked_add(area.size) else { return false };
        let inside = |whole: &Area| {
            whole.offset <= area.offset
                && whole.offset.checked_add(whole.size).is_some_and(|whole_end| end <= whole_end)
        };
        area.size > 0
            && area.offset.is_multiple_of(page)
            && area.size.is_multiple_of(page)
            && self.info.mappable.iter().any(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u32, capabilities: &[u32]) -> Vec<u8> {
        // BAR 3 with 16 KiB, as vfio-pci places it: index in bits 40 and up of the offset.
        let mut words = vec![32, flags, 3, 32, 0x4000, 0, 0, 3 << 8];
        words.extend(capabilities);
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn whole_bar_can_be_mapped() {
        let region = Region::parse(&answer(7, &[])).unwrap();
        assert_eq!(region.info.mappable, [Area { offset: 0, size: 0x4000 }]);
        assert!(region.mappable(Area { offset: 0x1000, size: 0x3000 }));
        assert!(!region.mappable(Area { offset: 0x1000, size: 0x4000 }));
        assert!(!region.mappable(Area { offset: 0x800, size: 0x1000 }));
        assert!(!region.mappable(Area { offset: u64::MAX - 0xfff, size: 0x1000 }));
        assert!(!region.mappable(Area { offset: 0, size: 0 }));
        assert_eq!(region.position(0x3ffc, 4), Some((3 << 40) + 0x3ffc));
        assert_eq!(region.position(0x3ffd, 4), None);
        assert_eq!(region.position(u64::MAX, 4), None);
    }

    #[test]
    fn io_ports_cannot() {
        let region = Region::parse(&answer(3, &[])).unwrap();
        assert!(region.info.mappable.is_empty());
        assert!(!region.mappable(Area { offset: 0, size: 0x1000 }));
    }

    #[test]
    fn sparse_areas_and_msix() {
        let capabilities = [
            1 | 1 << 16,
            80,
            2,
            0,
            0x2000,
            0,
            0x2000,
            0,
            0,
            0,
            0x1000,
            0, // sparse, next at 80
            3 | 1 << 16,
            0,
        ];
        let region = Region::parse(&answer(15, &capabilities)).unwrap();
        let areas = [Area { offset: 0, size: 0x1000 }, Area { offset: 0x2000, size: 0x2000 }];
        assert_eq!(region.info.mappable, areas);
        assert!(region.info.msix_mappable);
        assert!(!region.mappable(Area { offset: 0x1000, size: 0x1000 }));
    }
}
