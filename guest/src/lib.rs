//! Builds initramfs images from installed Debian packages: netvm's own, and those of the rig.
//!
//! - [`Initramfs`] assembles an image: programs with their libraries, kernel modules with their
//!   dependencies, busybox, own files. Same packages, same bytes; a [`Manifest`] says what is in
//!   it and where it came from.
//! - [`Kernel`] finds installed kernels.
//! - [`image`] builds netvm's own image, the same for every declaration.
//! - [`state`] reads what a running netvm reports.
//! - [`config`] renders what differs per declaration, and appends it to the image.

mod command;
pub mod config;
mod error;
pub mod image;
mod initramfs;
mod kernel;
mod modules;
mod prerequisite;
pub mod state;

pub use error::ImageError;
pub use initramfs::{AppendedFile, Compression, FORMAT, FileRecord, Initramfs, Manifest, append};
pub use kernel::Kernel;
pub use modules::ModuleIndex;
pub use prerequisite::Prerequisites;
