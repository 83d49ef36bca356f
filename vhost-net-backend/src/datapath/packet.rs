//! A frame on its way.
//!
//! The header and the first bytes are copied into private memory once. The verdict and the delivery
//! both use that copy, so a guest that changes its buffer meanwhile changes nothing. The rest stays
//! where it is, and is copied once, straight into the receiver's buffers, unless somebody needs to
//! look at it first: then it is [pulled](Packet::pull) in.

use super::carry::Outgoing;
use super::drop_reason::DropReason;
use super::header::{HEADER_LEN, HeaderWords, LEGACY_HEADER_LEN};
use super::memory::{Memory, Segment};

/// Bytes of a frame that are copied into private memory in any case.
pub const LEAD: usize = 128;
/// The longest frame: what IP can make of it, behind an Ethernet header with a VLAN tag.
pub const MAX_FRAME: usize = 65535 + 18;
/// The shortest frame delivered, without its frame check sequence: IEEE 802.3 has it padded, and
/// what lies behind a shorter one in the receiver's buffer would be taken for it.
pub const MIN_FRAME: usize = 60;

/// Where the bytes of a frame are that are not in private memory.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// None for a frame that came through a system call: it is all private.
    pub source: Option<(&'a Memory, &'a [Segment])>,
    /// How many bytes of the first segment are private already.
    pub skip: usize,
}

/// The private copy of one frame at a time.
#[derive(Debug)]
pub struct Packet {
    /// Room for a header, and behind it a frame.
    bytes: Box<[u8]>,
    header: HeaderWords,
    /// Length of the frame.
    len: usize,
    /// Bytes of it that are private.
    private: usize,
    /// The first byte that is not: segment of the chain, and offset in it.
    next: (usize, usize),
}

impl Default for Packet {
    fn default() -> Self {
        Self {
            bytes: vec![0; HEADER_LEN + MAX_FRAME + 1].into_boxed_slice(),
            header: HeaderWords::default(),
            len: 0,
            private: 0,
            next: (0, 0),
        }
    }
}

impl Packet {
    /// Starts on a frame of `total` bytes, its virtio-net header of `header_len` bytes included,
    /// that lies in `segments` of `memory`.
    #[inline]
    pub fn load(
        &mut self,
        memory: &Memory,
        segments: &[Segment],
        total: u64,
        header_len: usize,
    ) -> Result<(), DropReason> {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        self.len = total.checked_sub(header_len).ok_or(DropReason::HeaderShort)?;
        self.next = (0, 0);
        if self.len > MAX_FRAME {
            return Err(DropReason::FrameLong);
        }
        self.private = self.len.min(LEAD);
        let end = HEADER_LEN.wrapping_add(self.private);
        if header_len == HEADER_LEN
            && let Some(first) = segments.first()
            && first.len() >= end
        {
            // Nearly always.
            self.next = (0, end);
            let lead = self.bytes.get_mut(HEADER_LEN..end).ok_or(DropReason::HeaderShort)?;
            self.header = memory.read_frame(first, lead).ok_or(DropReason::HeaderShort)?;
            return Ok(());
        }
        // The header is put so that the frame behind it starts where it always does.
        let start = HEADER_LEN.wrapping_sub(header_len);
        self.copy(memory, segments, start, end).ok_or(DropReason::HeaderShort)?;
        self.header = self.bytes.get(start..).map(legacy_header).unwrap_or_default();
        Ok(())
    }

    /// Copies the next bytes of the chain to the buffer's `start..end`.
    #[inline]
    fn copy(
        &mut self,
        memory: &Memory,
        segments: &[Segment],
        mut start: usize,
        end: usize,
    ) -> Option<()> {
        while start < end {
            let (index, skip) = self.next;
            let segment = segments.get(index)?;
            let len = segment.len().saturating_sub(skip).min(end - start);
            memory.read(segment, skip, self.bytes.get_mut(start..start + len)?)?;
            start += len;
            self.next =
                if skip + len == segment.len() { (index + 1, 0) } else { (index, skip + len) };
        }
        Some(())
    }

