//! Amounts of guest memory.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Guest memory in whole mebibytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Memory {
    mebibytes: u32,
}

impl Memory {
    /// `mebibytes` MiB.
    pub const fn from_mebibytes(mebibytes: u32) -> Self {
        Memory { mebibytes }
    }

    /// In MiB.
    pub fn mebibytes(self) -> u32 {
        self.mebibytes
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.mebibytes) << 20
    }
}

/// Why a text is not an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Not a number with M or G behind it.
    #[error("it is not a whole number followed by M or G")]
    Syntax,
    /// More than can be counted.
    #[error("it is more than any machine has")]
    TooLarge,
}

impl FromStr for Memory {
    type Err = MemoryError;

    /// Reads `512M` or `1G`: binary units, as every VMM reads them.
    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let (number, factor) = match text.as_bytes().last() {
            Some(b'M') => (&text[..text.len() - 1], 1),
            Some(b'G') => (&text[..text.len() - 1], 1024),
            _ => return Err(MemoryError::Syntax),
        };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(MemoryError::Syntax);
        }
        let number: u32 = number.parse().map_err(|_| MemoryError::TooLarge)?;
        let mebibytes = number.checked_mul(factor).ok_or(MemoryError::TooLarge)?;
        Ok(Memory { mebibytes })
    }
}

impl fmt::Display for Memory {
    /// As every VMM reads it: `512M`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes)
    }
}
