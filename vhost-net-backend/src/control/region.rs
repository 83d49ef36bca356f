//! Memory regions a frontend wants mapped.
//!
//! vm-memory maps a region without looking at its file. A file shorter than the region, or one
//! made shorter later, kills the process at the first touch of what is missing (SIGBUS). So the
//! file must be long enough, of a kind that has a length, and sealed against shrinking.

use std::os::fd::AsFd;

use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat};
use zerocopy::native_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One memory region in a SET_MEM_TABLE or ADD_MEM_REG message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Region {
    /// Guest physical address.
    pub guest_address: U64,
    /// Bytes.
    pub size: U64,
    /// Address in the frontend.
    pub user_address: U64,
    /// Where the region starts in its file.
    pub file_offset: U64,
}

/// Why a region is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// The region has no bytes.
    #[error("The region is empty")]
    Empty,
    /// An address and the size overflow.
    #[error("The region wraps around the end of an address space")]
    Wraps,
    /// Not a regular file or memfd.
    #[error("The region's descriptor is not a memfd or a regular file")]
    Kind,
    /// The file ends before the region does.
    #[error("The region ends at byte {end} of a file of {len} bytes")]
    PastEnd {
        /// Where the region ends.
        end: u64,
        /// How long the file is.
        len: u64,
    },
    /// The file can be shrunk under the link.
    #[error(
        "The region's memfd lacks F_SEAL_SHRINK, so the frontend could crash this link; \
         use a VMM that seals its memory, or pass --unsealed for this end"
    )]
    Unsealed,
}

impl Region {
    /// Checks the numbers alone.
    pub fn check(&self) -> Result<(), RegionError> {
        let size = self.size.get();
        if size == 0 {
            return Err(RegionError::Empty);
        }
        for start in [self.guest_address, self.user_address, self.file_offset] {
            if start.get().checked_add(size).is_none() {
                return Err(RegionError::Wraps);
            }
        }
        Ok(())
    }

    /// Checks the region and the file it is to be mapped from.
    pub fn check_file(&self, file: impl AsFd, unsealed: bool) -> Result<(), RegionError> {
        self.check()?;
        let file = file.as_fd();
        let stat = fstat(file).map_err(|_| RegionError::Kind)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(RegionError::Kind);
        }
        let len = u64::try_from(stat.st_size).map_err(|_| RegionError::Kind)?;
        let end = self.file_offset.get() + self.size.get();
        if end > len {
            return Err(RegionError::PastEnd { end, len });
        }
        let sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if sealed || unsealed { Ok(()) } else { Err(RegionError::Unsealed) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    fn memfd(len: u64, seals: SealFlags) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("region", flags).unwrap());
        file.set_len(len).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    fn region(size: u64, offset: u64) -> Region {
        Region {
            guest_address: U64::new(0),
            size: U64::new(size),
            user_address: U64::new(0x7f00_0000_0000),
            file_offset: U64::new(offset),
        }
    }

    #[test]
    fn region_within_a_sealed_memfd_is_accepted() {
        let file = memfd(0x3000, SealFlags::SHRINK);
        assert_eq!(region(0x2000, 0x1000).check_file(&file, false), Ok(()));
    }

    #[test]
    fn region_longer_than_its_file_is_refused_sealed_or_not() {
        let file = memfd(0x2000, SealFlags::SHRINK);
        let error = RegionError::PastEnd { end: 0x3000, len: 0x2000 };
        assert_eq!(region(0x3000, 0).check_file(&file, false), Err(error));
        assert_eq!(region(0x2000, 0x1000).check_file(&file, true), Err(error));
    }

    #[test]
    fn unsealed_memfd_is_refused_unless_allowed() {
        let file = memfd(0x2000, SealFlags::GROW);
        assert_eq!(region(0x2000, 0).check_file(&file, false), Err(RegionError::Unsealed));
        assert_eq!(region(0x2000, 0).check_file(&file, true), Ok(()));
    }

    #[test]
    fn region_that_is_empty_or_wraps_is_refused() {
        let file = memfd(0x2000, SealFlags::SHRINK);
        assert_eq!(region(0, 0).check_file(&file, false), Err(RegionError::Empty));
        assert_eq!(region(0x1000, u64::MAX).check_file(&file, false), Err(RegionError::Wraps));
        let mut high = region(0x1000, 0);
        high.guest_address = U64::new(u64::MAX - 0xffe);
        assert_eq!(high.check_file(&file, false), Err(RegionError::Wraps));
        let mut high = region(0x1000, 0);
        high.user_address = U64::new(u64::MAX);
        assert_eq!(high.check_file(&file, false), Err(RegionError::Wraps));
    }

    #[test]
    fn descriptors_without_a_length_are_refused() {
        let zero = File::open("/dev/zero").unwrap();
        let directory = File::open("/").unwrap();
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let region = region(0x1000, 0);
        assert_eq!(region.check_file(&zero, true), Err(RegionError::Kind));
        assert_eq!(region.check_file(&directory, true), Err(RegionError::Kind));
        assert_eq!(region.check_file(&pipe, true), Err(RegionError::Kind));
        assert_eq!(region.check_file(&socket, true), Err(RegionError::Kind));
    }
}
