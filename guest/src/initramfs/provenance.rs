//! Which Debian package each packed file came from, and whether it still is what was installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use md5::Digest;

use crate::{ImageError, command};

/// Paths passed to one dpkg-query: far below the kernel's limit for arguments.
const PATHS_PER_QUERY: usize = 500;

/// The package that owns a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Binary package: "libc6:amd64".
    pub(crate) package: String,
    /// Its version: "2.36-9+deb12u10".
    pub(crate) version: String,
    /// The MD5 that the package declares for the file, lower-case hexadecimal, if it does. It
    /// tells damage and local changes, not an attacker who can write package metadata.
    md5: Option<String>,
}

impl Owner {
    /// Whether `contents` differ from what the package shipped.
    pub(crate) fn is_modified(&self, contents: &[u8]) -> bool {
        let actual = || hex(&md5::Md5::digest(contents));
        self.md5.as_ref().is_some_and(|declared| *declared != actual())
    }
}

/// Looks up the owners of host files. Files of no package are absent from the result.
pub(crate) fn owners(files: &BTreeSet<PathBuf>) -> Result<BTreeMap<PathBuf, Owner>, ImageError> {
    let packages = search(files)?;
    let names: BTreeSet<&String> = packages.values().collect();
    let mut versions = BTreeMap::new();
    let mut sums = BTreeMap::new();
    for name in names {
        let version = command::stdout("dpkg-query", ["-W", "-f", "${Version}", name])?;
        versions.insert(name.clone(), version);
        // A package without md5sums exits with 1: nothing to verify then.
        let output = command::output("dpkg-query", ["--control-show", name, "md5sums"])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        sums.insert(name.clone(), parse_md5sums(&text));
    }
    let owner = |file: &Path, name: &String| {
        let md5 = sums.get(name).and_then(|sums| {
            spellings(file).iter().find_map(|path| sums.get(path.trim_start_matches('/')).cloned())
        });
        Owner {
            package: name.clone(),
            version: versions.get(name).cloned().unwrap_or_default(),
            md5,
        }
    };
    Ok(packages.iter().map(|(file, name)| (file.clone(), owner(file, name))).collect())
}

/// Asks dpkg for the package of each file.
fn search(files: &BTreeSet<PathBuf>) -> Result<BTreeMap<PathBuf, String>, ImageError> {
    let mut by_path = BTreeMap::new();
    let spelled: Vec<String> = files.iter().flat_map(|file| spellings(file)).collect();
    for paths in spelled.chunks(PATHS_PER_QUERY) {
        // Exit status 1 only says that some path belongs to no package.
        let output = command::output("dpkg-query", [&["-S".to_owned()], paths].concat())?;
        by_path.extend(parse_search(&String::from_utf8_lossy(&output.stdout)));
    }
    Ok(files
        .iter()
        .filter_map(|file| {
            let package = spellings(file).iter().find_map(|path| by_path.get(path).cloned())?;
            Some((file.clone(), package))
        })
        .collect())
}

/// The names a package may list a file under: with and without the merged /usr.
fn spellings(file: &Path) -> Vec<String> {
    let path = file.display().to_string();
    let mut spellings = vec![path.clone()];
    if let Some(short) = path.strip_prefix("/usr") {
        spellings.push(short.to_owned());
    } else {
        spellings.push(format!("/usr{path}"));
    }
    spellings
}

/// Reads lines "package[, package]: /path"; skips diversions.
fn parse_search(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with("diversion by "))
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(packages, path)| {
            let package = packages.split(", ").next()?;
            Some((path.to_owned(), package.to_owned()))
        })
        .collect()
}

/// Reads lines "md5  relative/path".
fn parse_md5sums(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, path)| (path.to_owned(), sum.to_owned()))
        .collect()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_search_shared_file_takes_the_first_package_and_skips_diversions() {
        let text = "diversion by dash from: /bin/sh\nlibc6:amd64, libc6:i386: /etc/a\n";
        let found = parse_search(text);
        assert_eq!(found.get("/etc/a").map(String::as_str), Some("libc6:amd64"));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn is_modified_changed_contents_are_reported() {
        let owner = Owner {
            package: "a".into(),
            version: "1".into(),
            md5: Some("5d41402abc4b2a76b9719d911017c592".into()),
        };
        assert!(!owner.is_modified(b"hello"));
        assert!(owner.is_modified(b"hellp"));
        assert!(!Owner { md5: None, ..owner }.is_modified(b"anything"));
    }
}
