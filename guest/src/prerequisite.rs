//! What has to be installed, collected so that one error names everything at once.

use std::collections::BTreeMap;
use std::fmt;

/// Missing files with the Debian packages that provide them.
///
/// `Display` gives one message with the exact `apt-get` command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prerequisites {
    missing: BTreeMap<String, Option<String>>,
}

impl Prerequisites {
    /// Records that `what` (a program or a path) is missing and which package provides it, when
    /// that is known.
    pub fn add(&mut self, what: impl Into<String>, package: Option<&str>) {
        self.missing.insert(what.into(), package.map(str::to_owned));
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    /// The Debian packages to install, sorted, each once.
    #[must_use]
    pub fn packages(&self) -> Vec<&str> {
        let mut packages: Vec<&str> = self.missing.values().flatten().map(String::as_str).collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }
}

impl fmt::Display for Prerequisites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.missing.keys().map(String::as_str).collect();
        write!(f, "Not installed: {}", names.join(", "))?;
        let packages = self.packages();
        if !packages.is_empty() {
            write!(f, "; run: apt-get install --no-install-recommends {}", packages.join(" "))?;
        }
        let unknown: Vec<&str> = self
            .missing
            .iter()
            .filter(|(_, package)| package.is_none())
            .map(|(what, _)| what.as_str())
            .collect();
        if !unknown.is_empty() {
            write!(f, "; of no known package: {}", unknown.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_two_programs_of_one_package_names_the_package_once() {
        let mut missing = Prerequisites::default();
        missing.add("nft", Some("nftables"));
        missing.add("depmod", Some("kmod"));
        missing.add("modprobe", Some("kmod"));
        missing.add("/opt/own", None);

        assert_eq!(
            missing.to_string(),
            "Not installed: /opt/own, depmod, modprobe, nft; \
             run: apt-get install --no-install-recommends kmod nftables; \
             of no known package: /opt/own"
        );
    }
}
