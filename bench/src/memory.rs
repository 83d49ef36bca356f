//! A guest's memory: one region on a sealed memfd.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vm_memory::{FileOffset, MmapRegion};

use crate::sys::Mapping;

/// What everything that is allotted is aligned to, in bytes.
const PAGE: u64 = 4096;

/// Memory that a backend can map. Guest-physical addresses are offsets into it, from 0.
#[derive(Debug)]
pub struct GuestMemory {
    file: File,
    pub(crate) mapping: Mapping,
}

impl GuestMemory {
    /// Makes `len` bytes of memory, zero and not yet backed by pages.
    pub fn new(len: u64) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("netvm-bench guest", flags)?);
        file.set_len(len)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let size = usize::try_from(len).map_err(io::Error::other)?;
        let offset = FileOffset::new(file.try_clone()?, 0);
        let region = MmapRegion::from_file(offset, size).map_err(io::Error::other)?;
        Ok(Self { file, mapping: Mapping::new(region) })
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// The memfd, for the backend.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Allots memory from the bottom up, before there is any: first count, then make.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allotment(u64);

impl Allotment {
    /// The address of `len` bytes, at the start of a page.
    pub const fn take(&mut self, len: u64) -> u64 {
        let address = self.0;
        self.0 = (address + len).next_multiple_of(PAGE);
        address
    }

    /// Bytes allotted.
    pub const fn total(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn memory_cannot_be_shrunk() {
        let memory = GuestMemory::new(8192).unwrap();
        assert!(memory.file.set_len(4096).is_err());
        assert_eq!(memory.size(), 8192);
    }

    #[test]
    #[should_panic(expected = "field at 0xffe")]
    fn field_across_the_end_is_refused() {
        GuestMemory::new(4096).unwrap().mapping.load_u32(4094, Relaxed);
    }

    #[test]
    #[should_panic(expected = "2 bytes at 0xfff")]
    fn bytes_across_the_end_are_refused() {
        GuestMemory::new(4096).unwrap().mapping.write(4095, &[0; 2]);
    }

    #[test]
    fn allotment_is_by_pages() {
        let mut allotment = Allotment::default();
        assert_eq!((allotment.take(1), allotment.take(4096), allotment.take(5)), (0, 4096, 8192));
        assert_eq!(allotment.total(), 12288);
    }
}
