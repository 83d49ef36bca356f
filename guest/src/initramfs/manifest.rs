//! The manifest of an image: every file, its hash and where it came from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ImageError;

/// The only value of [`Manifest::format`] that this version writes and reads.
pub const FORMAT: u32 = 1;

/// What an image holds. Serialises to JSON with every list sorted, so equal images have equal
/// manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the kernel whose modules are packed, as `uname -r` prints it.
    pub kernel: Option<String>,
    /// SHA-256 of the archive as written (compressed if it is), lower-case hexadecimal.
    pub sha256: String,
    /// Size of the archive as written, in bytes.
    pub size: u64,
    /// Sum of the sizes of all files, in bytes: the memory that the unpacked image takes.
    pub unpacked: u64,
    /// Version by package, for each package that a file came from.
    pub packages: BTreeMap<String, String>,
    /// Every regular file, sorted by path.
    pub files: Vec<FileRecord>,
    /// Target by path of every symbolic link.
    pub links: BTreeMap<String, String>,
}

/// One regular file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Path in the image, without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the contents, lower-case hexadecimal.
    pub sha256: String,
    /// The package it came from; absent for generated files and for files of no package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// True when the file is not what its package shipped (by the package's MD5 list).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub modified: bool,
}

impl Manifest {
    /// Whether a kernel module is packed; `-` and `_` are the same in its name.
    #[must_use]
    pub fn has_module(&self, name: &str) -> bool {
        let wanted = name.replace('-', "_");
        self.files.iter().filter_map(|file| file.path.rsplit('/').next()).any(|file| {
            file.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == wanted)
        })
    }

    /// The packaged files that were changed on this host after installation.
    pub fn modified(&self) -> impl Iterator<Item = &FileRecord> {
        self.files.iter().filter(|file| file.modified)
    }

    /// Writes the manifest as JSON.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ImageError> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|source| ImageError::Manifest { path: path.to_path_buf(), source })?;
        json.push(b'\n');
        fs::write(path, json).map_err(ImageError::io("write", path))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ImageError::Io`], or [`ImageError::Manifest`] when it is not one of [`FORMAT`].
    pub fn read(path: &Path) -> Result<Manifest, ImageError> {
        let json = fs::read(path).map_err(ImageError::io("read", path))?;
        let wrap = |source| ImageError::Manifest { path: path.to_path_buf(), source };
        let manifest: Manifest = serde_json::from_slice(&json).map_err(wrap)?;
        if manifest.format != FORMAT {
            let reason = format!("format {} instead of {FORMAT}", manifest.format);
            return Err(wrap(serde::de::Error::custom(reason)));
        }
        Ok(manifest)
    }
}
