//! The newer interface's address space: an IOAS of iommufd (`/dev/iommu`, Linux 6.2).
//!
//! Debian's kernels up to 6.12 leave iommufd out, so what runs on them ends at the error that
//! `/dev/iommu` is missing; the ioctls follow `linux/iommufd.h`.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use iommufd_bindings::{iommu_destroy, iommu_ioas_alloc, iommu_ioas_unmap, iommu_iova_range};

use super::{Access, AddressSpace, Limits, VfioError, sys};
use crate::mapping::Mapping;

/// Most ranges that are read.
const MOST_RANGES: usize = 1 << 16;

/// An I/O address space that devices are attached to; its mappings end with it.
#[derive(Debug)]
pub struct Ioas {
    iommufd: OwnedFd,
    id: u32,
}

impl Ioas {
    /// Opens `/dev/iommu`, and makes an address space there.
    ///
    /// # Errors
    /// No iommufd, or no permission.
    pub fn open() -> Result<Self, VfioError> {
        Self::open_at(Path::new("/dev/iommu"))
    }

    fn open_at(path: &Path) -> Result<Self, VfioError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|source| {
            let advice = match source.kind() {
                std::io::ErrorKind::NotFound => {
                    "this kernel has no iommufd (CONFIG_IOMMUFD, Linux 6.2): use a container"
                }
                _ => "give this user the file, or run as root",
            };
            VfioError::Open { path: path.to_owned(), advice, source }
        })?;
        Self::of_file(file.into())
    }

    /// A new address space of `iommufd`, which somebody else opened.
    ///
    /// # Errors
    /// Not an iommufd.
    pub fn of_file(iommufd: OwnedFd) -> Result<Self, VfioError> {
        let mut argument = iommu_ioas_alloc::default();
        sys::call(iommufd.as_fd(), &mut argument)
            .map_err(VfioError::refused("making an address space of iommufd"))?;
        Ok(Self { iommufd, id: argument.out_ioas_id })
    }

    /// Its number in its iommufd.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// The iommufd.
impl AsFd for Ioas {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.iommufd.as_fd()
    }
}

impl Drop for Ioas {
    fn drop(&mut self) {
        let mut argument = iommu_destroy { id: self.id, ..Default::default() };
        // Devices hold what is attached to them. Whatever is left ends with the iommufd.
        if let Err(error) = sys::call(self.as_fd(), &mut argument) {
            tracing::debug!(ioas = self.id, %error, "an address space outlives its owner");
        }
    }
}

impl AddressSpace for Ioas {
    fn limits(&self) -> Result<Limits, VfioError> {
        let refused = || VfioError::refused("asking iommufd for the usable addresses");
        let mut room = 16;
        loop {
            let mut ranges = vec![iommu_iova_range::default(); room];
            let (alignment, count) =
                sys::iova_ranges(self.as_fd(), self.id, &mut ranges).map_err(refused())?;
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if count > room {
                if count > MOST_RANGES {
                    return Err(refused()(std::io::ErrorKind::OutOfMemory.into()));
                }
                room = count;
                continue;
            }
            let usable = ranges.iter().take(count).map(|range| (range.start, range.last));
            // iommufd names the alignment alone, and takes every larger page too.
            let page_sizes = alignment.checked_next_power_of_two().unwrap_or(4096).max(1);
            return Ok(Limits { page_sizes, usable: usable.collect(), mappings_left: None });
        }
    }

    fn map(&self, iova: u64, memory: &Mapping, access: Access) -> Result<(), VfioError> {
        sys::map_ioas(self.as_fd(), self.id, iova, memory, access).map_err(VfioError::refused(
            format!("mapping {:#x} bytes for DMA at {iova:#x}", memory.size()),
        ))
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<(), VfioError> {
        let mut argument =
            iommu_ioas_unmap { ioas_id: self.id, iova, length: size, ..Default::default() };
        sys::call(self.as_fd(), &mut argument)
            .map_err(VfioError::refused(format!("unmapping {size:#x} bytes for DMA at {iova:#x}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_without_iommufd_is_named() {
        let error = Ioas::open_at(Path::new("/dev/there-is-no-such-iommu")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/dev/there-is-no-such-iommu"), "{text}");
        assert!(text.contains("CONFIG_IOMMUFD"), "{text}");
    }

    #[test]
    fn other_files_are_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Ioas::of_file(file.into()), Err(VfioError::Refused { .. })));
    }
}
