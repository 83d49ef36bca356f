//! A guest's memory as the packet path uses it: a small table of regions, looked up without locks.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use super::header::{HEADER_LEN, HeaderWords};
use super::log::DirtyLog;
use super::sys::{Atomic, Bytes, LINE, Mapping, Shared};

/// How far ahead of its use a frame is brought closer: an Ethernet frame of the usual size. More
/// would push out what was fetched before.
const MAX_AHEAD: usize = 1536;

/// A guest's memory. It stays mapped as long as this, or a ring that was attached to it, exists.
#[derive(Debug)]
pub struct Memory {
    regions: Vec<Region>,
    /// The region of the last address: most addresses are in the same one.
    last: AtomicUsize,
    /// Where pages are marked that were written, while the VMM wants that.
    log: Option<Arc<DirtyLog>>,
}

#[derive(Debug)]
struct Region {
    /// Guest address of the first byte.
    start: u64,
    /// Bytes; the region does not wrap.
    len: u64,
    mapping: Mapping,
}

impl Region {
    #[inline]
    fn segment(&self, index: usize, offset: u64, len: u32) -> Option<Segment> {
        #[expect(clippy::cast_possible_truncation, reason = "there are at most 509 regions")]
        let region = index as u32;
        Some(Segment { region, len, offset: usize::try_from(offset).ok()? })
    }
}

/// A region, for quick lookups.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    start: u64,
    len: u64,
    region: u32,
}

impl Area {
    /// The `len` bytes at `address`, if there are any and all are in this region.
    #[inline]
    pub fn segment(&self, address: u64, len: u32) -> Option<Segment> {
        let offset = address.wrapping_sub(self.start);
        if offset >= self.len || u64::from(len) > self.len - offset || len == 0 {
            return None;
        }
        Some(Segment { region: self.region, len, offset: usize::try_from(offset).ok()? })
    }
}

/// A memory with a region in hand, for many segments in a row: nearly all are in the same one.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    memory: &'a Memory,
    region: u32,
    mapping: &'a Mapping,
}

impl<'a> Window<'a> {
    /// The bytes of a segment, if they are mapped.
    #[inline(always)]
    pub(super) fn bytes(&mut self, segment: &Segment) -> Option<Bytes<'a>> {
        if segment.region != self.region {
            self.mapping = self.memory.mapping(segment)?;
            self.region = segment.region;
        }
        self.mapping.bytes(segment.offset, segment.len())
    }

    /// Brings the lines of `segment` closer that a header and the head of a frame are in, if they
    /// are among the first `len` bytes.
    #[inline(always)]
    pub(super) fn prefetch(&self, segment: &Segment, len: usize, to_write: bool) {
        if segment.region == self.region {
            self.mapping.prefetch(segment.offset, len, to_write);
        }
    }

    /// Brings the lines of `segment` closer that lie behind those, up to `len` bytes.
    #[inline]
    pub(super) fn prefetch_tail(&self, segment: &Segment, len: usize, to_write: bool) {
        if segment.region == self.region {
            self.mapping.prefetch_lines(segment.offset, segment.tail(len), to_write);
        }
    }
}

/// A piece of guest memory within one region, checked to be mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    region: u32,
    /// Bytes.
    len: u32,
    /// From the start of the region.
    offset: usize,
}

impl Segment {
    /// Bytes.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// The same, as rings have it.
    pub const fn len_u32(&self) -> u32 {
        self.len
    }

    /// Where the lines are, of its first `len` bytes, that lie behind those fetched first.
    #[inline]
    fn tail(&self, len: usize) -> Range<usize> {
        3 * LINE..len.min(self.len()).min(MAX_AHEAD)
    }

    /// Both in one, if `next` begins where this one ends.
    #[inline]
    pub fn joined(&self, next: &Self) -> Option<Self> {
        let is_next = self.region == next.region
            && self.offset.checked_add(self.len()).is_some_and(|end| end == next.offset);
        let len = self.len.checked_add(next.len).filter(|_| is_next)?;
        Some(Self { len, ..*self })
    }

