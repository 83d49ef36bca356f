//! A page whose every 16 bytes are known: who reads it steals, who writes it is seen.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::page::{Page, Pagemap, SIZE};

/// Bytes of which no two are the same, and which nothing else has.
const RUN: usize = 16;

/// What a page with this label holds: the label, cut or filled to 8 bytes, and a number, on and on.
pub fn pattern(label: &str) -> Vec<u8> {
    let mut label = label.as_bytes().to_vec();
    label.resize(8, b'.');
    let run = |number: usize| [label.clone(), format!("{number:08x}").into_bytes()].concat();
    (0..SIZE / RUN).flat_map(run).collect()
}

/// Fills `file`, which has to be in a tmpfs, so that whoever reads it later reads that very page.
pub fn write(file: &Path, label: &str) -> Result<()> {
    let at = || format!("Cannot use {}", file.display());
    fs::write(file, pattern(label)).with_context(at)?;
    let opened = OpenOptions::new().read(true).write(true).open(file).with_context(at)?;
    println!("{:#x}", Page::of_file(opened).with_context(at)?.address);
    Ok(())
}

/// Finds such a page in another process, a VMM.
pub fn locate(process: &str, label: &str) -> Result<()> {
    let wanted = pattern(label);
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let pages = Pagemap::open(process)?;
    let mut found = [0; SIZE];
    for line in maps.lines().filter(|line| line.contains("rw")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let (start, end) = range.context("Not a map")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        for place in (start..end).step_by(SIZE) {
            // What is not there would be made by reading it.
            let Some(address) = pages.address(place)? else { continue };
            // Some of a process cannot be read: registers of a device.
            if memory.read_exact_at(&mut found, place).is_ok() && found[..] == wanted {
                println!("{address:#x}");
                return Ok(());
            }
        }
    }
    anyhow::bail!("Process {process} has no page of {label}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_any_label_fills_a_page_and_repeats_nothing() {
        for label in ["", "host", "longer than eight"] {
            let page = pattern(label);
            assert_eq!(page.len(), SIZE, "{label}");
            let mut runs: Vec<_> = page.chunks(RUN).collect();
            runs.sort_unstable();
            runs.dedup();
            assert_eq!(runs.len(), SIZE / RUN, "{label}");
        }
        assert_ne!(pattern("host"), pattern("guest"));
    }
}
