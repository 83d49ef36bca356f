//! Assembles an initramfs from installed packages.
//!
//! The builder only collects; everything is looked up, checked and read in
//! [`Initramfs::write`], so that one error names all missing packages at once.

mod append;
mod archive;
mod depmod;
mod elf;
mod firmware;
mod host_file;
mod manifest;
mod provenance;
mod tree;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use append::{AppendedFile, append};
pub use manifest::{FORMAT, FileRecord, Manifest};
use tree::{Node, Source, Tree};

use crate::modules::{ModuleIndex, plain_path};
use crate::prerequisite::Prerequisites;
use crate::{ImageError, Kernel, command};

/// How the archive is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is: largest file, fastest boot where the loader's copy is cheap (QEMU under TCG).
    #[default]
    None,
    /// Zstandard at this level, 1 to 19 (Linux 5.9 and later unpack it).
    Zstd(i32),
}

/// Something to pack, in the order it was asked for.
#[derive(Debug)]
enum Item {
    Node { path: PathBuf, node: Node },
    HostFile { source: PathBuf, path: PathBuf, package: Option<String> },
    Binary { source: PathBuf, path: Option<PathBuf>, package: Option<String> },
    Program { name: String, package: String },
    Busybox,
    Modules { kernel: Kernel, names: Vec<String>, optional: bool },
    ModulesBelow { kernel: Kernel, directory: String },
    Firmware,
}

/// Builder of one initramfs.
///
/// Paths in the image may be written with or without a leading slash; /bin, /sbin, /lib and
/// /lib64 are links into /usr. Every file belongs to 0:0 with modification time 0: the same
/// installed packages give the same bytes.
///
/// ```no_run
/// use netvm_image::{Initramfs, Kernel};
///
/// # fn main() -> Result<(), netvm_image::ImageError> {
/// let kernel = Kernel::newest()?;
/// let manifest = Initramfs::new()
///     .busybox()
///     .program("nft", "nftables")
///     .modules(&kernel, ["virtio_pci", "virtio_net"])
///     .file("/init", "#!/bin/sh\nexec sh\n", 0o755)
///     .write("/tmp/initramfs.cpio".as_ref())?;
/// println!("{} bytes unpacked", manifest.unpacked);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing happens before write()"]
pub struct Initramfs {
    items: Vec<Item>,
    compression: Compression,
}

impl Initramfs {
    /// An image with nothing but /bin, /sbin, /lib, /lib64, /dev, /proc, /sys, /run, /tmp and
    /// /dev/console.
    pub fn new() -> Initramfs {
        let mut image = Initramfs::default();
        for path in ["dev", "proc", "sys", "run", "root", "etc"] {
            image.directory(path, 0o755);
        }
        image.directory("tmp", 0o1777);
        // The kernel opens it for init's standard streams before anything is mounted.
        image.device("dev/console", 5, 1, 0o600);
        image
    }

    /// Chooses the compression; the default is none.
    pub fn compression(&mut self, compression: Compression) -> &mut Initramfs {
        self.compression = compression;
        self
    }

