//! What is in the PC's memory when it boots: an archive of installed programs that is built once,
//! and a small one with what is under test behind it. The kernel unpacks both, in that order.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use netvm_image::{Initramfs, Kernel, Prerequisites};
use tempfile::NamedTempFile;

use crate::cache::{self, Key};
use crate::{RigError, guest, vmlinux};

/// Names a cloud-hypervisor to pack; it is no Debian package.
const CLOUD_HYPERVISOR: &str = "NETVM_RIG_CLOUD_HYPERVISOR";

/// Modules loaded at boot. Drivers of devices load by themselves.
const LOADED: [&str; 6] = ["kvm_amd", "vfio_pci", "vfio_iommu_type1", "tun", "9pnet_virtio", "9p"];

/// Drivers of the emulated cards, and what a host without netvm would bridge and filter with.
const PACKED: [&str; 34] = [
    "irqbypass",
    "vfio_virqfd",
    "virtio_pci",
    "virtio_net",
    "e1000",
    "e1000e",
    "e100",
    "8139cp",
    "8139too",
    "pcnet32",
    "ne2k_pci",
    "tulip",
    "vmxnet3",
    "xhci_pci",
    "usbnet",
    "cdc_ether",
    "cdc_subset",
    "rndis_host",
    "bridge",
    "veth",
    "dummy",
    "nf_tables",
    "nf_conntrack",
    "nf_nat",
    "nft_ct",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_reject_inet",
    "nft_limit",
    "nft_log",
    "nft_counter",
    "vhost_net",
    "macvtap",
];

/// Files of QEMU's that a guest of the PC boots with, and the packages they are in.
const FIRMWARE: [(&str, &str); 6] = [
    ("/usr/share/seabios/bios-256k.bin", "seabios"),
    ("/usr/share/qemu/kvmvapic.bin", "qemu-system-data"),
    ("/usr/share/qemu/linuxboot_dma.bin", "qemu-system-data"),
    ("/usr/share/qemu/pvh.bin", "qemu-system-data"),
    ("/usr/share/qemu/qboot.rom", "qemu-system-data"),
    ("/usr/lib/ipxe/qemu/efi-virtio.rom", "ipxe-qemu"),
];

/// Our own files in the archive.
const FILES: [(&str, &str, u32); 7] = [
    ("/init", include_str!("../files/init"), 0o755),
    ("/rig/lib.sh", include_str!("../files/lib.sh"), 0o644),
    ("/rig/scenario.sh", include_str!("../files/scenario.sh"), 0o644),
    ("/usr/bin/guest-start", include_str!("../files/guest-start"), 0o755),
    ("/usr/bin/guest-sh", include_str!("../files/guest-sh"), 0o755),
    ("/usr/bin/guest-wait", include_str!("../files/guest-wait"), 0o755),
    ("/usr/bin/guest-stop", include_str!("../files/guest-stop"), 0o755),
];

/// What the PC boots with, besides the rig's own tools (busybox, QEMU, tcpdump, strace, ip).
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    programs: Vec<(PathBuf, PathBuf)>,
    files: Vec<(PathBuf, PathBuf)>,
    contents: Vec<(PathBuf, Vec<u8>, u32)>,
    installed: Vec<(String, String)>,
    modules: Vec<String>,
    guest_programs: Vec<PathBuf>,
}

/// A bundle on disk, ready for QEMU.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) kernel: PathBuf,
    /// Removed when dropped: QEMU reads it once.
    pub(crate) initrd: NamedTempFile,
}

impl Bundle {
    /// The rig's own tools, and cloud-hypervisor when the environment variable
    /// `NETVM_RIG_CLOUD_HYPERVISOR` names one.
    #[must_use]
    pub fn new() -> Bundle {
        let bundle = Bundle::default();
        match env::var_os(CLOUD_HYPERVISOR) {
            Some(path) => bundle.program_at(PathBuf::from(path), "/usr/bin/cloud-hypervisor"),
            None => bundle,
        }
    }

