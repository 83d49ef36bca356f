//! The chains of a control queue: the command in readable memory, and behind it at least one
//! writable byte for the answer.

use super::control_command::MAX_COMMAND;
use crate::datapath::memory::{Memory, Segment};
use crate::datapath::ring::chain::{Chain, Chains};
use crate::datapath::ring::{Ring, RingFault};

/// A rule that the driver broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlFault {
    /// One that holds for every ring.
    #[error(transparent)]
    Ring(#[from] RingFault),
    /// A chain in which an answer has no room.
    #[error("Descriptor chain {0} has no room for an answer")]
    NoAnswer(u16),
}

/// What answers commands: with the byte that goes back to the driver. `None` stands for a command
/// that is longer than [`MAX_COMMAND`].
pub type Answer<'a> = dyn FnMut(Option<&[u8]>) -> u8 + 'a;

/// What came of a look at a control queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether the driver wants a call.
    pub call: bool,
    /// Whether there are more commands, for which no kick may come, or what stopped the ring.
    pub more: Result<bool, ControlFault>,
}

/// Answers up to `limit` commands, and asks for a kick when the next one comes. The driver gets to
/// see what was answered before a fault.
pub fn serve<R: Ring>(
    ring: &mut R,
    memory: &Memory,
    limit: usize,
    answer: &mut Answer<'_>,
) -> Served {
    let mut chains = Chains::default();
    let answered = ring
        .take(memory, &mut chains, limit)
        .map_err(ControlFault::from)
        .and_then(|()| answer_all(ring, memory, &chains, answer));
    let published = ring.publish(memory);
    let call = published == Ok(true);
    let more = answered.and_then(|()| {
        published?;
        Ok(ring.enable_kicks(memory)?)
    });
    Served { call, more }
}

fn answer_all<R: Ring>(
    ring: &mut R,
    memory: &Memory,
    chains: &Chains,
    answer: &mut Answer<'_>,
) -> Result<(), ControlFault> {
    for chain in (0..).map_while(|index| chains.get(index)) {
        let (command, room) = parts(chains, chain);
        let room = room.first().ok_or(ControlFault::NoAnswer(chain.id()))?;
        let command = read(memory, command, chains.bytes(chain))?;
        write(memory, room, answer(command.as_deref()))?;
        // One byte was written.
        ring.push_used(memory, chain, 1)?;
    }
    Ok(())
}

/// The segments of the command, and those for the answer.
fn parts<'a>(chains: &'a Chains, chain: &'a Chain) -> (&'a [Segment], &'a [Segment]) {
    let segments = chains.segments(chain);
    // No segment is empty, so the command ends with one of them.
    let mut left = chains.bytes(chain);
    let readable = segments.iter().take_while(|segment| {
        let is_command = left > 0;
        left = left.saturating_sub(segment.len() as u64);
        is_command
    });
    segments.split_at_checked(readable.count()).unwrap_or_default()
}

/// Reads a command of `len` bytes, unless it is too long: then not a byte of it is read.
fn read(memory: &Memory, segments: &[Segment], len: u64) -> Result<Option<Vec<u8>>, ControlFault> {
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= MAX_COMMAND) else {
        return Ok(None);
    };
    let mut bytes = vec![0; len];
    let mut rest = bytes.as_mut_slice();
    for segment in segments {
        let (part, behind) = rest.split_at_mut_checked(segment.len()).unwrap_or_default();
        memory.read(segment, 0, part).ok_or(unmapped(memory, segment))?;
        rest = behind;
    }
    Ok(Some(bytes))
}

/// Writes the answer. However large the room is, one page of it is marked in a dirty log.
fn write(memory: &Memory, room: &Segment, answer: u8) -> Result<(), ControlFault> {
    let mut written = None;
    memory
        .address(room)
        .and_then(|address| {
            memory.locate(address, 1, |byte| written = memory.write(&byte, 0, &[answer]))
        })
        .and(written)
        .ok_or(unmapped(memory, room))
}

fn unmapped(memory: &Memory, segment: &Segment) -> ControlFault {
    RingFault::Unmapped(memory.address(segment).unwrap_or_default()).into()
}