    /// A directory. Parents of everything else come by themselves (mode 0755).
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) -> &mut Initramfs {
        self.node(path, Node::Directory { mode })
    }

    /// A regular file with these contents and permission bits.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        contents: impl Into<Vec<u8>>,
        mode: u32,
    ) -> &mut Initramfs {
        self.node(path, Node::File { source: Source::Bytes(contents.into()), mode })
    }

    /// A symbolic link that holds the text `target`.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl Into<String>) -> &mut Initramfs {
        self.node(path, Node::Symlink { target: target.into() })
    }

    /// A character device. devtmpfs makes all others once it is mounted.
    pub fn device(
        &mut self,
        path: impl AsRef<Path>,
        major: u32,
        minor: u32,
        mode: u32,
    ) -> &mut Initramfs {
        self.node(path, Node::Device { major, minor, mode })
    }

    /// A copy of a file of this host at `path`, with the host's read and execute bits.
    ///
    /// `package` is named to the user when the file is missing.
    pub fn copy(
        &mut self,
        source: impl AsRef<Path>,
        path: impl AsRef<Path>,
        package: Option<&str>,
    ) -> &mut Initramfs {
        self.items.push(Item::HostFile {
            source: source.as_ref().to_path_buf(),
            path: path.as_ref().to_path_buf(),
            package: package.map(str::to_owned),
        });
        self
    }

    /// An ELF executable of this host at its own path, with its interpreter, all its shared
    /// libraries, and the symbolic links that lead to them.
    pub fn binary(&mut self, source: impl AsRef<Path>) -> &mut Initramfs {
        self.items.push(Item::Binary {
            source: source.as_ref().to_path_buf(),
            path: None,
            package: None,
        });
        self
    }

    /// As [`Initramfs::binary`], but the executable is placed at `path`: for one that was built
    /// rather than installed.
    pub fn binary_at(
        &mut self,
        source: impl AsRef<Path>,
        path: impl AsRef<Path>,
    ) -> &mut Initramfs {
        self.items.push(Item::Binary {
            source: source.as_ref().to_path_buf(),
            path: Some(path.as_ref().to_path_buf()),
            package: None,
        });
        self
    }

    /// The installed program `name` (searched in /usr/sbin, /usr/bin, /sbin, /bin), as
    /// [`Initramfs::binary`]; `package` is what to install when it is missing.
    pub fn program(&mut self, name: &str, package: &str) -> &mut Initramfs {
        self.items.push(Item::Program { name: name.to_owned(), package: package.to_owned() });
        self
    }

    /// busybox-static, and a link for each of its applets that no other packed program provides.
    pub fn busybox(&mut self) -> &mut Initramfs {
        self.items.push(Item::Busybox);
        self
    }

    /// Kernel modules by name with all they depend on, and index files for modprobe. Built-in
    /// ones are fine; unknown ones are an error. All modules of an image are of one kernel.
    pub fn modules<S: AsRef<str>>(
        &mut self,
        kernel: &Kernel,
        names: impl IntoIterator<Item = S>,
    ) -> &mut Initramfs {
        self.module_names(kernel, names, false)
    }

    /// As [`Initramfs::modules`], without those this kernel does not have (vfio_virqfd went away
    /// in Linux 6.2, for example).
    pub fn modules_if_present<S: AsRef<str>>(
        &mut self,
        kernel: &Kernel,
        names: impl IntoIterator<Item = S>,
    ) -> &mut Initramfs {
        self.module_names(kernel, names, true)
    }

    /// Every module below a directory of the kernel, such as "kernel/drivers/net/ethernet".
    pub fn modules_below(&mut self, kernel: &Kernel, directory: &str) -> &mut Initramfs {
        self.items
            .push(Item::ModulesBelow { kernel: kernel.clone(), directory: directory.to_owned() });
        self
    }

    /// The firmware files that packed modules name and that are installed in /lib/firmware. Those
    /// that are not installed are left out: most cards do without.
    pub fn firmware(&mut self) -> &mut Initramfs {
        self.items.push(Item::Firmware);
        self
    }

    fn module_names<S: AsRef<str>>(
        &mut self,
        kernel: &Kernel,
        names: impl IntoIterator<Item = S>,
        optional: bool,
    ) -> &mut Initramfs {
        let names = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self.items.push(Item::Modules { kernel: kernel.clone(), names, optional });
        self
    }

    fn node(&mut self, path: impl AsRef<Path>, node: Node) -> &mut Initramfs {
        self.items.push(Item::Node { path: path.as_ref().to_path_buf(), node });
        self
    }

    /// Looks everything up and writes the archive to `path`, atomically: through a temporary file
    /// next to it.
    ///
    /// # Errors
    /// [`ImageError::Missing`] names all that is not installed; the others name the file concerned.
    pub fn write(&self, path: &Path) -> Result<Manifest, ImageError> {
        let mut missing = Prerequisites::default();
        let mut plan = Plan::default();
        for item in &self.items {
            plan.add(item, &mut missing)?;
        }
        if plan.kernel.is_some() && find_program("depmod").is_none() {
            missing.add("depmod", Some("kmod"));
        }
        if !missing.is_empty() {
            return Err(ImageError::Missing(missing));
        }
        plan.finish_modules()?;
        plan.finish_applets()?;
        let kernel = plan.kernel.as_ref().map(|(kernel, _)| kernel.version().to_owned());
        plan.tree.merge_usr()?;
        write::write(plan.tree.complete()?, kernel, self.compression, path)
    }
}

/// The image as it takes shape in [`Initramfs::write`].
#[derive(Debug, Default)]
struct Plan {
    tree: Tree,
    kernel: Option<(Kernel, ModuleIndex)>,
    modules: BTreeSet<String>,
    firmware: bool,
    /// Location of every applet as `busybox --list-full` prints it, without busybox itself.
    applets: Vec<String>,
}

impl Plan {
    fn add(&mut self, item: &Item, missing: &mut Prerequisites) -> Result<(), ImageError> {
        match item {
            Item::Node { path, node } => self.tree.insert(path, node.clone()),
            Item::HostFile { source, path, package } => {
                if !source.is_file() {
                    missing.add(source.display().to_string(), package.as_deref());
                    return Ok(());
                }
                self.insert_host(&host_file::resolve(source)?.file, path)
            }
            Item::Binary { source, path, package } => {
                if !source.is_file() {
                    missing.add(source.display().to_string(), package.as_deref());
                    return Ok(());
                }
                self.add_binary(source, path.as_deref())
            }
            Item::Program { name, package } => match find_program(name) {
                Some(source) => self.add_binary(&source, None),
                None => {
                    missing.add(name, Some(package));
                    Ok(())
                }
            },
            Item::Busybox => self.add_busybox(missing),
            Item::Modules { kernel, names, optional } => {
                let index = self.index(kernel)?;
                let wanted: Vec<&String> =
                    names.iter().filter(|name| !optional || index.has(name)).collect();
                let files = index.closure(wanted)?;
                self.modules.extend(files);
                Ok(())
            }
            Item::ModulesBelow { kernel, directory } => {
                let index = self.index(kernel)?;
                let files = index.closure(index.below(directory))?;
                self.modules.extend(files);
                Ok(())
            }
            Item::Firmware => {
                self.firmware = true;
                Ok(())
            }
        }
    }