    /// Whether it has no byte; no segment of a chain is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Memory {
    /// The regions of `memory`, whose pages are marked in `log` when they are written.
    pub fn new(memory: &Arc<GuestMemoryMmap>, log: Option<Arc<DirtyLog>>) -> Self {
        let regions = (0..memory.num_regions())
            .filter_map(|index| Mapping::new(memory, index))
            .map(|(start, len, mapping)| Region { start, len, mapping })
            .collect();
        Self { regions, last: AtomicUsize::new(0), log }
    }

    /// Marks pages written from now on in `log`.
    pub fn set_log(&mut self, log: Option<Arc<DirtyLog>>) {
        self.log = log;
    }

    /// Whether pages written are marked.
    #[inline]
    pub const fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// The region `address` is in, its index, and the offset of `address` in it.
    #[inline]
    fn find(&self, address: u64) -> Option<(usize, &Region, u64)> {
        let last = self.last.load(Ordering::Relaxed);
        if let Some(region) = self.regions.get(last)
            && let offset = address.wrapping_sub(region.start)
            && offset < region.len
        {
            return Some((last, region, offset));
        }
        self.search(address)
    }

    #[cold]
    fn search(&self, address: u64) -> Option<(usize, &Region, u64)> {
        // vm-memory keeps regions sorted by address, and apart.
        let index =
            self.regions.partition_point(|region| region.start <= address).checked_sub(1)?;
        let region = self.regions.get(index)?;
        let offset = address.checked_sub(region.start).filter(|offset| *offset < region.len)?;
        self.last.store(index, Ordering::Relaxed);
        Some((index, region, offset))
    }

    /// Calls `piece` with each piece of `len` bytes at `address`, in order: one, or several if they
    /// go over from one region to the next. Returns `None` if not all of them are mapped.
    #[inline(always)]
    pub fn locate(&self, address: u64, len: u32, mut piece: impl FnMut(Segment)) -> Option<()> {
        let (index, region, offset) = match self.find(address) {
            // Nearly always.
            Some(found) if u64::from(len) <= found.1.len.wrapping_sub(found.2) => found,
            _ => return self.locate_apart(address, len, &mut piece),
        };
        if len > 0 {
            piece(region.segment(index, offset, len)?);
        }
        Some(())
    }

    /// The same for what is empty, in several regions, or not mapped.
    #[cold]
    fn locate_apart(
        &self,
        mut address: u64,
        len: u32,
        piece: &mut dyn FnMut(Segment),
    ) -> Option<()> {
        let mut left = len;
        while left > 0 {
            let (index, region, offset) = self.find(address)?;
            let room = region.len.wrapping_sub(offset);
            let len = u32::try_from(room).map_or(left, |room| left.min(room));
            piece(region.segment(index, offset, len)?);
            left -= len;
            if left > 0 {
                address = address.checked_add(u64::from(len))?;
            }
        }
        Some(())
    }

    /// Whether `len` bytes at `address` are mapped.
    pub fn is_mapped(&self, address: u64, len: u32) -> bool {
        self.locate(address, len, |_| ()).is_some()
    }

    /// The region of the last address that was looked up, as if a segment began with its first
    /// byte: for those who look up many addresses in a row.
    #[inline]
    pub fn recent(&self) -> Option<Area> {
        let index = self.last.load(Ordering::Relaxed);
        let region = self.regions.get(index)?;
        #[expect(clippy::cast_possible_truncation, reason = "there are at most 509 regions")]
        Some(Area { start: region.start, len: region.len, region: index as u32 })
    }

