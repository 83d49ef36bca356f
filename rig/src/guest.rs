//! The test guests that run inside the PC: an archive of a few files and a kernel.

use std::path::Path;

use netvm_image::{ImageError, Initramfs, Kernel};

/// Modules of a test guest; it loads those for which it finds a device.
pub(crate) const MODULES: [&str; 14] = [
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "e1000e",
    "e1000",
    "8139cp",
    "e100",
    "vmxnet3",
    "tulip",
    "pcnet32",
    "xhci_pci",
    "cdc_ether",
    "rndis_host",
    // For no device by itself: it lets a program drive one.
    "uio_pci_generic",
];

pub(crate) const INIT: &str = include_str!("../files/guest-init");
pub(crate) const UDHCPC: &str = include_str!("../files/guest-udhcpc");

/// tcpdump becomes the user that it is told, even root, only if that one has a name.
pub(crate) const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";

/// Writes the archive that every test guest boots.
pub(crate) fn write(kernel: &Kernel, path: &Path) -> Result<(), ImageError> {
    Initramfs::new()
        .busybox()
        .program("tcpdump", "tcpdump")
        .modules(kernel, MODULES)
        .file("/etc/passwd", PASSWD, 0o644)
        .file("/init", INIT, 0o755)
        .file("/rig/udhcpc", UDHCPC, 0o755)
        .write(path)
        .map(|_| ())
}

/// Writes an archive of one program, for behind the other.
pub(crate) fn write_program(source: &Path, name: &str, path: &Path) -> Result<(), ImageError> {
    Initramfs::new().binary_at(source, Path::new("/usr/bin").join(name)).write(path).map(|_| ())
}