    fn index(&mut self, kernel: &Kernel) -> Result<&ModuleIndex, ImageError> {
        if let Some((present, _)) = &self.kernel
            && present != kernel
        {
            return Err(ImageError::ImagePath {
                path: kernel.modules_directory().display().to_string(),
                reason: "modules of another kernel are in the image",
            });
        }
        let index = match self.kernel.take() {
            Some((_, index)) => index,
            None => ModuleIndex::read(kernel)?,
        };
        Ok(&self.kernel.insert((kernel.clone(), index)).1)
    }

    fn add_binary(&mut self, source: &Path, path: Option<&Path>) -> Result<(), ImageError> {
        match path {
            Some(path) => self.insert_host(&host_file::resolve(source)?.file, path)?,
            None => self.insert_chain(source)?,
        }
        if let elf::Linkage::Dynamic(libraries) = elf::linkage(source)? {
            for library in libraries {
                self.insert_chain(&library)?;
            }
        }
        Ok(())
    }

    fn add_busybox(&mut self, missing: &mut Prerequisites) -> Result<(), ImageError> {
        let Some(busybox) = find_program("busybox") else {
            missing.add("busybox", Some("busybox-static"));
            return Ok(());
        };
        if elf::linkage(&busybox)? != elf::Linkage::Static {
            missing.add("busybox, statically linked", Some("busybox-static"));
            return Ok(());
        }
        let here = host_file::resolve(&busybox)?.file;
        self.insert_host(&here, Path::new("/bin/busybox"))?;
        let list = command::stdout(&here, ["--list-full"])?;
        self.applets =
            list.lines().filter(|path| !path.ends_with("/busybox")).map(str::to_owned).collect();
        Ok(())
    }

    /// Links the applets, last of all: a packed program of the same name is preferred.
    fn finish_applets(&mut self) -> Result<(), ImageError> {
        for applet in &self.applets {
            let name = applet.rsplit('/').next().unwrap_or(applet);
            let taken = ["usr/bin", "usr/sbin"]
                .iter()
                .any(|directory| self.tree.contains(&format!("{directory}/{name}")));
            if !taken {
                let target = "/bin/busybox".to_owned();
                self.tree.insert(Path::new(applet), Node::Symlink { target })?;
            }
        }
        Ok(())
    }

    fn finish_modules(&mut self) -> Result<(), ImageError> {
        let Some((kernel, _)) = &self.kernel else {
            return Ok(());
        };
        let kernel = kernel.clone();
        let root = Path::new("/lib/modules").join(kernel.version());
        let mut files = BTreeMap::new();
        for path in std::mem::take(&mut self.modules) {
            let source = kernel.modules_directory().join(&path);
            let plain = plain_path(&path);
            if self.firmware {
                self.add_firmware(&source)?;
            }
            let node = Node::File { source: Source::Decompressed(source.clone()), mode: 0o644 };
            self.tree.insert(&root.join(plain), node)?;
            files.insert(plain.to_owned(), source);
        }
        for (name, contents) in depmod::index(&kernel, &files)? {
            let node = Node::File { source: Source::Bytes(contents), mode: 0o644 };
            self.tree.insert(&root.join(name), node)?;
        }
        Ok(())
    }

    fn add_firmware(&mut self, module: &Path) -> Result<(), ImageError> {
        for (name, source) in firmware::installed(module, Path::new("/lib/firmware"))? {
            let source = host_file::resolve(&source)?.file;
            let node = Node::File { source: Source::Decompressed(source), mode: 0o644 };
            self.tree.insert(&Path::new("/lib/firmware").join(name), node)?;
        }
        Ok(())
    }

    /// A host file at its own path, with the links that lead to it.
    fn insert_chain(&mut self, source: &Path) -> Result<(), ImageError> {
        let found = host_file::resolve(source)?;
        for (link, target) in found.links {
            self.tree.insert(&link, Node::Symlink { target })?;
        }
        self.insert_host(&found.file, &found.file)
    }

    fn insert_host(&mut self, source: &Path, path: &Path) -> Result<(), ImageError> {
        use std::os::unix::fs::PermissionsExt;
        let metadata = source.metadata().map_err(ImageError::io("inspect", source))?;
        // Neither set-user-ID nor group or world write access is wanted in an image of root's.
        let mode = metadata.permissions().mode() & 0o755;
        self.tree.insert(path, Node::File { source: Source::Host(source.to_path_buf()), mode })
    }
}

/// The path of an installed program.
fn find_program(name: &str) -> Option<PathBuf> {
    command::PATH
        .split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
}
