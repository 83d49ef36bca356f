//! The newc archive ("070701", Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

use cpio::newc::{self, ModeFileType};

/// What one entry is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind<'a> {
    File(&'a [u8]),
    Directory,
    Symlink(&'a str),
    Device { major: u32, minor: u32 },
}

/// Writes one entry: owner 0:0, modification time 0, so that equal contents give equal bytes.
///
/// `inode` numbers entries from 1; `mode` holds the permission bits only. A file of 4 GiB or more
/// is an error (the format has 32 bits for it).
pub(crate) fn entry<W: Write>(
    out: W,
    path: &str,
    inode: u32,
    mode: u32,
    kind: Kind<'_>,
) -> io::Result<W> {
    let (file_type, data) = match kind {
        Kind::File(data) => (ModeFileType::Regular, data),
        Kind::Directory => (ModeFileType::Directory, &[][..]),
        Kind::Symlink(target) => (ModeFileType::Symlink, target.as_bytes()),
        Kind::Device { .. } => (ModeFileType::Char, &[][..]),
    };
    let mut builder = newc::Builder::new(path)
        .ino(inode)
        .mode(mode)
        .nlink(if matches!(kind, Kind::Directory) { 2 } else { 1 })
        .set_mode_file_type(file_type);
    if let Kind::Device { major, minor } = kind {
        builder = builder.rdev_major(major).rdev_minor(minor);
    }
    let size = u32::try_from(data.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut writer = builder.write(out, size);
    writer.write_all(data)?;
    writer.finish()
}

/// Ends the archive.
pub(crate) fn trailer<W: Write>(out: W) -> io::Result<W> {
    newc::trailer(out)
}

/// Zero bytes needed after `length` so that another archive may follow: the kernel wants each to
/// begin at a multiple of 4.
pub(crate) fn padding(length: u64) -> &'static [u8] {
    match length % 4 {
        0 => &[],
        1 => &[0; 3],
        2 => &[0; 2],
        _ => &[0; 1],
    }
}
