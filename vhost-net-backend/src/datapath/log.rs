//! The dirty page log: which pages of a guest's memory the link has written, so that a VMM can
//! migrate the guest to another host while its card goes on (vhost-user specification,
//! "Migration").
//!
//! A bit stands for a page of 4096 bytes of guest physical memory, bit 0 of byte 0 for the page at
//! address 0. The VMM takes and clears bits at any time. So a bit is set *after* the write it
//! stands for, and always: to look first whether it is set already would need a fence as dear as
//! the setting.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Bytes of guest memory that one bit stands for (VHOST_LOG_PAGE).
pub const LOG_PAGE: u64 = 4096;

/// Why a dirty log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It has no bytes.
    #[error("The dirty log is empty")]
    Empty,
    /// Offset and size overflow.
    #[error("The dirty log's offset {offset:#x} and size {size:#x} overflow")]
    Wraps {
        /// Where it starts in its file.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// Not a memfd or a regular file.
    #[error("The dirty log's descriptor is not a memfd or a regular file")]
    Kind,
    /// The file ends before the log does.
    #[error("The dirty log ends at byte {end} of a file of {len} bytes")]
    PastEnd {
        /// Where the log ends.
        end: u64,
        /// How long the file is.
        len: u64,
    },
    /// The file can be shrunk under the link.
    #[error(
        "The dirty log's memfd lacks F_SEAL_SHRINK, so the frontend could crash this link; \
         use a VMM that seals it, or pass --unsealed for this end"
    )]
    Unsealed,
    /// The system does not map it.
    #[error("The dirty log cannot be mapped: {0}")]
    Map(String),
}

/// A mapped dirty log.
#[derive(Debug)]
pub struct DirtyLog {
    map: MmapRegion,
}

impl DirtyLog {
    /// Maps `size` bytes of `file` from `offset`, which must be a multiple of the system's page
    /// size. `unsealed` allows a file without F_SEAL_SHRINK.
    pub fn map(file: File, offset: u64, size: u64, unsealed: bool) -> Result<Self, LogError> {
        let size = NonZeroU64::new(size).ok_or(LogError::Empty)?.get();
        let end = offset.checked_add(size).ok_or(LogError::Wraps { offset, size })?;
        let stat = fstat(&file).map_err(|_| LogError::Kind)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(LogError::Kind);
        }
        let len = u64::try_from(stat.st_size).map_err(|_| LogError::Kind)?;
        if end > len {
            return Err(LogError::PastEnd { end, len });
        }
        if !unsealed && !is_sealed(&file) {
            return Err(LogError::Unsealed);
        }
        let size = usize::try_from(size).map_err(|_| LogError::Wraps { offset, size })?;
        let map = MmapRegion::from_file(FileOffset::new(file, offset), size)
            .map_err(|error| LogError::Map(error.to_string()))?;
        Ok(Self { map })
    }

    /// Whether there is a bit for each page of the `len` bytes at `guest_address`.
    pub fn covers(&self, guest_address: u64, len: u64) -> bool {
        let Some(past) = len.checked_sub(1) else {
            return true;
        };
        guest_address
            .checked_add(past)
            .is_some_and(|last| last / LOG_PAGE / 8 < self.map.size() as u64)
    }

    /// Marks the pages of the `len` bytes at `guest_address`, which have just been written. Pages
    /// for which the log has no bit are left out: see [`DirtyLog::covers`].
    pub fn mark(&self, guest_address: u64, len: u64) {
        let Some(past) = len.checked_sub(1) else {
            return;
        };
        let mut page = guest_address / LOG_PAGE;
        let last = guest_address.saturating_add(past) / LOG_PAGE;
        while page <= last {
            let byte = page / 8;
            let last_here = last.min(byte * 8 + 7);
            let Ok(offset) = usize::try_from(byte) else {
                return;
            };
            // Bits page % 8 to last_here % 8.
            let mask = (u8::MAX << (page % 8)) & (u8::MAX >> (7 - last_here % 8));
            let Ok(bits) = self.map.get_atomic_ref::<AtomicU8>(offset) else {
                return;
            };
            // Release: whoever sees the bit sees the write to the page.
            bits.fetch_or(mask, Ordering::Release);
            page = last_here + 1;
        }
    }
}

