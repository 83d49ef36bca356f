//! A driver of QEMU's e1000e as an attacker writes it, in a guest's user space.
//!
//! It makes the card read and write where it is told, interrupt as fast as it can, and reset
//! itself. `tests/rig/hostile-*.sh` run it, and look from outside at what came of it.

mod card;
mod dma;
mod function;
mod page;
mod poison;
mod reset;
mod storm;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "\
usage: hostile-driver COMMAND
  poison FILE LABEL           fills a page with LABEL; says at which physical address it lies
  locate PID LABEL            finds that page in a process; says the same
  dma BDF ADDRESS|own|msi=ADDRESS,DATA...
                              lets the card read and write there; says what it saw
  rings BDF ADDRESS...        puts the card's rings there
  storm BDF msi-x|intx SECONDS
                              interrupts for so long; says how often it tried
  quiet BDF                   ends what a storm left
  reset BDF COUNT             asks for that many function-level resets";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile-driver: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["poison", file, label] => poison::write(Path::new(file), label),
        ["locate", process, label] => poison::locate(process, label),
        ["dma", bdf, targets @ ..] => {
            let targets: Vec<dma::Target> =
                targets.iter().map(|target| target.parse()).collect::<Result<_>>()?;
            dma::buffers(bdf, &targets)
        }
        ["rings", bdf, addresses @ ..] => {
            let addresses: Vec<u64> =
                addresses.iter().map(|text| number(text)).collect::<Result<_>>()?;
            dma::rings(bdf, &addresses)
        }
        ["storm", bdf, "msi-x", seconds] => storm::msix(bdf, number(seconds)?),
        ["storm", bdf, "intx", seconds] => storm::intx(bdf, number(seconds)?),
        ["quiet", bdf] => storm::quiet(bdf),
        ["reset", bdf, count] => reset::repeat(bdf, number(count)?),
        _ => bail!("{USAGE}"),
    }
}

/// A number, decimal or with 0x.
fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("{text} is no number"))
}
