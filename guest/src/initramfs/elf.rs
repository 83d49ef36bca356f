//! The shared libraries that a binary needs.
//!
//! The binary's own ELF interpreter resolves them (`ld.so --list`, what ldd does): search paths,
//! RUNPATH, the cache and hardware-dependent directories are its business, and nobody can disagree
//! with it about them. The binary itself is not executed.

use std::fs;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, ProgramHeader};

use crate::{ImageError, command};

/// What a binary needs beside itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// Nothing.
    Static,
    /// The interpreter and every shared library, as the interpreter names them.
    Dynamic(Vec<PathBuf>),
}

/// Finds what the ELF executable `binary` needs.
pub(crate) fn linkage(binary: &Path) -> Result<Linkage, ImageError> {
    let data = fs::read(binary).map_err(ImageError::io("read", binary))?;
    let interpreter = match object::FileKind::parse(&*data) {
        Ok(object::FileKind::Elf32) => {
            interpreter::<object::elf::FileHeader32<object::Endianness>>(&data)
        }
        Ok(object::FileKind::Elf64) => {
            interpreter::<object::elf::FileHeader64<object::Endianness>>(&data)
        }
        Ok(_) => Err("it is another kind of object file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
    .map_err(|reason| ImageError::Elf { path: binary.to_path_buf(), reason })?;
    let Some(interpreter) = interpreter else {
        return Ok(Linkage::Static);
    };
    let listing = command::stdout(&interpreter, [Path::new("--list"), binary])?;
    let mut libraries = parse_listing(&listing)
        .map_err(|reason| ImageError::Elf { path: binary.to_path_buf(), reason })?;
    libraries.push(interpreter);
    libraries.sort();
    libraries.dedup();
    Ok(Linkage::Dynamic(libraries))
}

/// The path in the PT_INTERP segment, if there is one.
fn interpreter<E: FileHeader<Endian = object::Endianness>>(
    data: &[u8],
) -> Result<Option<PathBuf>, String> {
    let header = E::parse(data).map_err(|error| error.to_string())?;
    let endian = header.endian().map_err(|error| error.to_string())?;
    for segment in header.program_headers(endian, data).map_err(|error| error.to_string())? {
        if let Some(path) = segment.interpreter(endian, data).map_err(|error| error.to_string())? {
            let path = std::str::from_utf8(path).map_err(|error| error.to_string())?;
            return Ok(Some(PathBuf::from(path)));
        }
    }
    Ok(None)
}

/// Reads lines such as "libc.so.6 => /lib/libc.so.6 (0x00007f)", "linux-vdso.so.1 (0x...)",
/// "/lib64/ld-linux-x86-64.so.2 (0x...)", "libx.so => not found".
fn parse_listing(listing: &str) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in listing.lines() {
        let line = line.trim();
        let (name, target) = line.split_once(" => ").unwrap_or((line, line));
        if target == "not found" {
            return Err(format!("its library {name} is not installed"));
        }
        let path = target.split(" (").next().unwrap_or(target);
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_listing_vdso_is_no_file_and_missing_library_is_named() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x0000)\n";
        assert_eq!(
            parse_listing(listing).unwrap(),
            [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]
        );
        let error = parse_listing("\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.contains("libx.so.1"), "{error}");
    }

    #[test]
    fn linkage_this_test_binary_needs_libc_and_its_interpreter() {
        let Linkage::Dynamic(libraries) = linkage(&std::env::current_exe().unwrap()).unwrap()
        else {
            return; // A static (musl) build of the tests.
        };
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("/libc.so")));
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("/ld-")));
    }

    #[test]
    fn linkage_text_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(matches!(linkage(&path), Err(ImageError::Elf { .. })));
        fs::write(&path, b"\x7fELF\x02\x01\x01truncated").unwrap();
        assert!(matches!(linkage(&path), Err(ImageError::Elf { .. })));
    }
}
