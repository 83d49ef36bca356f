//! Reads every file of a finished tree, hashes it, and writes archive and manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::{self, Kind};
use super::manifest::{FORMAT, FileRecord, Manifest};
use super::provenance::{self, Owner, hex};
use super::tree::{Node, Source};
use super::{Compression, ImageError};
use crate::modules;

/// Writes the archive at `path` and returns its manifest.
pub(super) fn write(
    nodes: BTreeMap<String, Node>,
    kernel: Option<String>,
    compression: Compression,
    path: &Path,
) -> Result<Manifest, ImageError> {
    let sources: BTreeSet<PathBuf> = nodes
        .values()
        .filter_map(|node| match node {
            Node::File { source: Source::Host(path) | Source::Decompressed(path), .. } => {
                Some(path)
            }
            _ => None,
        })
        .cloned()
        .collect();
    let mut recorder = Recorder {
        owners: if sources.is_empty() { BTreeMap::new() } else { provenance::owners(&sources)? },
        files: Vec::new(),
        links: BTreeMap::new(),
        packages: BTreeMap::new(),
    };

    let directory = directory_of(path);
    let temporary = tempfile::NamedTempFile::new_in(directory)
        .map_err(ImageError::io("create a file in", directory))?;
    let hashed = Hashed { out: BufWriter::new(temporary.as_file()), hash: Sha256::new(), size: 0 };
    let hashed = match compression {
        Compression::None => entries(&nodes, &mut recorder, hashed, path)?,
        Compression::Zstd(level) => {
            let encoder =
                zstd::Encoder::new(hashed, level).map_err(ImageError::io("compress", path))?;
            entries(&nodes, &mut recorder, encoder, path)?
                .finish()
                .map_err(ImageError::io("write", path))?
        }
    };
    let (sha256, size) = hashed.finish().map_err(ImageError::io("write", path))?;
    temporary
        .as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o644))
        .map_err(ImageError::io("write", path))?;
    temporary.persist(path).map_err(|error| error.error).map_err(ImageError::io("write", path))?;

    Ok(Manifest {
        format: FORMAT,
        kernel,
        sha256,
        size,
        unpacked: recorder.files.iter().map(|file| file.size).sum(),
        packages: recorder.packages,
        files: recorder.files,
        links: recorder.links,
    })
}

/// The directory that holds `path`.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes all entries and the trailer.
fn entries<W: Write>(
    nodes: &BTreeMap<String, Node>,
    recorder: &mut Recorder,
    mut out: W,
    archive_path: &Path,
) -> Result<W, ImageError> {
    let write = |result: io::Result<W>| result.map_err(ImageError::io("write", archive_path));
    for (inode, (path, node)) in (1_u32..).zip(nodes) {
        out = match node {
            Node::File { source, mode } => {
                let contents = recorder.read(path, *mode, source)?;
                write(archive::entry(out, path, inode, *mode, Kind::File(&contents)))?
            }
            Node::Directory { mode } => {
                write(archive::entry(out, path, inode, *mode, Kind::Directory))?
            }
            Node::Symlink { target } => {
                recorder.links.insert(path.clone(), target.clone());
                write(archive::entry(out, path, inode, 0o777, Kind::Symlink(target)))?
            }
            Node::Device { major, minor, mode } => {
                let kind = Kind::Device { major: *major, minor: *minor };
                write(archive::entry(out, path, inode, *mode, kind))?
            }
        };
    }
    write(archive::trailer(out))
}

/// Collects what the manifest says while files pass by.
struct Recorder {
    owners: BTreeMap<PathBuf, Owner>,
    files: Vec<FileRecord>,
    links: BTreeMap<String, String>,
    packages: BTreeMap<String, String>,
}

impl Recorder {
    /// Reads a file's contents as packed, and records it.
    fn read(&mut self, path: &str, mode: u32, source: &Source) -> Result<Vec<u8>, ImageError> {
        let mut package = None;
        let mut modified = false;
        let contents = match source {
            Source::Bytes(contents) => contents.clone(),
            Source::Host(host) | Source::Decompressed(host) => {
                let mut contents = std::fs::read(host).map_err(ImageError::io("read", host))?;
                if let Some(owner) = self.owners.get(host) {
                    self.packages.insert(owner.package.clone(), owner.version.clone());
                    package = Some(owner.package.clone());
                    modified = owner.is_modified(&contents);
                }
                if modified {
                    tracing::warn!(path = %host.display(), "differs from what its package shipped");
                }
                if matches!(source, Source::Decompressed(_)) {
                    contents = modules::plain(host, contents)?;
                }
                contents
            }
        };
        let size = contents.len() as u64;
        if u32::try_from(size).is_err() {
            return Err(ImageError::TooLarge { path: PathBuf::from(path), size });
        }
        self.files.push(FileRecord {
            path: path.to_owned(),
            mode,
            size,
            sha256: hex(&Sha256::digest(&contents)),
            package,
            modified,
        });
        Ok(contents)
    }
}

/// A writer that hashes and counts what passes.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashed<W> {
    fn finish(mut self) -> io::Result<(String, u64)> {
        self.out.flush()?;
        Ok((hex(&self.hash.finalize()), self.size))
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    // The archive writer flushes after every entry; only finish() flushes for good.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
