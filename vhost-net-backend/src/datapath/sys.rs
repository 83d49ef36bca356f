//! Raw access to memory that is shared with a guest: the only unsafe code of the packet path.
//!
//! Everything is bounds-checked here, whatever the callers have checked already. What another
//! processor writes meanwhile may make a value wrong, never an access invalid: ring fields are read
//! and written as atomics, all else is copied as plain bytes.
#![expect(unsafe_code, reason = "guest memory is reached by pointers")]

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

use super::header::{HEADER_LEN, HeaderWords};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// One region of guest memory, mapped for as long as this exists.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Owns the mapping.
    memory: Arc<GuestMemoryMmap>,
}

// SAFETY: `base` points into a mapping that `memory`, which is Send and Sync, keeps alive, and
// which belongs to no thread. All accesses are to plain bytes that others change at any time anyway.
unsafe impl Send for Mapping {}
// SAFETY: as above; no access goes through a Rust reference to the bytes, except for atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// The `index`-th region of `memory`, with its guest address and length.
    pub(super) fn new(memory: &Arc<GuestMemoryMmap>, index: usize) -> Option<(u64, u64, Self)> {
        let region = memory.iter().nth(index)?;
        let base = NonNull::new(region.as_ptr())?;
        let mapping = Self { base, len: region.size(), memory: Arc::clone(memory) };
        Some((region.start_addr().0, region.len(), mapping))
    }

    /// Where `len` bytes from `at` begin, if they lie in the mapping.
    #[inline]
    fn at(&self, at: usize, len: usize) -> Option<NonNull<u8>> {
        let end = at.checked_add(len)?;
        if end > self.len {
            return None;
        }
        // SAFETY: `at` is at most `self.len`, so the result is within the mapping or one past it.
        Some(unsafe { self.base.add(at) })
    }

    /// The `len` bytes at `at`, if they lie in the mapping.
    #[inline]
    pub(super) fn bytes(&self, at: usize, len: usize) -> Option<Bytes<'_>> {
        let first = self.at(at, len)?;
        Some(Bytes { first, len, _mapping: PhantomData })
    }

    /// Brings the lines closer that a header at `at` is in, and the next, if they are among the `len`
    /// bytes there.
    #[inline(always)]
    pub(super) fn prefetch(&self, at: usize, len: usize, to_write: bool) {
        let first = self.base.as_ptr().wrapping_add(at);
        // See `Bytes::write_header`.
        let apart = first.wrapping_add(HEADER_LEN).addr().is_multiple_of(LINE);
        prefetch(first, to_write && !apart);
        if len > LINE {
            prefetch(first.wrapping_add(LINE), to_write);
        }
        if len > 2 * LINE {
            prefetch(first.wrapping_add(2 * LINE), to_write);
        }
    }

    /// Brings the lines closer that are in these bytes, counted from `at`.
    #[inline]
    pub(super) fn prefetch_lines(&self, at: usize, bytes: Range<usize>, to_write: bool) {
        let first = self.base.as_ptr().wrapping_add(at);
        let mut line = bytes.start;
        while line < bytes.end {
            prefetch(first.wrapping_add(line), to_write);
            line = line.wrapping_add(LINE);
        }
    }

    /// Copies `len` bytes at `at` to `to_at` in `to`.
    pub(super) fn copy(&self, at: usize, to: &Self, to_at: usize, len: usize) -> Option<()> {
        let from = self.at(at, len)?;
        let to = to.at(to_at, len)?;
        // SAFETY: both ranges were checked to be mapped, writable as all guest memory is, and are
        // kept so.
        unsafe { copy_across(from, to, len) };
        Some(())
    }

    /// `count` consecutive atomics at `at`, kept mapped by the result; `None` if they are not all
    /// in this mapping or not aligned.
    pub(super) fn shared<A: Atomic>(&self, at: usize, count: usize) -> Option<Shared<A>> {
        let first = self.at(at, count.checked_mul(size_of::<A>())?)?.cast::<A>();
        first.is_aligned().then(|| Shared { first, count, _memory: Arc::clone(&self.memory) })
    }
}

/// Bytes of a mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a> {
    first: NonNull<u8>,
    len: usize,
    _mapping: PhantomData<&'a Mapping>,
}

