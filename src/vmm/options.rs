//! Comma-separated option lists: `key=value,key=value`.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::{CommandLineError, Vmm};

/// One option list that is being written.
#[derive(Debug)]
pub(super) struct Options {
    vmm: Vmm,
    text: Vec<u8>,
}

impl Options {
    /// A list for `vmm` that begins with `head`: a word, or `key=value`.
    pub(super) fn new(vmm: Vmm, head: impl Display) -> Self {
        Options { vmm, text: head.to_string().into_bytes() }
    }

    /// Adds `,key=value` with a value that has no character of meaning: a number, an address, a
    /// host name.
    pub(super) fn plain(mut self, key: &str, value: impl Display) -> Self {
        self.text.extend(format!(",{key}={value}").into_bytes());
        self
    }

    /// Adds `,key=path` as QEMU reads it: a comma is written twice.
    pub(super) fn doubled(mut self, key: &str, path: &Path) -> Self {
        self.text.extend(format!(",{key}=").into_bytes());
        for byte in path.as_os_str().as_bytes() {
            self.text.push(*byte);
            if *byte == b',' {
                self.text.push(b',');
            }
        }
        self
    }

    /// Adds `,key=path`, if the path has no character of meaning.
    pub(super) fn path(mut self, key: &str, path: &Path) -> Result<Self, CommandLineError> {
        let path = plain_path(self.vmm, path)?;
        self.text.extend(format!(",{key}=").into_bytes());
        self.text.extend(path.as_bytes());
        Ok(self)
    }

    /// The list as one argument.
    pub(super) fn finish(self) -> OsString {
        OsString::from_vec(self.text)
    }
}

/// The path, if every option list takes it as it is.
///
/// cloud-hypervisor's and crosvm's quoting differ from each other and between versions, and no
/// sensible directory needs them.
pub(super) fn plain_path(vmm: Vmm, path: &Path) -> Result<&OsStr, CommandLineError> {
    let text = path.as_os_str();
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && !r#",=[]"'\"#.contains(c);
    match text.to_str() {
        Some(utf8) if utf8.chars().all(fits) => Ok(text),
        _ => Err(CommandLineError::Path { vmm, path: path.to_owned() }),
    }
}
