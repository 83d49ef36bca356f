//! The files of an image before they are written: normalised paths, one node each.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::ImageError;

/// Where a file's contents come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Given by the caller or generated.
    Bytes(Vec<u8>),
    /// A file of this host.
    Host(PathBuf),
    /// A kernel module or firmware file of this host, stored without its `.xz` or `.zst`.
    Decompressed(PathBuf),
}

/// One entry of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A regular file.
    File { source: Source, mode: u32 },
    /// A directory.
    Directory { mode: u32 },
    /// A symbolic link and the text it holds.
    Symlink { target: String },
    /// A character device.
    Device { major: u32, minor: u32, mode: u32 },
}

/// Top-level directories that are links into /usr, as on every Debian since 12.
pub(crate) const MERGED_USR: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// The entries by path: no leading slash, no `.` or `..`, never below a [`MERGED_USR`] link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Adds a node. The same node twice is fine; two different ones at one path are an error.
    pub(crate) fn insert(&mut self, path: &Path, node: Node) -> Result<(), ImageError> {
        let path = normalise(path)?;
        match self.nodes.get(&path) {
            Some(present) if *present == node => Ok(()),
            Some(Node::Directory { .. }) if matches!(node, Node::Directory { .. }) => {
                self.nodes.insert(path, node);
                Ok(())
            }
            Some(_) => Err(ImageError::ImagePath { path, reason: "it is there already" }),
            None => {
                self.nodes.insert(path, node);
                Ok(())
            }
        }
    }

    /// Whether there is an entry at this path.
    pub(crate) fn contains(&self, path: &str) -> bool {
        normalise(Path::new(path)).is_ok_and(|path| self.nodes.contains_key(&path))
    }

    /// Adds the [`MERGED_USR`] links and the directories they lead to.
    pub(crate) fn merge_usr(&mut self) -> Result<(), ImageError> {
        for name in MERGED_USR {
            self.insert(&Path::new("usr").join(name), Node::Directory { mode: 0o755 })?;
            let target = format!("usr/{name}");
            self.insert(Path::new(name), Node::Symlink { target })?;
        }
        Ok(())
    }

    /// Adds every missing parent directory (mode 0755) and returns the entries in the order they
    /// are written: a directory before what it holds.
    pub(crate) fn complete(mut self) -> Result<BTreeMap<String, Node>, ImageError> {
        let paths: Vec<String> = self.nodes.keys().cloned().collect();
        for path in paths {
            for (slash, _) in path.match_indices('/') {
                let parent = &path[..slash];
                match self.nodes.get(parent) {
                    Some(Node::Directory { .. }) => {}
                    Some(_) => {
                        return Err(ImageError::ImagePath {
                            path,
                            reason: "a directory above it is something else in the image",
                        });
                    }
                    None => {
                        self.nodes.insert(parent.to_owned(), Node::Directory { mode: 0o755 });
                    }
                }
            }
        }
        Ok(self.nodes)
    }
}

/// The path as it is stored: relative, and with /bin, /lib, /lib64, /sbin moved below usr.
pub(crate) fn normalise(path: &Path) -> Result<String, ImageError> {
    let refuse = |reason| ImageError::ImagePath { path: path.display().to_string(), reason };
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => {
                let part = part.to_str().ok_or_else(|| refuse("it is not UTF-8"))?;
                if part.contains(char::is_control) {
                    return Err(refuse("it holds a control character"));
                }
                parts.push(part);
            }
            Component::ParentDir | Component::Prefix(_) => return Err(refuse("it holds \"..\"")),
        }
    }
    match parts.first() {
        None => return Err(refuse("it is empty")),
        Some(&"TRAILER!!!") => return Err(refuse("newc archives end with that name")),
        Some(first) if parts.len() > 1 && MERGED_USR.contains(first) => parts.insert(0, "usr"),
        Some(_) => {}
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalise_merged_usr_directories_move_below_usr() {
        assert_eq!(normalise(Path::new("/lib/modules/a")).unwrap(), "usr/lib/modules/a");
        assert_eq!(normalise(Path::new("/usr/lib/modules/a")).unwrap(), "usr/lib/modules/a");
        assert_eq!(normalise(Path::new("./libexec/a")).unwrap(), "libexec/a");
    }

    #[test]
    fn normalise_bad_paths_are_refused() {
        for path in ["", "/", "a/../b", "a\nb", "TRAILER!!!"] {
            assert!(normalise(Path::new(path)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn insert_two_different_files_at_one_path_is_refused() {
        let file = |bytes: &[u8]| Node::File { source: Source::Bytes(bytes.to_vec()), mode: 0o644 };
        let mut tree = Tree::default();
        tree.insert(Path::new("/bin/a"), file(b"1")).unwrap();
        tree.insert(Path::new("/usr/bin/a"), file(b"1")).unwrap();
        assert!(tree.insert(Path::new("/bin/a"), file(b"2")).is_err());
    }

    #[test]
    fn complete_parents_come_before_children() {
        let mut tree = Tree::default();
        tree.insert(Path::new("/etc/a/b"), Node::Symlink { target: "c".into() }).unwrap();
        tree.insert(Path::new("/etc/a-z"), Node::Symlink { target: "c".into() }).unwrap();
        let paths: Vec<String> = tree.complete().unwrap().into_keys().collect();
        let at = |path: &str| paths.iter().position(|p| p == path).unwrap();
        assert!(at("etc") < at("etc/a") && at("etc/a") < at("etc/a/b"));
    }

    #[test]
    fn complete_file_below_a_file_is_refused() {
        let mut tree = Tree::default();
        tree.insert(Path::new("/a"), Node::Symlink { target: "c".into() }).unwrap();
        tree.insert(Path::new("/a/b"), Node::Symlink { target: "c".into() }).unwrap();
        assert!(tree.complete().is_err());
    }
}
