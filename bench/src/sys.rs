//! Raw access to memory that another process reads and writes at the same time.
//!
//! Every access is bounded here, so everything above is safe code. A wrong offset is a mistake of this crate,
//! whatever the other process does, and panics.
#![expect(unsafe_code, reason = "shared memory cannot be borrowed as Rust references")]

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use vm_memory::MmapRegion;

/// A mapping, accessed by byte offset.
#[derive(Debug)]
pub struct Mapping(MmapRegion<()>);

impl Mapping {
    /// Takes a mapping that is at least 8 bytes long.
    pub fn new(region: MmapRegion<()>) -> Self {
        assert!(region.size() >= size_of::<u64>(), "a mapping of {} bytes", region.size());
        Self(region)
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.size()
    }

    /// Where a `T` lies: inside, and aligned.
    #[inline(always)]
    fn field<T>(&self, offset: u64) -> *mut T {
        // `new` made sure that this does not underflow for what is accessed here.
        let last = self.0.size().wrapping_sub(size_of::<T>());
        assert!(
            offset <= last as u64 && offset.is_multiple_of(align_of::<T>() as u64),
            "field at {offset:#x}"
        );
        self.0.as_ptr().wrapping_add(usize::try_from(offset).unwrap_or(0)).cast()
    }

    /// Where `len` bytes lie.
    #[inline(always)]
    fn bytes(&self, offset: u64, len: usize) -> *mut u8 {
        let size = self.0.size() as u64;
        assert!(offset <= size && len as u64 <= size - offset, "{len} bytes at {offset:#x}");
        self.0.as_ptr().wrapping_add(usize::try_from(offset).unwrap_or(0))
    }

    /// Reads a 16-bit field.
    #[inline(always)]
    pub fn load_u16(&self, offset: u64, order: Ordering) -> u16 {
        // SAFETY: `field` gives a pointer into the mapping, which lives as long as `self`, aligned for the type; this
        // process accesses fields only atomically, and what another process does cannot break more than the value.
        u16::from_le(unsafe { AtomicU16::from_ptr(self.field(offset)) }.load(order))
    }

    /// Writes a 16-bit field.
    #[inline(always)]
    pub fn store_u16(&self, offset: u64, value: u16, order: Ordering) {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU16::from_ptr(self.field(offset)) }.store(value.to_le(), order);
    }

    /// Reads a 32-bit field.
    #[inline(always)]
    pub fn load_u32(&self, offset: u64, order: Ordering) -> u32 {
        // SAFETY: as in `load_u16`.
        u32::from_le(unsafe { AtomicU32::from_ptr(self.field(offset)) }.load(order))
    }

    /// Writes a 32-bit field.
    #[inline(always)]
    pub fn store_u32(&self, offset: u64, value: u32, order: Ordering) {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU32::from_ptr(self.field(offset)) }.store(value.to_le(), order);
    }

    /// Writes a 64-bit field.
    #[inline(always)]
    pub fn store_u64(&self, offset: u64, value: u64, order: Ordering) {
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU64::from_ptr(self.field(offset)) }.store(value.to_le(), order);
    }

    /// Copies bytes out.
    #[inline(always)]
    pub fn read(&self, offset: u64, to: &mut [u8]) {
        let from = self.bytes(offset, to.len());
        // SAFETY: `bytes` gives that many bytes of the mapping, and `to` is private memory, so they do not overlap.
        // Another process may write meanwhile; the bytes copied are then any, and only bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    /// Copies bytes in.
    #[inline(always)]
    pub fn write(&self, offset: u64, from: &[u8]) {
        let to = self.bytes(offset, from.len());
        // SAFETY: as in `read`, the other way.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }
}