    /// The memory with the region of the last address in hand.
    #[inline]
    pub fn window(&self) -> Option<Window<'_>> {
        let region = self.recent()?.region;
        let mapping = &self.regions.get(region as usize)?.mapping;
        Some(Window { memory: self, region, mapping })
    }

    #[inline]
    fn mapping(&self, segment: &Segment) -> Option<&Mapping> {
        Some(&self.regions.get(segment.region as usize)?.mapping)
    }

    #[inline]
    fn bytes(&self, segment: &Segment) -> Option<Bytes<'_>> {
        self.mapping(segment)?.bytes(segment.offset, segment.len())
    }

    /// The guest address of a segment's first byte.
    pub fn address(&self, segment: &Segment) -> Option<u64> {
        let region = self.regions.get(segment.region as usize)?;
        region.start.checked_add(segment.offset as u64)
    }

    /// Fills `to` from `segment`, beginning `skip` bytes into it.
    #[inline]
    pub fn read(&self, segment: &Segment, skip: usize, to: &mut [u8]) -> Option<()> {
        self.bytes(segment)?.read(skip, to)
    }

    /// The virtio-net header that `segment` begins with; the bytes behind it fill `to`.
    #[inline]
    pub fn read_frame(&self, segment: &Segment, to: &mut [u8]) -> Option<HeaderWords> {
        let bytes = self.bytes(segment)?;
        bytes.read(HEADER_LEN, to)?;
        bytes.read_header()
    }

    /// Writes `from` to `segment`, beginning `skip` bytes into it.
    #[inline]
    pub fn write(&self, segment: &Segment, skip: usize, from: &[u8]) -> Option<()> {
        self.bytes(segment)?.write(skip, from)?;
        self.mark_segment(segment);
        Some(())
    }

    /// Writes a virtio-net header to the beginning of `segment`, and `from` behind it.
    #[inline]
    pub fn write_frame(&self, segment: &Segment, header: HeaderWords, from: &[u8]) -> Option<()> {
        let bytes = self.bytes(segment)?;
        bytes.write(HEADER_LEN, from)?;
        bytes.write_header(header)?;
        self.mark_segment(segment);
        Some(())
    }

    /// Copies `len` bytes of `segment`, `skip` bytes into it, to `to_segment` of another guest,
    /// `to_skip` bytes into that.
    pub fn copy(
        &self,
        (segment, skip): (&Segment, usize),
        to: &Self,
        (to_segment, to_skip): (&Segment, usize),
        len: usize,
    ) -> Option<()> {
        let from_at = segment.offset.checked_add(skip)?;
        let to_at = to_segment.offset.checked_add(to_skip)?;
        self.mapping(segment)?.copy(from_at, to.mapping(to_segment)?, to_at, len)?;
        to.mark_segment(to_segment);
        Some(())
    }

    /// Brings the lines of `segment` closer that a header and the lead of a frame are in, if they
    /// are among the first `len` bytes.
    #[inline]
    pub fn prefetch(&self, segment: &Segment, len: usize, to_write: bool) {
        if let Some(mapping) = self.mapping(segment) {
            mapping.prefetch(segment.offset, len, to_write);
        }
    }

    /// Brings the lines of `segment` closer that lie behind those, up to `len` bytes.
    pub fn prefetch_tail(&self, segment: &Segment, len: usize, to_write: bool) {
        if let Some(mapping) = self.mapping(segment) {
            mapping.prefetch_lines(segment.offset, segment.tail(len), to_write);
        }
    }

    /// Notes that `len` bytes at `address` were written, other than through [`Memory::write`] and
    /// [`Memory::copy`].
    #[inline]
    pub fn mark(&self, address: u64, len: u64) {
        if let Some(log) = &self.log {
            log.mark(address, len);
        }
    }

    #[inline]
    fn mark_segment(&self, segment: &Segment) {
        if self.log.is_some()
            && let Some(address) = self.address(segment)
        {
            self.mark(address, segment.len() as u64);
        }
    }

    /// `count` atomics at `address`; all must be in one region and aligned.
    pub(super) fn shared<A: Atomic>(&self, address: u64, count: usize) -> Option<Shared<A>> {
        let (_, region, offset) = self.find(address)?;
        region.mapping.shared(usize::try_from(offset).ok()?, count)
    }
}
