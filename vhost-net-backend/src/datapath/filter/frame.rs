//! A frame as the rules see it: its beginning, its lengths, and reads that know both.

use super::super::drop_reason::DropReason;

/// A frame as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its first bytes, in private memory: all of it, or at least 128.
    pub bytes: &'a [u8],
    /// Length of the whole frame, Ethernet header included, frame check sequence not.
    pub len: usize,
    /// Length of the longest frame that will be on a wire: `len`, or for a GSO frame that of its
    /// largest segment.
    pub wire_len: usize,
}

impl<'a> Frame<'a> {
    /// A frame that is all there and stays as it is.
    pub const fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, len: bytes.len(), wire_len: bytes.len() }
    }
}

/// Why a rule ends a check early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The frame breaks this rule.
    Drop(DropReason),
    /// The rule needs to see this many bytes of the frame.
    More(usize),
}

impl From<DropReason> for Stop {
    fn from(reason: DropReason) -> Self {
        Self::Drop(reason)
    }
}

/// The part of a frame that one protocol owns. Offsets count from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    end: usize,
}

impl<'a> View<'a> {
    pub(super) const fn new(frame: &Frame<'a>) -> Self {
        Self { bytes: frame.bytes, end: frame.len }
    }

    /// Where this part ends.
    pub(super) const fn end(self) -> usize {
        self.end
    }

    /// The same part, but ending at `end`; drops the frame for `reason` if that is farther away.
    #[inline]
    pub(super) fn until(self, end: usize, reason: DropReason) -> Result<Self, Stop> {
        if end > self.end { Err(reason.into()) } else { Ok(Self { end, ..self }) }
    }

    /// The `N` bytes at `at`; drops the frame for `short` if they are not all in this part.
    #[inline]
    pub(super) fn array<const N: usize>(
        self,
        at: usize,
        short: DropReason,
    ) -> Result<&'a [u8; N], Stop> {
        let end = at.saturating_add(N);
        match self.bytes.get(at..end).and_then(<[u8]>::first_chunk) {
            Some(bytes) if end <= self.end => Ok(bytes),
            _ => Err(self.missing(end, short)),
        }
    }

    /// Everything from `at` to the end of this part.
    pub(super) fn rest(self, at: usize, short: DropReason) -> Result<&'a [u8], Stop> {
        match self.bytes.get(at..self.end) {
            Some(bytes) => Ok(bytes),
            None if at > self.end => Err(short.into()),
            None => Err(Stop::More(self.end)),
        }
    }

    #[cold]
    fn missing(self, end: usize, short: DropReason) -> Stop {
        // What is within this part is within the frame, so asking for it makes sense.
        if end > self.end { Stop::Drop(short) } else { Stop::More(end) }
    }
}