impl Bytes<'_> {
    /// Where `len` bytes from `at` begin, if there are so many.
    #[inline]
    fn at(self, at: usize, len: usize) -> Option<NonNull<u8>> {
        if at > self.len || len > self.len - at {
            return None;
        }
        // SAFETY: `at` is at most `self.len`, so the result is within the mapping or one past it.
        Some(unsafe { self.first.add(at) })
    }

    /// Fills `to` from the bytes at `at`.
    #[inline]
    pub(super) fn read(self, at: usize, to: &mut [u8]) -> Option<()> {
        let from = self.at(at, to.len())?;
        // SAFETY: `to.len()` bytes from `from` are among these, which were checked to be mapped and
        // are kept so; `to` is private memory, so the two do not overlap.
        unsafe { copy(from, NonNull::from(&mut *to).cast(), to.len()) };
        // What is read from `to` later must not be fetched from the guest again.
        compiler_fence(Ordering::SeqCst);
        Some(())
    }

    /// The `N` bytes at `at`.
    #[inline]
    pub(super) fn read_array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let from = self.at(at, N)?;
        // SAFETY: `N` bytes from `from` are among these, which were checked to be mapped and are
        // kept so; an array of bytes has no alignment.
        let array = unsafe { from.cast::<[u8; N]>().read() };
        compiler_fence(Ordering::SeqCst);
        Some(array)
    }

    /// The virtio-net header that these begin with.
    #[inline(always)]
    pub(super) fn read_header(self) -> Option<HeaderWords> {
        Some(HeaderWords::parse(self.read_array(0)?, self.read_array(8)?))
    }

    /// Writes a virtio-net header to their beginning.
    ///
    /// One that is there already is left alone: most are the same, and many drivers have them in a
    /// cache line of their own, which both CPUs can keep as long as neither writes to it.
    #[inline(always)]
    pub(super) fn write_header(self, header: HeaderWords) -> Option<()> {
        if self.read_header()? != header {
            let (first, second) = header.to_bytes();
            self.write(0, &first)?;
            self.write(8, &second)?;
        }
        Some(())
    }

    /// The virtio-net header that these begin with, and the `N` words behind it.
    #[inline(always)]
    pub(super) fn read_head<const N: usize>(self) -> Option<(HeaderWords, [u64; N])> {
        let header = self.read_header()?;
        let from = self.at(HEADER_LEN, size_of::<[u64; N]>())?;
        // SAFETY: as many bytes from `from` are among these, which were checked to be mapped and are
        // kept so.
        let words = unsafe { from.cast::<[u64; N]>().read_unaligned() };
        compiler_fence(Ordering::SeqCst);
        Some((header, words.map(u64::from_le)))
    }

    /// Writes a header, as [`Bytes::write_header`] does, and the words behind it.
    #[inline(always)]
    pub(super) fn write_head<const N: usize>(
        self,
        header: HeaderWords,
        words: &[u64; N],
    ) -> Option<()> {
        let to = self.at(HEADER_LEN, size_of::<[u64; N]>())?;
        // SAFETY: as many bytes at `to` are among these, which were checked to be mapped, writable
        // as all guest memory is, and are kept so.
        unsafe { to.cast::<[u64; N]>().write_unaligned(words.map(u64::to_le)) };
        self.write_header(header)
    }

    /// Copies what lies between `at` and `end` to the same place in `to`.
    #[inline]
    pub(super) fn copy_tail(self, at: usize, to: Bytes<'_>, end: usize) -> Option<()> {
        let len = end.checked_sub(at)?;
        let (from, to) = (self.at(at, len)?, to.at(at, len)?);
        // SAFETY: both ranges were checked to be mapped, writable as all guest memory is, and are
        // kept so.
        unsafe { copy_across(from, to, len) };
        Some(())
    }

    /// Writes `from` to `at`.
    #[inline]
    pub(super) fn write(self, at: usize, from: &[u8]) -> Option<()> {
        let to = self.at(at, from.len())?;
        // SAFETY: `from.len()` bytes at `to` are among these, which were checked to be mapped,
        // writable as all guest memory is, and are kept so; `from` is private memory, so they do
        // not overlap.
        unsafe { copy(NonNull::from(from).cast(), to, from.len()) };
        Some(())
    }
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// Bytes that are copied without a call.
const FEW: usize = 256;

