//! Where built archives are kept between runs, and what decides whether one is still good.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::RigError;

/// Where dpkg records every installed package with its version.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// The folder for built archives: `$XDG_CACHE_HOME/netvm-rig`, `$HOME/.cache/netvm-rig`, or one
/// below the folder for temporary files.
pub(crate) fn folder() -> Result<PathBuf, RigError> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    let folder = base.join("netvm-rig");
    fs::create_dir_all(&folder).map_err(RigError::io("make", &folder))?;
    Ok(folder)
}

/// Decides a name for what is built from installed packages and from given bytes.
///
/// Every change of any package changes the name: building takes seconds, being wrong takes hours.
#[derive(Debug)]
pub(crate) struct Key(Sha256);

impl Key {
    pub(crate) fn new() -> Result<Key, RigError> {
        let mut key = Key(Sha256::new());
        let status = Path::new(DPKG_STATUS);
        key.add(&fs::read(status).map_err(RigError::io("read", status))?);
        Ok(key)
    }

    /// Adds a part; two parts are never mistaken for one.
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(part);
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn name(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Removes files of `folder` that start with `prefix`, `keep` aside: one archive is enough.
pub(crate) fn forget_others(folder: &Path, prefix: &str, keep: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.path() != keep;
        if other && entry.file_name().to_string_lossy().starts_with(prefix) {
            // Somebody else may have removed it at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_two_parts_are_not_one_longer_part() {
        let name = |parts: &[&[u8]]| {
            let mut key = Key(Sha256::new());
            parts.iter().for_each(|part| key.add(part));
            key.name()
        };
        assert_ne!(name(&[b"ab", b"c"]), name(&[b"a", b"bc"]));
        assert_eq!(name(&[b"ab", b"c"]).len(), 16);
    }
}
