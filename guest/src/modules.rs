//! Which module files a set of module names needs: modules.dep, modules.builtin, modules.softdep,
//! modules.alias (man 5 modules.dep, man 5 modprobe.d).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::{ImageError, Kernel};

/// The modules of one kernel, indexed by name.
#[derive(Debug, Clone, Default)]
pub struct ModuleIndex {
    kernel: String,
    /// Name to path relative to the modules directory, and the paths it needs.
    modules: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
    soft: BTreeMap<String, Vec<String>>,
    /// Modules by alias: soft dependencies often name an algorithm, "crypto-crc32c".
    aliases: BTreeMap<String, Vec<String>>,
}

impl ModuleIndex {
    /// Reads the index files of `kernel`.
    ///
    /// # Errors
    /// [`ImageError::Io`] when modules.dep cannot be read; the other files may be absent.
    pub fn read(kernel: &Kernel) -> Result<ModuleIndex, ImageError> {
        let directory = kernel.modules_directory();
        let dep = directory.join("modules.dep");
        let dep = fs::read_to_string(&dep).map_err(ImageError::io("read", &dep))?;
        let optional = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        Ok(ModuleIndex::parse(
            kernel.version(),
            &dep,
            &optional("modules.builtin"),
            &optional("modules.softdep"),
            &optional("modules.alias"),
        ))
    }

    fn parse(kernel: &str, dep: &str, builtin: &str, softdep: &str, alias: &str) -> ModuleIndex {
        let modules = dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                (name_of(path), (path.to_owned(), needs))
            })
            .collect();
        let mut soft = BTreeMap::<String, Vec<String>>::new();
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            if let Some(module) = words.next() {
                let names = words.filter(|word| !word.ends_with(':')).map(str::to_owned);
                soft.entry(canonical(module)).or_default().extend(names);
            }
        }
        let mut aliases = BTreeMap::<String, Vec<String>>::new();
        for line in alias.lines() {
            // Aliases with wildcards are devices'; soft dependencies name one thing.
            if let ["alias", name, module] = line.split_whitespace().collect::<Vec<_>>()[..]
                && !name.contains(['*', '?', '['])
            {
                aliases.entry(canonical(name)).or_default().push(canonical(module));
            }
        }
        ModuleIndex {
            kernel: kernel.to_owned(),
            modules,
            builtin: builtin.lines().map(name_of).collect(),
            soft,
            aliases,
        }
    }

    /// Whether the kernel has this module, as a file or built in.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        let name = canonical(module);
        self.modules.contains_key(&name) || self.builtin.contains(&name)
    }

    /// Names of the modules whose file is below `directory`, which is relative to the modules
    /// directory: "kernel/drivers/net/ethernet".
    #[must_use]
    pub fn below(&self, directory: &str) -> Vec<&str> {
        let prefix = format!("{}/", directory.trim_end_matches('/'));
        self.modules
            .iter()
            .filter(|(_, (path, _))| path.starts_with(&prefix))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The files (relative to the modules directory, sorted) that `names` need, themselves
    /// included, with soft dependencies that exist. Built-in modules need no file.
    ///
    /// # Errors
    /// [`ImageError::Module`] for a name that the kernel does not have.
    pub fn closure<S: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = S>,
    ) -> Result<BTreeSet<String>, ImageError> {
        let mut files = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut pending = Vec::new();
        for name in names {
            if !self.has(name.as_ref()) {
                return Err(ImageError::Module {
                    module: name.as_ref().to_owned(),
                    kernel: self.kernel.clone(),
                });
            }
            pending.push(canonical(name.as_ref()));
        }
        while let Some(name) = pending.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            // Soft dependencies may name what this kernel lacks: they are wishes.
            pending.extend(self.soft.get(&name).into_iter().flatten().map(|n| canonical(n)));
            match self.modules.get(&name) {
                Some((path, needs)) => {
                    files.insert(path.clone());
                    pending.extend(needs.iter().map(|path| name_of(path)));
                }
                None => pending.extend(self.aliases.get(&name).into_iter().flatten().cloned()),
            }
        }
        Ok(files)
    }
}

