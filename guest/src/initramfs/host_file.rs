//! A file of this host with every symbolic link that leads to it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ImageError;

/// Longest chain of links followed; Linux gives up at 40.
const MAX_LINKS: usize = 16;

/// A host path resolved step by step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostFile {
    /// Each link met on the way (its directory without links) and the text it holds.
    pub(crate) links: Vec<(PathBuf, String)>,
    /// The file at the end; its directory is free of links.
    pub(crate) file: PathBuf,
}

/// Follows `path` to a regular file. Soname links such as libc.so.6 are kept this way.
pub(crate) fn resolve(path: &Path) -> Result<HostFile, ImageError> {
    let mut links = Vec::new();
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            break;
        };
        let directory = parent.canonicalize().map_err(ImageError::io("find", &path))?;
        let here = directory.join(name);
        let metadata = fs::symlink_metadata(&here).map_err(ImageError::io("find", &here))?;
        if metadata.is_file() {
            return Ok(HostFile { links, file: here });
        }
        if !metadata.is_symlink() {
            break;
        }
        let target = fs::read_link(&here).map_err(ImageError::io("read", &here))?;
        let text = target.to_str().ok_or_else(|| ImageError::ImagePath {
            path: here.display().to_string(),
            reason: "the target of that link is not UTF-8",
        })?;
        links.push((here, text.to_owned()));
        path = directory.join(target);
    }
    Err(ImageError::ImagePath {
        path: path.display().to_string(),
        reason: "it leads to no regular file",
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn resolve_chain_of_links_keeps_each() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("alias")).unwrap();
        fs::write(root.join("real/libx.so.1.2"), "").unwrap();
        symlink("libx.so.1.2", root.join("real/libx.so.1")).unwrap();

        let found = resolve(&root.join("alias/libx.so.1")).unwrap();

        assert_eq!(found.links, [(root.join("real/libx.so.1"), "libx.so.1.2".to_owned())]);
        assert_eq!(found.file, root.join("real/libx.so.1.2"));
    }

    #[test]
    fn resolve_loop_or_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(resolve(&directory.path().join("a")).is_err());
        assert!(resolve(directory.path()).is_err());
    }
}