fn is_sealed(file: impl AsFd) -> bool {
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    use super::*;

    fn memfd(len: u64, seals: SealFlags) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("log", flags).unwrap());
        file.set_len(len).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    /// A log of `size` bytes at an offset of 4096, and its file.
    fn log(size: u64) -> (DirtyLog, File) {
        let file = memfd(4096 + size, SealFlags::SHRINK);
        (DirtyLog::map(file.try_clone().unwrap(), 4096, size, false).unwrap(), file)
    }

    /// Numbers of the pages marked, as the other side of the mapping sees them.
    fn marked(file: &File, size: u64) -> Vec<u64> {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        let bit = |page: &u64| bytes[usize::try_from(page / 8).unwrap()] >> (page % 8) & 1 == 1;
        (0..size * 8).filter(bit).collect()
    }

    #[test]
    fn every_page_touched_is_marked_and_no_other() {
        // Against the obvious model, for ranges around page and byte borders.
        for start in [0, 1, 4095, 4096, 7 * 4096, 8 * 4096 - 1, 15 * 4096 + 5] {
            for len in [0, 1, 2, 4095, 4096, 4097, 8 * 4096, 17 * 4096 + 1] {
                let (log, file) = log(8);
                log.mark(start, len);
                let expected: Vec<u64> = (0..64)
                    .filter(|page| page * 4096 < start + len && (page + 1) * 4096 > start)
                    .filter(|_| len > 0)
                    .collect();
                assert_eq!(marked(&file, 8), expected, "{start} {len}");
            }
        }
    }

    #[test]
    fn marks_add_up_and_bits_of_others_stay() {
        let (log, file) = log(2);
        file.write_all_at(&[0x80], 4096).unwrap();
        log.mark(0, 1);
        log.mark(2 * 4096, 1);
        assert_eq!(marked(&file, 2), [0, 2, 7]);
    }

    #[test]
    fn t59_pages_past_the_log_are_left_out() {
        let (log, file) = log(1);
        log.mark(8 * 4096, 4096);
        log.mark(u64::MAX, 1);
        log.mark(u64::MAX - 10, u64::MAX);
        log.mark(7 * 4096, 1 << 40);
        assert_eq!(marked(&file, 1), [7]);
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut &file, &mut rest).unwrap();
        assert!(rest.iter().take(4096).all(|byte| *byte == 0));
    }

    #[test]
    fn coverage_ends_with_the_last_bit() {
        let (log, _file) = log(2);
        assert!(log.covers(0, 16 * 4096));
        assert!(!log.covers(0, 16 * 4096 + 1));
        assert!(log.covers(15 * 4096, 4096));
        assert!(!log.covers(16 * 4096, 1));
        assert!(!log.covers(u64::MAX, 2));
        assert!(log.covers(u64::MAX, 0));
    }

    #[test]
    fn t59_logs_that_must_not_be_mapped() {
        let sealed = || memfd(8192, SealFlags::SHRINK);
        let map = |file, offset, size| DirtyLog::map(file, offset, size, false);
        assert!(matches!(map(sealed(), 0, 0), Err(LogError::Empty)));
        assert!(matches!(map(sealed(), u64::MAX, 1), Err(LogError::Wraps { .. })));
        assert!(matches!(map(sealed(), 4096, u64::MAX), Err(LogError::Wraps { .. })));
        assert!(matches!(map(sealed(), 0, 8193), Err(LogError::PastEnd { .. })));
        assert!(matches!(map(sealed(), 4096, 4097), Err(LogError::PastEnd { .. })));
        assert!(matches!(map(sealed(), 1, 4096), Err(LogError::Map(_))), "offset within a page");
        let unsealed = memfd(8192, SealFlags::GROW);
        assert!(matches!(map(unsealed, 0, 8192), Err(LogError::Unsealed)));
        let unsealed = memfd(8192, SealFlags::GROW);
        assert!(DirtyLog::map(unsealed, 0, 8192, true).is_ok());
        assert!(matches!(map(File::open("/dev/zero").unwrap(), 0, 1), Err(LogError::Kind)));
        assert!(matches!(map(File::open("/").unwrap(), 0, 1), Err(LogError::Kind)));
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        assert!(matches!(map(File::from(pipe), 0, 1), Err(LogError::Kind)));
    }
}
