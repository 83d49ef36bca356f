//! The mapped bytes themselves.
#![expect(unsafe_code, reason = "mapping memory and touching it as a device or guest does")]

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rustix::io::Result;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

/// Bytes mapped in this process: `size` at `base`, which nothing in Rust borrows.
pub(super) struct Bytes {
    base: NonNull<u8>,
    size: usize,
    /// What keeps bytes mapped that are somebody else's; `None` when they are ours to unmap.
    owner: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: the bytes belong to no thread, and they are touched by volatile accesses only, as
// memory that other processes and devices change at any time has to be.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    pub(super) fn of_file(
        file: BorrowedFd<'_>,
        offset: u64,
        size: usize,
        writable: bool,
    ) -> Result<Self> {
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let base = unsafe { mmap(null_mut(), size, access, MapFlags::SHARED, file, offset) }?;
        Self::ours(base.cast(), size)
    }

    pub(super) fn anonymous(size: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so no existing mapping is replaced.
        let base = unsafe { mmap_anonymous(null_mut(), size, access, MapFlags::SHARED) }?;
        Self::ours(base.cast(), size)
    }

    fn ours(base: *mut u8, size: usize) -> Result<Self> {
        let base = NonNull::new(base).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { base, size, owner: None })
    }

    /// Region `index` of `memory`, which is kept as it is by the `Arc`.
    pub(super) fn of_guest_memory<M>(memory: &Arc<M>, index: usize) -> Option<Self>
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
    {
        let slice = memory.iter().nth(index)?.as_volatile_slice().ok()?;
        // The slice is valid as long as the memory is lent to us; the `Arc` in `owner` lends it,
        // shared and at one place, as long as it lives.
        let base = NonNull::new(slice.ptr_guard_mut().as_ptr())?;
        let owner: Arc<dyn Any + Send + Sync> = Arc::<M>::clone(memory);
        Some(Self { base, size: slice.len(), owner: Some(owner) })
    }

    pub(super) fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// One access of 1, 2, 4 or 8 bytes at `offset`, which the caller aligned and bounded.
    pub(super) fn load(&self, offset: usize, data: &mut [u8]) {
        let at = self.aligned(offset, data.len());
        // SAFETY: `aligned` saw that the bytes are mapped and aligned for the type.
        unsafe {
            match data.len() {
                1 => data.copy_from_slice(&at.read_volatile().to_ne_bytes()),
                2 => data.copy_from_slice(&at.cast::<u16>().read_volatile().to_ne_bytes()),
                4 => data.copy_from_slice(&at.cast::<u32>().read_volatile().to_ne_bytes()),
                _ => data.copy_from_slice(&at.cast::<u64>().read_volatile().to_ne_bytes()),
            }
        }
    }

    /// One access of 1, 2, 4 or 8 bytes at `offset`, which the caller aligned and bounded.
    pub(super) fn store(&self, offset: usize, data: &[u8]) {
        let at = self.aligned(offset, data.len());
        // SAFETY: `aligned` saw that the bytes are mapped and aligned for the type; the caller
        // saw that they may be written.
        unsafe {
            match *data {
                [a] => at.write_volatile(a),
                [a, b] => at.cast::<u16>().write_volatile(u16::from_ne_bytes([a, b])),
                [a, b, c, d] => {
                    at.cast::<u32>().write_volatile(u32::from_ne_bytes([a, b, c, d]));
                }
                [a, b, c, d, e, f, g, h] => {
                    at.cast::<u64>().write_volatile(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
                }
                _ => {}
            }
        }
    }

    /// Where `size` bytes at `offset` are. A caller that did not align or bound them is a bug in
    /// this module's parent, and ends here rather than in somebody's memory.
    fn aligned(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(matches!(size, 1 | 2 | 4 | 8), "an access of {size} bytes");
        assert!(offset <= self.size && size <= self.size - offset, "{size} bytes at {offset:#x}");
        // SAFETY: the offset lies inside of the mapping, as just checked.
        let at = unsafe { self.base.as_ptr().add(offset) };
        assert!((at as usize).is_multiple_of(size), "{size} bytes at {at:p}");
        at
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.owner.is_none() {
            // SAFETY: we mapped exactly these bytes, nobody else was given them, and whoever was
            // told their address keeps this value alive.
            // It cannot fail: these are whole pages that the kernel gave us.
            let _ = unsafe { munmap(self.base.as_ptr().cast(), self.size) };
        }
    }
}
