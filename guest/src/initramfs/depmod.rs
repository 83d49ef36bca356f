//! The module index files for the packed set, made by depmod in a scratch directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::{ImageError, Kernel, command, modules};

/// Index files that modprobe reads: kmod the binary ones, busybox the text ones.
const INDEX: [&str; 9] = [
    "modules.alias",
    "modules.alias.bin",
    "modules.builtin.alias.bin",
    "modules.builtin.bin",
    "modules.dep",
    "modules.dep.bin",
    "modules.devname",
    "modules.softdep",
    "modules.symbols.bin",
];

/// Files of the kernel that depmod reads, and that modprobe reads too.
const COPIED: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Runs depmod over `files` (host path by the path below the modules directory, plain `.ko`) and
/// returns the index files by name. The same files give the same bytes.
pub(crate) fn index(
    kernel: &Kernel,
    files: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, Vec<u8>>, ImageError> {
    let scratch = std::env::temp_dir();
    let scratch = tempfile::tempdir().map_err(ImageError::io("create a directory in", &scratch))?;
    let root = scratch.path();
    let directory = root.join("usr/lib/modules").join(kernel.version());
    create(&directory)?;
    // depmod looks below /lib or /usr/lib, as it was configured.
    symlink("usr/lib", root.join("lib")).map_err(ImageError::io("link", &root.join("lib")))?;
    let mut index = BTreeMap::new();
    for name in COPIED {
        let source = kernel.modules_directory().join(name);
        if let Ok(contents) = fs::read(&source) {
            write(&directory.join(name), &contents)?;
            index.insert(name.to_owned(), contents);
        }
    }
    for (path, source) in files {
        let target = directory.join(path);
        if let Some(parent) = target.parent() {
            create(parent)?;
        }
        write(&target, &modules::read_plain(source)?)?;
    }
    let arguments: [&OsStr; 3] = ["-b".as_ref(), root.as_ref(), kernel.version().as_ref()];
    command::stdout("depmod", arguments)?;
    for name in INDEX {
        let path = directory.join(name);
        if path.exists() {
            let contents = fs::read(&path).map_err(ImageError::io("read", &path))?;
            index.insert(name.to_owned(), contents);
        }
    }
    Ok(index)
}

fn create(directory: &Path) -> Result<(), ImageError> {
    fs::create_dir_all(directory).map_err(ImageError::io("create", directory))
}

fn write(path: &Path, contents: &[u8]) -> Result<(), ImageError> {
    fs::write(path, contents).map_err(ImageError::io("write", path))
}
