//! Firmware files that a kernel module names ("firmware=" in its .modinfo section).

use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use crate::ImageError;
use crate::modules::read_plain;

/// The installed firmware files of `module`: name below the firmware directory (without `.xz` or
/// `.zst`), and the file itself.
pub(super) fn installed(
    module: &Path,
    directory: &Path,
) -> Result<Vec<(String, PathBuf)>, ImageError> {
    let contents = read_plain(module)?;
    let elf = object::File::parse(&*contents).map_err(|error| ImageError::Elf {
        path: module.to_path_buf(),
        reason: error.to_string(),
    })?;
    let Some(Ok(information)) = elf.section_by_name(".modinfo").map(|section| section.data())
    else {
        return Ok(Vec::new());
    };
    let names = names(information);
    Ok(names
        .filter_map(|name| {
            let file = ["", ".xz", ".zst"]
                .iter()
                .map(|suffix| directory.join(format!("{name}{suffix}")))
                .find(|file| file.is_file())?;
            Some((name.to_owned(), file))
        })
        .collect())
}

/// The values of "firmware=" among NUL-terminated "key=value" strings.
fn names(information: &[u8]) -> impl Iterator<Item = &str> {
    information
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("firmware="))
        .filter(|name| !name.is_empty() && !name.split('/').any(|part| part == ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_only_firmware_entries_inside_the_directory_are_taken() {
        let information =
            b"license=GPL\0firmware=a/b.bin\0firmware=../../etc/shadow\0\0firmware=\0firmware=c";
        assert_eq!(names(information).collect::<Vec<_>>(), ["a/b.bin", "c"]);
    }

    #[test]
    fn installed_real_driver_names_a_file_that_is_there() {
        let kernel = crate::Kernel::newest().unwrap();
        let module = kernel.modules_directory().join("kernel/drivers/net/ethernet/broadcom/tg3.ko");
        if !module.exists() {
            return; // A kernel with compressed modules.
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("tigon")).unwrap();
        std::fs::write(directory.path().join("tigon/tg3.bin.xz"), "").unwrap();
        let found = installed(&module, directory.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "tigon/tg3.bin");
    }
}
