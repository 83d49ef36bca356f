//! Lines from somebody who is not trusted: bounded memory, whatever arrives.

use std::io::{self, Read};

/// Cuts a byte stream into lines of at most `limit` bytes; a longer one is dropped and counted.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    limit: usize,
    skipping: bool,
    /// Lines that were too long.
    pub overlong: u64,
}

/// How much is taken from a source in one turn, so that one that never stops cannot hold the loop.
const TURN_BYTES: usize = 64 * 1024;

impl Lines {
    /// Lines of at most `limit` bytes, the newline not counted.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit, skipping: false, overlong: 0 }
    }

    /// Reads what is there (at most 64 KiB) and hands each whole line to `each`, without its newline.
    /// Returns `false` at the end of the stream. `source` must not block.
    pub fn read(&mut self, mut source: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let mut left = TURN_BYTES;
        while left > 0 {
            let read = match source.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            left = left.saturating_sub(read);
            self.push(&chunk[..read], &mut each);
        }
        Ok(true)
    }

    fn push(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if !std::mem::take(&mut self.skipping) {
                each(self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer));
            }
            self.buffer.clear();
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping {
            return;
        }
        if self.buffer.len() + bytes.len() > self.limit {
            self.skipping = true;
            self.overlong += 1;
            self.buffer.clear();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }
}

/// A line as text that cannot disturb a terminal: control characters shown as `.`.
pub fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '.' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limit: usize, chunks: &[&[u8]]) -> (Vec<String>, u64) {
        let mut reader = Lines::new(limit);
        let mut out = Vec::new();
        for chunk in chunks {
            reader.read(*chunk, |line| out.push(printable(line))).unwrap();
        }
        (out, reader.overlong)
    }

    #[test]
    fn lines_split_across_reads_are_joined() {
        assert_eq!(lines(8, &[b"ab", b"c\nd", b"\r\n"]), (vec!["abc".into(), "d".into()], 0));
    }

    #[test]
    fn overlong_line_is_dropped_and_the_next_one_kept() {
        assert_eq!(lines(4, &[b"12345", b"6789\nok\n"]), (vec!["ok".into()], 1));
    }

    proptest::proptest! {
        #[test]
        fn lines_cut_anywhere_are_the_same_and_bounded(
            bytes in proptest::collection::vec(proptest::sample::select(b"ab\n\r\x00\xff".as_slice()), 0..200),
            cut in 0_usize..200,
        ) {
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let whole = lines(10, &[&bytes]);
            proptest::prop_assert_eq!(&whole, &lines(10, &[first, second]));
            proptest::prop_assert!(whole.0.iter().all(|line| line.chars().count() <= 10));
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable(b"\x1b[31mred\x07"), ".[31mred.");
    }
}
