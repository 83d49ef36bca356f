//! What can go wrong while an image is built or a configuration is rendered.

use std::io;
use std::path::{Path, PathBuf};

use crate::prerequisite::Prerequisites;

/// An error of this crate. Messages name the path or package concerned and what to do next; the
/// cause is in `source()` and not repeated in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Files that the image is made of are not installed.
    #[error("{0}")]
    Missing(Prerequisites),
    /// A file could not be read, written or inspected.
    #[error("Cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb: "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// A program that this crate runs (dpkg-query, depmod, the ELF interpreter) could not be
    /// started.
    #[error("Cannot run {program}: install the Debian package that provides it")]
    Spawn {
        /// The program's name or path.
        program: String,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// A program that this crate runs failed.
    #[error("{program} failed ({status}): {message}")]
    Program {
        /// The program's name or path.
        program: String,
        /// Its exit status in words.
        status: String,
        /// What it wrote on standard error, without control characters.
        message: String,
    },
    /// A file is not an ELF file that can be packed.
    #[error("{} is not a usable ELF file: {reason}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No kernel image with its modules is installed.
    #[error(
        "No kernel {wanted} with its modules: need {}/boot/vmlinuz-VERSION and /lib/modules/VERSION \
         (run: apt-get install linux-image-amd64, or choose one of: {found})",
        root.display()
    )]
    Kernel {
        /// The version asked for, or "of any version".
        wanted: String,
        /// The root directory that was searched.
        root: PathBuf,
        /// The versions that are there, or "none".
        found: String,
    },
    /// A kernel module is neither in modules.dep nor built in.
    #[error("Kernel {kernel} has no module {module} (see /lib/modules/{kernel}/modules.dep)")]
    Module {
        /// The module's name as asked for.
        module: String,
        /// The kernel's version.
        kernel: String,
    },
    /// A path cannot be placed in an image, or is placed there twice with different contents.
    #[error("Image path {path:?} is refused: {reason}")]
    ImagePath {
        /// The path as given.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A value does not fit the newc format (files below 4 GiB).
    #[error("{} is too large for a newc archive: {size} bytes, at most 4294967295", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// An image is not the one its manifest was written for.
    #[error("{} is not what its manifest says (SHA-256 {actual}, not {expected}): build the image again", path.display())]
    Changed {
        /// The initramfs.
        path: PathBuf,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the file.
        actual: String,
    },
    /// A manifest could not be written or read as JSON.
    #[error("{} is not a manifest of this version: build the image again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the JSON parser says.
        #[source]
        source: serde_json::Error,
    },
}

impl ImageError {
    /// Adapter for `map_err`: an I/O error with the attempted action and the path.
    pub(crate) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> ImageError + use<> {
        let path = path.to_path_buf();
        move |source| ImageError::Io { action, path, source }
    }
}