    /// Whether `NETVM_RIG_CLOUD_HYPERVISOR` names a cloud-hypervisor.
    #[must_use]
    pub fn has_cloud_hypervisor() -> bool {
        env::var_os(CLOUD_HYPERVISOR).is_some()
    }

    /// Adds a built program, with the libraries it needs, as /usr/bin/NAME.
    #[must_use]
    pub fn program(self, path: impl Into<PathBuf>) -> Bundle {
        let path = path.into();
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        self.program_at(path, Path::new("/usr/bin").join(name))
    }

    /// As [`Bundle::program`], at a path of its own.
    #[must_use]
    pub fn program_at(mut self, path: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Bundle {
        self.programs.push((path.into(), at.into()));
        self
    }

    /// Adds an installed program by name; the package is what to install when it is missing.
    #[must_use]
    pub fn installed(mut self, name: &str, package: &str) -> Bundle {
        self.installed.push((name.into(), package.into()));
        self
    }

    /// Adds a file of this machine.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Bundle {
        self.files.push((path.into(), at.into()));
        self
    }

    /// Adds a file with these contents and permission bits.
    #[must_use]
    pub fn contents(
        mut self,
        at: impl Into<PathBuf>,
        contents: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Bundle {
        self.contents.push((at.into(), contents.into(), mode));
        self
    }

    /// Adds kernel modules; scripts load them with modprobe.
    #[must_use]
    pub fn modules<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Bundle {
        self.modules.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds a built program, with the libraries it needs, for test guests that are started with
    /// `GUEST_PROGRAM=NAME`.
    #[must_use]
    pub fn guest_program(mut self, path: impl Into<PathBuf>) -> Bundle {
        self.guest_programs.push(path.into());
        self
    }

    /// What is missing on this machine for any bundle. One error names it all, with the command
    /// that installs it.
    ///
    /// # Errors
    /// [`RigError::Missing`].
    pub fn check_prerequisites() -> Result<(), RigError> {
        let mut missing = Prerequisites::default();
        for (program, package) in [
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("setpriv", "util-linux"),
            ("busybox", "busybox-static"),
            ("depmod", "kmod"),
            ("tcpdump", "tcpdump"),
            ("strace", "strace"),
            ("ip", "iproute2"),
        ] {
            let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
                .iter()
                .any(|folder| Path::new(folder).join(program).is_file());
            if !found {
                missing.add(program, Some(package));
            }
        }
        for (file, package) in FIRMWARE {
            if !Path::new(file).is_file() {
                missing.add(file, Some(package));
            }
        }
        if Kernel::newest().is_err() {
            missing.add("a Linux kernel with modules", Some("linux-image-amd64"));
        }
        if missing.is_empty() { Ok(()) } else { Err(RigError::Missing(missing)) }
    }

    /// Builds what is not built yet and joins the two archives.
    pub(crate) fn pack(&self) -> Result<Packed, RigError> {
        Bundle::check_prerequisites()?;
        let kernel = Kernel::newest()?;
        let folder = cache::folder()?;
        let image = direct_kernel(&kernel, &folder)?;
        let base = self.base(&kernel, &image, &folder)?;

        let in_folder = |what| RigError::io(what, &folder);
        let mut top = NamedTempFile::new_in(&folder).map_err(in_folder("make a file in"))?;
        let mut archive = self.top();
        let mut programs = Vec::new();
        for path in &self.guest_programs {
            let program = NamedTempFile::new_in(&folder).map_err(in_folder("make a file in"))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            guest::write_program(path, &name, program.path())?;
            archive.copy(program.path(), format!("/rig/guest/{name}.cpio"), None);
            programs.push(program);
        }
        archive.write(top.path())?;
        // The archive was renamed over the file: the open one is the old one.
        *top.as_file_mut() = File::open(top.path()).map_err(in_folder("read a file in"))?;
        let mut initrd = NamedTempFile::new_in(&folder).map_err(in_folder("make a file in"))?;
        let mut base = File::open(&base).map_err(RigError::io("read", &base))?;
        for archive in [&mut base, top.as_file_mut()] {
            // Both are padded to four bytes, which is all that the next archive asks for.
            io::copy(archive, initrd.as_file_mut()).map_err(in_folder("write a file in"))?;
        }
        Ok(Packed { kernel: image, initrd })
    }

    /// The archive of installed programs, from the cache if nothing has changed.
    fn base(&self, kernel: &Kernel, image: &Path, folder: &Path) -> Result<PathBuf, RigError> {
        let mut key = Key::new()?;
        let guest = [guest::INIT, guest::UDHCPC, guest::PASSWD];
        for part in guest.into_iter().chain([kernel.version(), env!("CARGO_PKG_VERSION")]) {
            key.add(part.as_bytes());
        }
        for (path, contents, _) in FILES {
            key.add(path.as_bytes());
            key.add(contents.as_bytes());
        }
        let lists =
            format!("{LOADED:?} {PACKED:?} {FIRMWARE:?} {:?} {:?}", self.installed, self.modules);
        key.add(format!("{:?}", guest::MODULES).as_bytes());
        key.add(lists.as_bytes());
        let path = folder.join(format!("base-{}.cpio", key.name()));
        if path.is_file() {
            return Ok(path);
        }

        tracing::info!(path = %path.display(), "Building the PC's archive");
        let guest =
            NamedTempFile::new_in(folder).map_err(RigError::io("make a file in", folder))?;
        guest::write(kernel, guest.path())?;
        let mut initramfs = Initramfs::new();
        initramfs
            .busybox()
            .program("qemu-system-x86_64", "qemu-system-x86")
            .program("tcpdump", "tcpdump")
            .program("strace", "strace")
            .program("ip", "iproute2")
            .modules(kernel, LOADED)
            .modules_if_present(kernel, PACKED)
            .modules(kernel, &self.modules)
            .file("/rig/modules", LOADED.join("\n"), 0o644)
            .copy(guest.path(), "/rig/guest/initrd", None)
            .copy(image, Path::new("/rig/guest").join(image_name(image)), None);
        for (source, package) in FIRMWARE {
            initramfs.copy(source, source, Some(package));
        }
        for (name, package) in &self.installed {
            initramfs.program(name, package);
        }
        for (at, contents, mode) in FILES {
            initramfs.file(at, contents, mode);
        }
        initramfs.write(&path)?;
        cache::forget_old(folder, "base-", &path);
        Ok(path)
    }

    /// The archive of what is under test.
    fn top(&self) -> Initramfs {
        let mut initramfs = Initramfs::new();
        for (path, at) in &self.programs {
            initramfs.binary_at(path, at);
        }
        for (path, at) in &self.files {
            initramfs.copy(path, at, None);
        }
        for (at, contents, mode) in &self.contents {
            initramfs.file(at, contents.as_slice(), *mode);
        }
        initramfs
    }
}

/// The kernel in the form that starts fastest: uncompressed if that is possible.
fn direct_kernel(kernel: &Kernel, folder: &Path) -> Result<PathBuf, RigError> {
    let image = fs::read(kernel.image()).map_err(RigError::io("read", kernel.image()))?;
    let mut key = Key::new()?;
    key.add(&image);
    let path = folder.join(format!("vmlinux-{}", key.name()));
    if path.is_file() {
        return Ok(path);
    }
    let Some(elf) = vmlinux::extract(&image) else {
        tracing::warn!(kernel = %kernel.image().display(), "Not unpacked: every boot takes longer");
        return Ok(kernel.image().to_path_buf());
    };
    let file = NamedTempFile::new_in(folder).map_err(RigError::io("make a file in", folder))?;
    fs::write(file.path(), elf).map_err(RigError::io("write", file.path()))?;
    file.persist(&path).map_err(|error| RigError::io("name", &path)(error.error))?;
    cache::forget_old(folder, "vmlinux-", &path);
    Ok(path)
}

/// What guest-start looks for: it takes vmlinux if there is one.
fn image_name(image: &Path) -> &'static str {
    let direct =
        image.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinux-"));
    if direct { "vmlinux" } else { "vmlinuz" }
}
