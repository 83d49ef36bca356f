//! `netvm image`: build netvm's image, show what is in it.

use std::path::Path;

use netvm_image::Kernel;
use netvm_image::image::{self, Options};

use crate::cli::run::{Failure, print, print_json};
use crate::exit::Exit;

/// Builds the image into `directory`, telling each step on stderr.
pub fn build(directory: &Path, kernel: Option<&str>, modules: &[String]) -> Result<Exit, Failure> {
    let failed = |error| Failure::new(Exit::Failed, error);
    let mut options = Options::new(directory).map_err(failed)?;
    if let Some(version) = kernel {
        options.kernel = Kernel::find(version).map_err(failed)?;
    }
    options.extra_modules = modules.to_vec();
    let built = image::build(&options, &mut |step| eprintln!("{step}")).map_err(failed)?;
    let manifest = &built.manifest;
    print(&format!(
        "{}\n{}\n  {} files of {} packages, {} MiB unpacked, sha256 {}\n",
        built.kernel.display(),
        built.initramfs.display(),
        manifest.files.len(),
        manifest.packages.len(),
        manifest.unpacked >> 20,
        manifest.sha256,
    ))
}

/// Builds the image into `directory` without a word, for the demonstration and tests.
pub fn build_quietly(directory: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::new(Exit::Failed, error);
    let options = Options::new(directory).map_err(failed)?;
    image::build(&options, &mut |_| {}).map(drop).map_err(failed)
}

/// Shows the packages, versions and hashes of the image in `directory`.
pub fn show(directory: &Path, json: bool) -> Result<Exit, Failure> {
    let shown = image::show(directory).map_err(|error| Failure::new(Exit::Failed, error))?;
    let manifest = &shown.manifest;
    if json {
        return print_json(manifest);
    }
    let mut text = format!(
        "kernel     {} ({})\ninitramfs  {} ({} files, {} MiB unpacked)\nsha256     {}\n\n",
        shown.kernel.display(),
        manifest.kernel.as_deref().unwrap_or("unknown"),
        shown.initramfs.display(),
        manifest.files.len(),
        manifest.unpacked >> 20,
        manifest.sha256,
    );
    for (package, version) in &manifest.packages {
        text.push_str(&format!("{package} {version}\n"));
    }
    for file in manifest.modified() {
        text.push_str(&format!("changed on this machine: {}\n", file.path));
    }
    print(&text)
}