    /// Sees to it that the first `len` bytes of the frame, or all, are private. What is private
    /// already is not read again.
    pub fn pull(
        &mut self,
        len: usize,
        source: Option<(&Memory, &[Segment])>,
    ) -> Result<(), DropReason> {
        let len = len.min(self.len);
        if len > self.private {
            // The chain is as long as the frame, so there is nothing that could be short.
            let (memory, segments) = source.ok_or(DropReason::FrameShort)?;
            let (start, end) = (HEADER_LEN + self.private, HEADER_LEN + len);
            self.copy(memory, segments, start, end).ok_or(DropReason::FrameShort)?;
            self.private = len;
        }
        Ok(())
    }

    /// Room for a header of 12 bytes and a frame, to be filled by a system call.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Takes what a system call has put into [`Packet::space`].
    pub fn set_len(&mut self, len: usize) -> Result<(), DropReason> {
        self.len = len.checked_sub(HEADER_LEN).ok_or(DropReason::HeaderShort)?;
        self.private = self.len;
        if self.len > MAX_FRAME {
            return Err(DropReason::FrameLong);
        }
        self.header = legacy_header(&self.bytes);
        Ok(())
    }

    /// Holds a copy of `frame`, as much of it as a frame may be, without a header.
    pub fn set_frame(&mut self, frame: &[u8]) {
        let frame = frame.get(..MAX_FRAME).unwrap_or(frame);
        if let Some(space) = self.bytes.get_mut(HEADER_LEN..HEADER_LEN + frame.len()) {
            space.copy_from_slice(frame);
        }
        self.header = HeaderWords::default();
        self.len = frame.len();
        self.private = frame.len();
    }

    /// The header the frame came with; its `num_buffers` means nothing.
    pub const fn header(&self) -> HeaderWords {
        self.header
    }

    /// Length of the frame, Ethernet header included.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no frame.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The private bytes of the frame: its first ones, or all.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..HEADER_LEN + self.private).unwrap_or_default()
    }

    /// The same, to be changed before delivery.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(HEADER_LEN..HEADER_LEN + self.private).unwrap_or_default()
    }

    /// Whether the whole frame is private.
    pub const fn is_private(&self) -> bool {
        self.private == self.len
    }

    /// Pads a short frame with zeros.
    #[inline]
    pub fn pad(&mut self) {
        if self.len < MIN_FRAME && self.is_private() {
            let padding = HEADER_LEN + self.len..HEADER_LEN + MIN_FRAME;
            if let Some(padding) = self.bytes.get_mut(padding) {
                padding.fill(0);
                self.len = MIN_FRAME;
                self.private = MIN_FRAME;
            }
        }
    }

    /// The frame with this header, to be delivered. `source` is where the bytes are that are not
    /// private.
    #[inline]
    pub fn outgoing<'a>(
        &'a mut self,
        header: HeaderWords,
        source: Option<(&'a Memory, &'a [Segment])>,
    ) -> Outgoing<'a> {
        let (index, skip) = self.next;
        let source = if self.is_private() { None } else { source };
        let source =
            source.map(|(memory, segments)| (memory, segments.get(index..).unwrap_or_default()));
        let len = self.len;
        let lead = self.bytes.get_mut(..HEADER_LEN.wrapping_add(self.private)).unwrap_or_default();
        Outgoing { header, lead, tail: Tail { source, skip }, len }
    }
}

/// A header of which only the ten bytes count that every driver writes.
fn legacy_header(bytes: &[u8]) -> HeaderWords {
    let first = bytes.first_chunk().copied().unwrap_or_default();
    match bytes.get(8..LEGACY_HEADER_LEN) {
        Some(&[low, high]) => HeaderWords::parse(first, [low, high, 0, 0]),
        _ => HeaderWords::default(),
    }
}
