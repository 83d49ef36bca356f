//! `netvm flags`: what to add to a guest's VMM command line.

use std::path::Path;

use crate::cli::run::{Failure, print, print_json};
use crate::declaration::{Declaration, Memory};
use crate::exit::Exit;
use crate::prepare::qemu_reconnect;
use crate::run::paths::RunDir;
use crate::vmm::{GuestLink, Vmm, guest_flags, shell_quote};

/// Prints the words for `guest`, quoted for a shell or as a JSON array.
pub fn print_flags(
    declaration: &Declaration,
    run: &RunDir,
    guest: &str,
    vmm: Option<Vmm>,
    memory: Option<&str>,
    json: bool,
) -> Result<Exit, Failure> {
    let wrong =
        |text: String| Failure { exit: Exit::Declaration, report: miette::miette!("{text}") };
    let Some(guest) = declaration.guest(guest) else {
        let names: Vec<_> = declaration.guests.iter().map(|guest| guest.name.as_str()).collect();
        return Err(wrong(format!(
            "No guest is called {guest:?}; declared are: {}",
            names.join(", ")
        )));
    };
    let memory = match memory {
        Some(text) => {
            text.parse::<Memory>().map_err(|error| wrong(format!("--memory {text}: {error}")))?
        }
        None => guest.memory,
    };
    let vmm = vmm.unwrap_or(guest.vmm);
    let link = GuestLink {
        name: guest.name.clone(),
        socket: run.guest_socket(guest.name.as_str()),
        mac: guest.mac,
        memory,
        mtu: declaration.network.mtu,
        vectors: None,
        reconnect: qemu_reconnect(Path::new(vmm.program()), vmm),
    };
    let failed = |error| Failure::new(Exit::Failed, error);
    let words = guest_flags(vmm, &link).map_err(failed)?;
    if json {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        return print_json(&words);
    }
    let line = shell_quote(&words).map_err(failed)?;
    print(&format!("{}\n", line.display()))
}
