//! The outside world: one web server behind QEMU's user mode network.
//!
//! QEMU starts busybox's httpd for each connection to 10.0.N.100:80 and joins its standard input
//! and output to it; nothing listens anywhere and nothing else outside can be reached.

use std::fs;
use std::path::{Path, PathBuf};

use crate::RigError;

/// What the page `/` says.
pub(crate) const PAGE: &str = "this is the outside\n";

/// Makes the folder of served files: `index.html` and `megabyte`, 2^20 bytes in numbered lines of 16
/// (MD5 618e6fcfda61bb49b6dfe31caccbb708).
pub(crate) fn serve(folder: &Path) -> Result<PathBuf, RigError> {
    let root = folder.join("outside");
    fs::create_dir_all(&root).map_err(RigError::io("make", &root))?;
    let write = |name: &str, contents: &[u8]| {
        let path = root.join(name);
        fs::write(&path, contents).map_err(RigError::io("write", &path))
    };
    write("index.html", PAGE.as_bytes())?;
    let lines: String = (0..1 << 16).map(|line| format!("{line:015}\n")).collect();
    write("megabyte", lines.as_bytes())?;
    Ok(root)
}
