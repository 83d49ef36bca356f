//! Whether bytes are a flattened tree (Devicetree 0.4, chapter 5), before anything is built from
//! them.
//!
//! dtoolkit has such a check, but it insists on names of at most 31 characters and on node names
//! without `#`, which more than half of the boards in Debian's kernel break. This one is as strict
//! about the shape, lenient about names, and bounds depth, so that what is built is bounded by the
//! input: recursion by [`DEPTH`], names by [`NAME`].

use crate::TreeError;

/// Largest tree that is read, in bytes: what Linux takes (`MAX_FDT_SIZE`).
pub const SIZE: usize = 2 << 20;
/// Deepest nesting of nodes; boards have up to eleven levels.
pub const DEPTH: usize = 64;
/// Longest name of a node or property, in bytes. The specification says 31; boards have longer.
pub const NAME: usize = 127;

/// Longest full path of a node, in bytes.
pub const PATH: usize = 1024;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

fn wrong(offset: usize, what: impl Into<String>) -> TreeError {
    TreeError::Blob { offset, what: what.into() }
}

fn word(bytes: &[u8], offset: usize) -> Result<u32, TreeError> {
    let word = offset.checked_add(4).and_then(|end| bytes.get(offset..end));
    word.and_then(|word| word.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or_else(|| wrong(offset, "it ends too early"))
}

fn length(bytes: &[u8], offset: usize) -> Result<usize, TreeError> {
    usize::try_from(word(bytes, offset)?).map_err(|_| wrong(offset, "too large a number"))
}

/// A block of the file: its first byte and the one after its last.
fn block(bytes: &[u8], from: usize, size: usize, what: &str) -> Result<(usize, usize), TreeError> {
    match from.checked_add(size) {
        Some(end) if from >= HEADER && end <= bytes.len() => Ok((from, end)),
        _ => Err(wrong(from, format!("the {what} block reaches beyond the tree"))),
    }
}

/// The part of `file` that is the tree, checked: a boot loader may leave room behind it.
pub fn check(file: &[u8]) -> Result<&[u8], TreeError> {
    if word(file, 0)? != MAGIC {
        return Err(wrong(0, "it does not begin with d00dfeed"));
    }
    let total = length(file, 4)?;
    if total > SIZE {
        return Err(wrong(4, format!("it is larger than {SIZE} bytes, more than Linux takes")));
    }
    let bytes = file.get(..total).ok_or_else(|| {
        wrong(4, format!("it says that it has {total} bytes, but there are {}", file.len()))
    })?;
    let (version, compatible) = (word(bytes, 20)?, word(bytes, 24)?);
    if compatible > VERSION || version < VERSION {
        return Err(wrong(20, format!("format version {version} is not {VERSION}")));
    }
    let structure = block(bytes, length(bytes, 8)?, length(bytes, 36)?, "structure")?;
    let strings = block(bytes, length(bytes, 12)?, length(bytes, 32)?, "strings")?;
    if !structure.0.is_multiple_of(4) {
        return Err(wrong(8, "the structure block is not aligned to 4 bytes"));
    }
    reservations(bytes, length(bytes, 16)?)?;
    Walk { bytes, strings, end: structure.1 }.run(structure.0)?;
    Ok(bytes)
}

/// The memory reservation block ends with an entry of zeros (section 5.3).
fn reservations(bytes: &[u8], from: usize) -> Result<(), TreeError> {
    if !from.is_multiple_of(8) || from < HEADER {
        return Err(wrong(16, "the memory reservation block is not aligned to 8 bytes"));
    }
    for entry in bytes.get(from..).unwrap_or_default().chunks_exact(16) {
        if entry.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
    }
    Err(wrong(from, "the memory reservation block does not end"))
}

struct Walk<'a> {
    bytes: &'a [u8],
    strings: (usize, usize),
    end: usize,
}

impl Walk<'_> {
    fn token(&self, at: usize) -> Result<u32, TreeError> {
        if at.checked_add(4).is_none_or(|end| end > self.end) {
            return Err(wrong(at, "the structure block ends without its end token"));
        }
        word(self.bytes, at)
    }

    fn name(&self, from: usize, end: usize) -> Result<&str, TreeError> {
        let room = self.bytes.get(from..end.min(from.saturating_add(NAME + 1)));
        let room = room.unwrap_or_default();
        let name = room.iter().position(|byte| *byte == 0).and_then(|len| room.get(..len));
        let name = name.ok_or_else(|| wrong(from, format!("a name has more than {NAME} bytes")))?;
        // What Linux and boot loaders print and split paths at.
        if !name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/') {
            return Err(wrong(from, "a name has characters that names do not have"));
        }
        std::str::from_utf8(name).map_err(|_| wrong(from, "a name is not text"))
    }

    /// Properties of a node come before its nodes (section 5.4.2), and the root is alone.
    fn run(&self, from: usize) -> Result<(), TreeError> {
        let mut at = from;
        // Length of the path up to and with each open node.
        let mut path: Vec<usize> = Vec::new();
        let mut properties_may_follow = false;
        loop {
            let token = self.token(at)?;
            let next = at + 4;
            at = match token {
                NOP => next,
                BEGIN_NODE => {
                    let name = self.name(next, self.end)?;
                    if name.is_empty() != path.is_empty() {
                        return Err(wrong(at, "only the root has no name, and there is one root"));
                    }
                    path.push(path.last().map_or(0, |len| len + 1 + name.len()));
                    if path.last().is_some_and(|len| *len > PATH) {
                        return Err(wrong(at, format!("a path has more than {PATH} bytes")));
                    }
                    if path.len() > DEPTH {
                        return Err(wrong(at, format!("nodes are nested more than {DEPTH} deep")));
                    }
                    properties_may_follow = true;
                    (next + name.len() + 1).next_multiple_of(4)
                }
                PROPERTY if properties_may_follow => self.property(at)?,
                PROPERTY => return Err(wrong(at, "a property is not before the nodes beside it")),
                END_NODE if !path.is_empty() => {
                    path.pop();
                    properties_may_follow = false;
                    if path.is_empty() { return self.last(next) } else { next }
                }
                _ => return Err(wrong(at, format!("{token:#x} is no token that may be here"))),
            };
        }
    }

    fn property(&self, at: usize) -> Result<usize, TreeError> {
        let (len, name) = (length(self.bytes, at + 4)?, length(self.bytes, at + 8)?);
        let value = at + 12;
        let end = value.checked_add(len).filter(|end| *end <= self.end);
        let end = end.ok_or_else(|| wrong(at, "a property reaches beyond the structure block"))?;
        let name = self.strings.0.checked_add(name).filter(|name| *name < self.strings.1);
        let name = name.ok_or_else(|| wrong(at, "a property's name is outside the strings"))?;
        if self.name(name, self.strings.1)?.is_empty() {
            return Err(wrong(at, "a property has no name"));
        }
        Ok(end.next_multiple_of(4))
    }

    fn last(&self, mut at: usize) -> Result<(), TreeError> {
        loop {
            match self.token(at)? {
                NOP => at += 4,
                END => return Ok(()),
                _ => return Err(wrong(at, "something follows the root")),
            }
        }
    }
}
