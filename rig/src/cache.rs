//! Where built archives are kept between runs, and what decides whether one is still good.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::RigError;

/// Where dpkg records every installed package with its version.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// How long an archive that nobody builds again is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

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

/// Removes files of `folder` that start with `prefix` and are older than a week, `keep` aside.
/// Younger ones may be in use by another run with another bundle.
pub(crate) fn forget_old(folder: &Path, prefix: &str, keep: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT));
        let named = entry.file_name().to_string_lossy().starts_with(prefix);
        if old && named && entry.path() != keep {
            // Somebody else may have removed it at the same time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forget_old_spares_the_young_the_kept_and_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, age) in [("base-a", 8), ("base-b", 8), ("base-c", 1), ("other", 8)] {
            let file = fs::File::create(path(name)).unwrap();
            let day = Duration::from_secs(24 * 3600);
            file.set_modified(std::time::SystemTime::now() - age * day).unwrap();
        }
        forget_old(folder.path(), "base-", &path("base-b"));
        let left = ["base-a", "base-b", "base-c", "other"].map(|name| path(name).exists());
        assert_eq!(left, [false, true, true, true]);
    }

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
