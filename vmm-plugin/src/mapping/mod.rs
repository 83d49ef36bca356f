//! Memory of this process that somebody else is shown: a device's registers to a guest, a
//! guest's memory to a device.

mod sys;

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use vm_memory::GuestMemoryBackend;

use self::sys::Bytes;

/// Bytes that stay mapped in this process as long as this lives.
///
/// They are shared with a device or a guest, so they are only ever read and written whole and
/// volatile, never borrowed. Bounds are checked on every access.
///
/// A mapped file that is shortened, and a PCI BAR whose function has memory decoding off, kill
/// the process with `SIGBUS` when they are touched: read and write registers through
/// [`Device`](crate::vfio::Device), which answers with an error instead, and leave these
/// mappings to the guest, where the hypervisor catches it.
pub struct Mapping {
    bytes: Bytes,
    writable: bool,
    /// What they are of, and where in it they begin.
    file: Option<(Arc<OwnedFd>, u64)>,
}

impl Mapping {
    /// `size` bytes of `file` from `offset`, shared with everybody who maps them too.
    ///
    /// `offset` is a multiple of the page size.
    ///
    /// # Errors
    /// `size` is 0, or the kernel refuses.
    pub fn of_file(
        file: &Arc<OwnedFd>,
        offset: u64,
        size: u64,
        writable: bool,
    ) -> Result<Self, MappingError> {
        let bytes = Bytes::of_file(file.as_fd(), offset, in_memory(size)?, writable)
            .map_err(|source| MappingError::Refused { size, source: source.into() })?;
        Ok(Self { bytes, writable, file: Some((Arc::clone(file), offset)) })
    }

    /// `size` bytes of zeros that belong to nobody else yet.
    ///
    /// # Errors
    /// `size` is 0, or the kernel refuses.
    pub fn anonymous(size: u64) -> Result<Self, MappingError> {
        let bytes = Bytes::anonymous(in_memory(size)?)
            .map_err(|source| MappingError::Refused { size, source: source.into() })?;
        Ok(Self { bytes, writable: true, file: None })
    }

    /// Region `index` of a guest's memory, in the order of [`GuestMemoryBackend::iter`]; `None`
    /// when there is no such region, or it is not mapped in this process.
    #[must_use]
    pub fn of_guest_memory<M>(memory: &Arc<M>, index: usize) -> Option<Self>
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
    {
        let bytes = Bytes::of_guest_memory(memory, index)?;
        Some(Self { bytes, writable: true, file: None })
    }

