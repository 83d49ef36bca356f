//! Installed kernels: the image below /boot and the modules below /lib/modules.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ImageError;

/// An installed kernel that has both an image and modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    version: String,
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The newest installed kernel (`/boot/vmlinuz-VERSION` with `/lib/modules/VERSION`).
    ///
    /// # Errors
    /// [`ImageError::Kernel`] when there is none.
    pub fn newest() -> Result<Kernel, ImageError> {
        Kernel::newest_below(Path::new("/"))
    }

    /// The installed kernel of exactly this version, as `uname -r` prints it.
    ///
    /// # Errors
    /// [`ImageError::Kernel`], which names the versions that are installed.
    pub fn find(version: &str) -> Result<Kernel, ImageError> {
        Kernel::find_below(Path::new("/"), version)
    }

    /// As [`Kernel::newest`], below another root directory.
    ///
    /// # Errors
    /// As [`Kernel::newest`].
    pub fn newest_below(root: &Path) -> Result<Kernel, ImageError> {
        installed(root).pop().ok_or_else(|| ImageError::Kernel {
            wanted: "of any version".to_owned(),
            root: root.to_path_buf(),
            found: "none".to_owned(),
        })
    }

    /// As [`Kernel::find`], below another root directory.
    ///
    /// # Errors
    /// As [`Kernel::find`].
    pub fn find_below(root: &Path, version: &str) -> Result<Kernel, ImageError> {
        let installed = installed(root);
        let names: Vec<&str> = installed.iter().map(Kernel::version).collect();
        let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        installed.iter().find(|kernel| kernel.version == version).cloned().ok_or(
            ImageError::Kernel { wanted: version.to_owned(), root: root.to_path_buf(), found },
        )
    }

    /// The version, as `uname -r` prints it: "6.1.0-13-amd64".
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The bootable image, `/boot/vmlinuz-VERSION`.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The directory of modules.dep, `/lib/modules/VERSION` (or below /usr when /lib is no link).
    #[must_use]
    pub fn modules_directory(&self) -> &Path {
        &self.modules
    }
}

/// Every kernel below `root` that has an image and a modules.dep, oldest first.
fn installed(root: &Path) -> Vec<Kernel> {
    let Ok(entries) = fs::read_dir(root.join("boot")) else {
        return Vec::new();
    };
    let mut kernels: Vec<Kernel> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix("vmlinuz-")?.to_owned();
            let modules = ["lib/modules", "usr/lib/modules"]
                .iter()
                .map(|below| root.join(below).join(&version))
                .find(|directory| directory.join("modules.dep").is_file())?;
            Some(Kernel { version, image: entry.path(), modules })
        })
        .collect();
    kernels.sort_by(|a, b| compare(&a.version, &b.version));
    kernels
}

/// Orders versions by their runs of digits as numbers and everything else as text.
fn compare(a: &str, b: &str) -> Ordering {
    let key = |version: &str| -> Vec<(u64, String)> {
        version
            .split(|c: char| !c.is_ascii_alphanumeric())
            .map(|part| (part.parse().unwrap_or(0), part.to_owned()))
            .collect()
    };
    key(a).cmp(&key(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(versions: &[(&str, bool)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("boot")).unwrap();
        for (version, modules) in versions {
            fs::write(root.path().join(format!("boot/vmlinuz-{version}")), "").unwrap();
            if *modules {
                let directory = root.path().join("usr/lib/modules").join(version);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join("modules.dep"), "").unwrap();
            }
        }
        root
    }

    #[test]
    fn newest_ten_and_nine_compares_numbers_not_text() {
        let root = tree(&[("6.1.0-9-amd64", true), ("6.1.0-10-amd64", true)]);
        assert_eq!(Kernel::newest_below(root.path()).unwrap().version(), "6.1.0-10-amd64");
    }

    #[test]
    fn newest_image_without_modules_is_passed_over() {
        let root = tree(&[("6.1.0-9-amd64", true), ("6.12.0-1-amd64", false)]);
        assert_eq!(Kernel::newest_below(root.path()).unwrap().version(), "6.1.0-9-amd64");
    }

    #[test]
    fn find_absent_version_names_the_installed_ones() {
        let root = tree(&[("6.1.0-9-amd64", true)]);
        let message = Kernel::find_below(root.path(), "6.6.6").unwrap_err().to_string();
        assert!(message.contains("No kernel 6.6.6"), "{message}");
        assert!(message.contains("one of: 6.1.0-9-amd64"), "{message}");
    }
}
