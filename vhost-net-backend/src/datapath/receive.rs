//! From a driver's transmit ring into private memory.

use vm_memory::{Bytes, GuestMemoryMmap};

use super::drop_reason::DropReason;
use super::header;
use super::ring::{Chain, RingFault, SplitRing};

/// The one copy of a frame on its way, with the header it came with in front. The verdict and the
/// delivery both use this copy, so a guest that changes its buffer meanwhile changes nothing.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Box<[u8]>,
    frame: std::ops::Range<usize>,
}

impl FrameBuffer {
    /// A buffer for frames of up to `max_frame` bytes. One byte more is kept, so that a longer
    /// frame read from a TAP is seen to be longer.
    pub fn new(max_frame: usize) -> Self {
        let bytes = vec![0; header::HEADER_LEN + max_frame + 1].into_boxed_slice();
        Self { bytes, frame: 0..0 }
    }

    /// The frame, from its destination address on.
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(self.frame.clone()).unwrap_or_default()
    }

    /// Room for a header and a frame.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Takes the first `len` bytes as a header of `header_len` bytes and a frame; returns the
    /// header.
    pub fn set_len(&mut self, header_len: usize, len: usize) -> Result<&[u8], DropReason> {
        self.frame = header_len..len;
        if len < header_len {
            return Err(DropReason::HeaderShort);
        }
        self.bytes.get(..header_len).ok_or(DropReason::HeaderShort)
    }
}

/// What a look at an end for a frame brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame is in the buffer.
    Frame,
    /// A frame was there and cannot be carried.
    Dropped(DropReason),
    /// Nothing is there.
    Empty,
}

/// Takes the next frame of a transmit ring into `buffer`. The chain is returned to the driver
/// (not yet published) whatever becomes of its frame.
pub fn receive(
    ring: &mut SplitRing,
    memory: &GuestMemoryMmap,
    chain: &mut Chain,
    header_len: usize,
    buffer: &mut FrameBuffer,
) -> Result<Received, RingFault> {
    if !ring.take(memory, chain)? {
        return Ok(Received::Empty);
    }
    let copied = copy(memory, chain, buffer)?;
    ring.push_used(memory, chain.head(), 0)?;
    let Some(len) = copied else {
        return Ok(Received::Dropped(DropReason::FrameLong));
    };
    let verdict = buffer.set_len(header_len, len).and_then(header::check_from_guest);
    Ok(verdict.map_or_else(Received::Dropped, |()| Received::Frame))
}

/// Copies a chain into the buffer; `None` when it is longer. The guest's lengths never make the
/// link allocate or loop beyond its own limits.
fn copy(
    memory: &GuestMemoryMmap,
    chain: &Chain,
    buffer: &mut FrameBuffer,
) -> Result<Option<usize>, RingFault> {
    let mut space = buffer.space();
    if chain.bytes() > space.len() as u64 {
        return Ok(None);
    }
    let mut len = 0;
    for segment in chain.segments() {
        let Some((part, rest)) = space.split_at_mut_checked(segment.len as usize) else {
            return Ok(None);
        };
        memory
            .read_slice(part, segment.address)
            .map_err(|_| RingFault::Unmapped(segment.address.0))?;
        len += part.len();
        space = rest;
    }
    Ok(Some(len))
}
