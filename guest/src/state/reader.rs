//! Cuts the byte stream of the state channel into lines.

use super::{MAX_LINE, State, StateError};

/// Collects bytes of the state channel until a line is complete. Holds at most [`MAX_LINE`] bytes
/// whatever arrives.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    /// The present line was too long: the rest of it is dropped.
    skipping: bool,
}

impl Reader {
    /// A reader at the beginning of a line.
    #[must_use]
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Takes the next bytes, and returns what each line completed by them says. Empty lines and
    /// carriage returns (a terminal in between adds them) are passed over.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Result<State, StateError>> {
        let mut states = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            if self.line.len() + text.len() > MAX_LINE {
                self.line.clear();
                self.skipping = true;
            }
            if !self.skipping {
                self.line.extend_from_slice(text);
            }
            if complete {
                let line = std::mem::take(&mut self.line);
                let line = line.trim_ascii();
                if std::mem::take(&mut self.skipping) {
                    states.push(Err(StateError::TooLong));
                } else if !line.is_empty() {
                    states.push(State::parse(line));
                }
            }
        }
        states
    }
}
