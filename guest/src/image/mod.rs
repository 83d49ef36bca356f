//! netvm's own image: a kernel and an initramfs that are the same for every declaration.

mod drivers;

use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest, Sha256};

use crate::initramfs::{Compression, Initramfs, Manifest};
use crate::{ImageError, Kernel, ModuleIndex};

/// Names of the files in [`Options::out_dir`].
/// Name of the kernel in the directory of an image.
pub const KERNEL: &str = "vmlinuz";
/// Name of the initramfs in the directory of an image.
pub const INITRAMFS: &str = "initramfs";
/// Name of the manifest in the directory of an image.
pub const MANIFEST: &str = "manifest.json";

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kernel to pack.
    pub kernel: Kernel,
    /// More modules, by name: drivers that are not packed by default (wireless ones, say).
    pub extra_modules: Vec<String>,
    /// Directory to write `vmlinuz`, `initramfs` and `manifest.json` to; made when missing.
    pub out_dir: PathBuf,
    /// How the initramfs is stored.
    pub compression: Compression,
}

impl Options {
    /// The newest installed kernel, no more modules, uncompressed.
    ///
    /// # Errors
    /// [`ImageError::Kernel`] when no kernel is installed.
    pub fn new(out_dir: impl Into<PathBuf>) -> Result<Options, ImageError> {
        Ok(Options {
            kernel: Kernel::newest()?,
            extra_modules: Vec::new(),
            out_dir: out_dir.into(),
            compression: Compression::None,
        })
    }
}

/// A built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The kernel, bootable by a VMM.
    pub kernel: PathBuf,
    /// The initramfs that [`crate::config::append`] appends to.
    pub initramfs: PathBuf,
    /// What is in the initramfs.
    pub manifest: Manifest,
}

/// Builds the image. `progress` is told each step in a few words.
///
/// The same installed packages give the same bytes, whenever and wherever it is built.
///
/// # Errors
/// [`ImageError::Missing`] names every package that has to be installed, in one message.
pub fn build(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Image, ImageError> {
    let Options { kernel, extra_modules, out_dir, compression } = options;
    fs::create_dir_all(out_dir).map_err(ImageError::io("create", out_dir))?;
    progress(&format!("Collecting drivers of Linux {}", kernel.version()));
    let modules = ModuleIndex::read(kernel)?;
    let mut image = Initramfs::new();
    image
        .compression(*compression)
        .busybox()
        .program("dnsmasq", "dnsmasq-base")
        .program("nft", "nftables")
        .program("ip", "iproute2")
        .program("bridge", "iproute2")
        .program("modprobe", "kmod")
        .modules(kernel, drivers::NEEDED)
        .modules_if_present(kernel, drivers::USEFUL)
        .modules(kernel, extra_modules);
    for directory in drivers::DIRECTORIES {
        let names = modules.below(directory);
        image.modules(kernel, names.into_iter().filter(|name| !drivers::is_left_out(name)));
    }
    image.firmware();
    for (path, contents, mode) in FILES {
        image.file(path, *contents, *mode);
    }
    progress("Packing programs, libraries, drivers and firmware");
    let initramfs = out_dir.join(INITRAMFS);
    let manifest = image.write(&initramfs)?;

    progress("Copying the kernel");
    let target = out_dir.join(KERNEL);
    copy(kernel.image(), &target)?;
    manifest.write(&out_dir.join(MANIFEST))?;
    Ok(Image { kernel: target, initramfs, manifest })
}

/// Reads back an image and verifies that the initramfs is the one its manifest speaks of.
///
/// # Errors
/// [`ImageError::Io`] when a file is missing, [`ImageError::Changed`] when the initramfs is not
/// what was built.
pub fn show(out_dir: &Path) -> Result<Image, ImageError> {
    let manifest = Manifest::read(&out_dir.join(MANIFEST))?;
    let kernel = out_dir.join(KERNEL);
    fs::metadata(&kernel).map_err(ImageError::io("read", &kernel))?;
    let initramfs = out_dir.join(INITRAMFS);
    let file = fs::File::open(&initramfs).map_err(ImageError::io("read", &initramfs))?;
    let mut hash = Hash(Sha256::new());
    io::copy(&mut io::BufReader::new(file), &mut hash)
        .map_err(ImageError::io("read", &initramfs))?;
    let actual: String = hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if actual != manifest.sha256 {
        return Err(ImageError::Changed { path: initramfs, expected: manifest.sha256, actual });
    }
    Ok(Image { kernel, initramfs, manifest })
}

/// Feeds what is written to it into a hash.
struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies through a temporary file, so that a VMM never sees half a kernel.
fn copy(source: &Path, target: &Path) -> Result<(), ImageError> {
    let temporary = target.with_extension("new");
    fs::copy(source, &temporary).map_err(ImageError::io("copy", source))?;
    fs::rename(&temporary, target).map_err(ImageError::io("write", target))
}

/// netvm's own files: path, contents, permission bits.
const FILES: &[(&str, &str, u32)] = &[
    ("init", include_str!("../../files/init"), 0o755),
    ("lib/netvm/coldplug.sh", include_str!("../../files/coldplug.sh"), 0o644),
    ("lib/netvm/common.sh", include_str!("../../files/common.sh"), 0o644),
    ("lib/netvm/lease", include_str!("../../files/lease"), 0o755),
    ("lib/netvm/network.sh", include_str!("../../files/network.sh"), 0o644),
    ("lib/netvm/run", include_str!("../../files/run"), 0o755),
    ("lib/netvm/state.sh", include_str!("../../files/state.sh"), 0o644),
    ("lib/netvm/udhcpc", include_str!("../../files/udhcpc"), 0o755),
    ("lib/netvm/uplink.sh", include_str!("../../files/uplink.sh"), 0o644),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndnsmasq:x:100:100::/:/bin/false\n", 0o644),
    ("etc/group", "root:x:0:\ndnsmasq:x:100:\n", 0o644),
];