/// The module's name with underscores: modprobe treats "a-b" and "a_b" alike.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module in a file such as "kernel/net/a-b.ko.xz".
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    canonical(file.split(".ko").next().unwrap_or(file))
}

/// The path with the compression suffix removed: modules are packed as plain `.ko`.
pub(crate) fn plain_path(path: &str) -> &str {
    path.strip_suffix(".xz").or_else(|| path.strip_suffix(".zst")).unwrap_or(path)
}

/// Reads a module file as [`plain`] has it.
pub(crate) fn read_plain(path: &Path) -> Result<Vec<u8>, ImageError> {
    plain(path, fs::read(path).map_err(ImageError::io("read", path))?)
}

/// The contents of a module file, decompressed if its name ends in `.xz` or `.zst`. The signature
/// at its end is part of the decompressed file and stays valid.
pub(crate) fn plain(path: &Path, file: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    let mut plain = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => {
            lzma_rust2::XzReader::new(file.as_slice(), true).read_to_end(&mut plain).map(|_| ())
        }
        Some("zst") => zstd::stream::copy_decode(file.as_slice(), &mut plain),
        _ => return Ok(file),
    }
    .map_err(ImageError::io("decompress", path))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> ModuleIndex {
        ModuleIndex::parse(
            "6.1",
            "kernel/net/virtio-net.ko: kernel/net/failover.ko kernel/v/virtio.ko\n\
             kernel/net/failover.ko:\n\
             kernel/v/virtio.ko.xz: kernel/v/virtio_ring.ko.zst\n\
             kernel/v/virtio_ring.ko.zst:\n\
             kernel/crypto/crc32c_generic.ko:\n",
            "kernel/drivers/tty/8250.ko\n",
            "# comment\nsoftdep virtio_net pre: crypto-crc32c absent post: virtio\n",
            "# comment\nalias crypto-crc32c crc32c_generic\nalias pci:v0000* failover\n",
        )
    }

    #[test]
    fn closure_follows_hard_and_soft_dependencies_and_aliases() {
        let files = index().closure(["virtio_net"]).unwrap();
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            [
                "kernel/crypto/crc32c_generic.ko",
                "kernel/net/failover.ko",
                "kernel/net/virtio-net.ko",
                "kernel/v/virtio.ko.xz",
                "kernel/v/virtio_ring.ko.zst",
            ]
        );
    }

    #[test]
    fn closure_builtin_module_needs_no_file() {
        assert!(index().closure(["8250"]).unwrap().is_empty());
    }

    #[test]
    fn closure_unknown_module_is_an_error_that_names_it() {
        let error = index().closure(["virtio-net", "vfio_virqfd"]).unwrap_err();
        assert!(error.to_string().contains("no module vfio_virqfd"), "{error}");
    }

    #[test]
    fn below_matches_whole_directories_only() {
        assert_eq!(index().below("kernel/net"), ["failover", "virtio_net"]);
        assert!(index().below("kernel/ne").is_empty());
    }

    #[test]
    fn read_plain_compressed_module_equals_the_original() {
        let directory = tempfile::tempdir().unwrap();
        let module = vec![7_u8; 100_000];
        let zst = directory.path().join("a.ko.zst");
        fs::write(&zst, zstd::encode_all(module.as_slice(), 3).unwrap()).unwrap();
        assert_eq!(read_plain(&zst).unwrap(), module);

        let xz = directory.path().join("a.ko.xz");
        let mut writer =
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
        std::io::Write::write_all(&mut writer, &module).unwrap();
        fs::write(&xz, writer.finish().unwrap()).unwrap();
        assert_eq!(read_plain(&xz).unwrap(), module);

        fs::write(&xz, b"not xz").unwrap();
        assert!(read_plain(&xz).is_err());
    }
}
