//! A second archive behind an unchanged image: the kernel unpacks both, the second over the first.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::archive::{self, Kind};
use super::tree::{Node, Source, Tree};
use super::write::directory_of;
use crate::ImageError;

/// A file to append to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedFile {
    /// Path in the image, with or without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Contents.
    pub contents: Vec<u8>,
}

/// Writes `image` followed by an archive of `files` to `out`, atomically. `image` may be
/// compressed; `files` are stored as they are and replace files of the same path.
///
/// # Errors
/// [`ImageError::Io`], or [`ImageError::ImagePath`] for a path that cannot be in an image.
pub fn append(image: &Path, files: &[AppendedFile], out: &Path) -> Result<(), ImageError> {
    let mut tree = Tree::default();
    for file in files {
        let source = Source::Bytes(file.contents.clone());
        tree.insert(file.path.as_ref(), Node::File { source, mode: file.mode })?;
    }
    let nodes = tree.complete()?;

    let directory = directory_of(out);
    let mut temporary = tempfile::NamedTempFile::new_in(directory)
        .map_err(ImageError::io("create a file in", directory))?;
    let mut input = BufReader::new(File::open(image).map_err(ImageError::io("read", image))?);
    let copied = io::copy(&mut input, &mut temporary).map_err(ImageError::io("copy", image))?;
    let write = |out: &mut dyn Write| -> io::Result<()> {
        let mut out = out;
        out.write_all(archive::padding(copied))?;
        for (inode, (path, node)) in (1_u32..).zip(&nodes) {
            out = match node {
                Node::File { source: Source::Bytes(contents), mode } => {
                    archive::entry(out, path, inode, *mode, Kind::File(contents))?
                }
                Node::Directory { mode } => {
                    archive::entry(out, path, inode, *mode, Kind::Directory)?
                }
                _ => out, // Only files and their directories are inserted above.
            };
        }
        archive::trailer(out)?.flush()
    };
    write(&mut BufWriter::new(&mut temporary)).map_err(ImageError::io("write", out))?;
    let length = temporary.stream_position().map_err(ImageError::io("write", out))?;
    temporary.write_all(archive::padding(length)).map_err(ImageError::io("write", out))?;
    fs::set_permissions(temporary.path(), Permissions::from_mode(0o600))
        .map_err(ImageError::io("write", out))?;
    temporary.persist(out).map_err(|error| error.error).map_err(ImageError::io("write", out))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Initramfs;

    #[test]
    fn append_to_an_odd_sized_image_starts_at_a_multiple_of_four() {
        let directory = tempfile::tempdir().unwrap();
        let (image, out) = (directory.path().join("image"), directory.path().join("out"));
        fs::write(&image, b"12345").unwrap();
        let file = AppendedFile { path: "/etc/netvm/a".into(), mode: 0o600, contents: b"x".into() };

        append(&image, &[file], &out).unwrap();

        let bytes = fs::read(&out).unwrap();
        assert_eq!(&bytes[..8], b"12345\0\0\0");
        let mut names = Vec::new();
        let mut rest = &bytes[8..];
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
        assert_eq!(names, ["etc", "etc/netvm", "etc/netvm/a"]);
    }

    #[test]
    fn append_path_outside_the_image_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        Initramfs::new().write(&image).unwrap();
        let file = AppendedFile { path: "../a".into(), mode: 0o600, contents: vec![] };
        let out = directory.path().join("out");
        assert!(append(&image, &[file], &out).is_err());
        assert!(!out.exists());
    }
}