/// Copies `len` bytes.
///
/// A few are copied in pieces whose places and sizes depend on `len` alone. A frame's first bytes
/// are written to private memory and read from there soon after, often before they have left the
/// processor's store buffer: it hands over only what was stored in one piece, and else waits until
/// everything before it has been written, which for a guest's memory is long.
///
/// # Safety
/// `len` bytes at `from` are readable and `len` bytes at `to` writable, and they do not overlap.
#[inline(always)]
unsafe fn copy(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    if len >= FEW {
        // SAFETY: as the caller guarantees.
        unsafe { from.copy_to_nonoverlapping(to, len) };
        return;
    }
    let mut at = 0;
    macro_rules! pieces {
        ($($size:literal)*) => {$(
            if len & $size != 0 {
                // SAFETY: the sizes of the pieces, each a bit of `len`, add up to `len`, so all of
                // them lie within the bytes that the caller vouches for. Arrays of bytes have no
                // alignment.
                unsafe {
                    let piece = from.add(at).cast::<[u8; $size]>().read();
                    to.add(at).cast::<[u8; $size]>().write(piece);
                }
                at += $size;
            }
        )*};
    }
    pieces!(128 64 32 16 8 4 2 1);
    debug_assert_eq!(at, len);
}

/// Bytes from which on the processor copies by itself as fast as any loop, if it says it can.
#[cfg(target_arch = "x86_64")]
const MANY: usize = 2048;

/// Copies `len` bytes from one guest to another.
///
/// What is long is left to the processor. It need not fetch the lines first that it will overwrite,
/// as the C library's loop for pages does: a twentieth of the time of a GSO frame.
///
/// # Safety
/// `len` bytes at `from` are readable and `len` bytes at `to` writable. They may overlap, as they do
/// when two frontends share one file: then what is written is one or the other's.
#[inline]
unsafe fn copy_across(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if len >= MANY && std::arch::is_x86_feature_detected!("ermsb") {
        // SAFETY: as the caller guarantees; the direction flag is clear, as it always is in Rust;
        // nothing but memory and the three registers changes.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rsi") from.as_ptr() => _,
                inout("rdi") to.as_ptr() => _,
                options(nostack, preserves_flags)
            );
        }
        return;
    }
    // SAFETY: as the caller guarantees.
    unsafe { from.copy_to(to, len) };
}

/// Brings the line at `address` closer, to be read or written.
#[inline]
fn prefetch(address: *const u8, to_write: bool) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
        let line = address.cast();
        // SAFETY: a prefetch never faults, whatever the address; SSE is part of x86-64, and a
        // processor without PREFETCHW takes it for a NOP.
        unsafe {
            if to_write {
                _mm_prefetch::<_MM_HINT_ET0>(line);
            } else {
                _mm_prefetch::<_MM_HINT_T0>(line);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, to_write);
}

/// What rings are made of: integers, and pairs of them.
pub(super) trait Atomic: sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! atomics {
    ($($atomic:ty)*) => {$(
        impl sealed::Sealed for $atomic {}
        impl Atomic for $atomic {}
    )*};
}
atomics!(AtomicU16 [AtomicU32; 2] [AtomicU64; 2]);

/// An array of atomics in guest memory, mapped for as long as this exists.
#[derive(Debug)]
pub(super) struct Shared<A> {
    first: NonNull<A>,
    count: usize,
    /// Owns the mapping.
    _memory: Arc<GuestMemoryMmap>,
}

// SAFETY: as for `Mapping`; what it gives out are references to atomics, which any thread may use.
unsafe impl<A: Atomic> Send for Shared<A> {}

impl<A: Atomic> Shared<A> {
    /// All elements.
    #[inline]
    pub(super) const fn as_slice(&self) -> &[A] {
        // SAFETY: `count` aligned elements from `first` were checked to be mapped, and `_memory`
        // keeps them so for the lifetime of `self`, which bounds the reference. Every bit pattern
        // is a valid atomic, and others change it only as if by atomic accesses.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    /// Brings the line closer that the element at `index` is in, to be read or written.
    #[inline]
    pub(super) fn prefetch(&self, index: usize, to_write: bool) {
        if index < self.count {
            prefetch(self.first.as_ptr().wrapping_add(index).cast(), to_write);
        }
    }

    /// The element at `index`, if there is one.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&A> {
        self.as_slice().get(index)
    }
}