    /// Length in bytes, at least 1 except for an empty region of guest memory.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes.size() as u64
    }

    /// Where the bytes are in this process: what `KVM_SET_USER_MEMORY_REGION` and
    /// `VFIO_IOMMU_MAP_DMA` are told. Valid as long as this lives.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.bytes.address() as u64
    }

    /// The file whose bytes these are, and where in it they begin, in bytes: all that somebody needs
    /// who maps them once more, in another process for instance. `None` for memory of no file, and
    /// for a guest's, of which the VMM knows the file.
    #[must_use]
    pub fn file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        self.file.as_ref().map(|(file, offset)| (file.as_fd(), *offset))
    }

    /// It may be written.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Reads `data.len()` bytes at `offset`.
    ///
    /// 1, 2, 4 and 8 bytes at a multiple of their length are one access; everything else is
    /// split into such.
    ///
    /// # Errors
    /// Out of bounds; `data` is as it was then.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), MappingError> {
        let mut at = self.bounds(offset, data.len())?;
        let base = self.bytes.address();
        let mut rest = data;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at_mut(piece_size(base + at, rest.len()));
            self.bytes.load(at, piece);
            at += piece.len();
            rest = after;
        }
        Ok(())
    }

    /// Writes `data` at `offset`, split as [`Mapping::read`] does.
    ///
    /// # Errors
    /// Out of bounds, or mapped to be read only; nothing is written then.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), MappingError> {
        if !self.writable {
            return Err(MappingError::ReadOnly);
        }
        let mut at = self.bounds(offset, data.len())?;
        let base = self.bytes.address();
        let mut rest = data;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece_size(base + at, rest.len()));
            self.bytes.store(at, piece);
            at += piece.len();
            rest = after;
        }
        Ok(())
    }

    /// `offset` as a position, if `length` bytes fit behind it.
    fn bounds(&self, offset: u64, length: usize) -> Result<usize, MappingError> {
        let out = MappingError::OutOfBounds { offset, length, size: self.size() };
        let Ok(at) = usize::try_from(offset) else { return Err(out) };
        match at.checked_add(length) {
            Some(end) if end <= self.bytes.size() => Ok(at),
            _ => Err(out),
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({:#x} bytes at {:#x})", self.size(), self.address())
    }
}

/// The longest access of at most 8 bytes and `left` that is aligned at `at`.
fn piece_size(at: usize, left: usize) -> usize {
    let aligned = at.trailing_zeros().min(3);
    let fits = left.checked_ilog2().unwrap_or(0).min(3);
    left.min(1 << aligned.min(fits))
}

fn in_memory(size: u64) -> Result<usize, MappingError> {
    usize::try_from(size).ok().filter(|size| *size > 0).ok_or(MappingError::Size { size })
}

/// Why memory could not be mapped or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// Not a length that can be mapped.
    #[error("{size:#x} bytes cannot be mapped")]
    Size {
        /// The length.
        size: u64,
    },
    /// `mmap` failed.
    #[error("the kernel does not map {size:#x} bytes: {source}")]
    Refused {
        /// The length.
        size: u64,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// Beyond the end.
    #[error("{length} bytes at {offset:#x} are beyond the end of {size:#x} mapped bytes")]
    OutOfBounds {
        /// Where.
        offset: u64,
        /// How many bytes.
        length: usize,
        /// How many bytes are mapped.
        size: u64,
    },
    /// Written, but mapped to be read.
    #[error("this memory is mapped to be read only")]
    ReadOnly,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::io::{Read as _, Seek as _, Write as _};
    use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

    use super::*;

    #[test]
    fn accesses_are_aligned_and_end_with_the_data() {
        for at in 0..32 {
            for left in 1..20 {
                let size = piece_size(at, left);
                assert!(size >= 1 && size <= left && size.is_power_of_two());
                assert!(at.is_multiple_of(size), "{size} bytes at {at}");
            }
        }
        assert_eq!(piece_size(8, 8), 8);
        assert_eq!(piece_size(4, 8), 4);
        assert_eq!(piece_size(2, 2), 2);
        assert_eq!(piece_size(16, 7), 4);
    }

    #[test]
    fn file_and_mapping_are_the_same_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        let shared = Arc::new(file.try_clone().unwrap().into());
        let mapping = Mapping::of_file(&shared, 4096, 4096, true).unwrap();
        mapping.write(1, &[1, 2, 3]).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes[4096..4101], [7, 1, 2, 3, 7]);
    }

    #[test]
    fn read_only_is_not_written() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4096]).unwrap();
        let mapping = Mapping::of_file(&Arc::new(file.into()), 0, 4096, false).unwrap();
        assert!(matches!(mapping.write(0, &[1]), Err(MappingError::ReadOnly)));
        let mut byte = [0];
        mapping.read(4095, &mut byte).unwrap();
        assert_eq!(byte, [7]);
    }

    #[test]
    fn guest_memory_lives_as_long_as_its_mapping() {
        let ranges = [(GuestAddress(0), 4096), (GuestAddress(1 << 32), 8192)];
        let memory = Arc::new(GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap());
        memory.write_obj(0x1122_3344_u32, GuestAddress((1 << 32) + 8)).unwrap();
        let mapping = Mapping::of_guest_memory(&memory, 1).unwrap();
        assert!(Mapping::of_guest_memory(&memory, 2).is_none());
        drop(memory);
        let mut data = [0; 4];
        mapping.read(8, &mut data).unwrap();
        assert_eq!(u32::from_le_bytes(data), 0x1122_3344);
        assert_eq!(mapping.size(), 8192);
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(matches!(Mapping::anonymous(0), Err(MappingError::Size { size: 0 })));
        assert!(matches!(Mapping::anonymous(u64::MAX), Err(MappingError::Refused { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_bounds_hold(
            offset in prop_oneof![0..5000_u64, any::<u64>()],
            data in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mapping = Mapping::anonymous(4096).unwrap();
            let inside = offset.checked_add(data.len() as u64).is_some_and(|end| end <= 4096);
            prop_assert_eq!(mapping.write(offset, &data).is_ok(), inside);
            let mut back = vec![0xa5; data.len()];
            prop_assert_eq!(mapping.read(offset, &mut back).is_ok(), inside);
            if inside {
                prop_assert_eq!(back, data);
            }
        }
    }
}
