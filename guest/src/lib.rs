//! Builds initramfs images from installed Debian packages: netvm's own, and those of the rig.
//!
//! - [`Initramfs`] assembles an image: programs with their libraries, kernel modules with their
//!   dependencies, busybox, own files. Same packages, same bytes; a [`Manifest`] says what is in
//!   it and where it came from.
//! - [`Kernel`] finds installed kernels.

mod command;
mod error;
mod initramfs;
mod kernel;
mod modules;
mod prerequisite;

pub use error::ImageError;
pub use initramfs::{AppendedFile, Compression, FORMAT, FileRecord, Initramfs, Manifest, append};
pub use kernel::Kernel;
pub use modules::ModuleIndex;
pub use prerequisite::Prerequisites;
