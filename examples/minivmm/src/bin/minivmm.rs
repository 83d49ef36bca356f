//! The program; all of it is in the library, which is empty but on x86-64.

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    minivmm::main()
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    eprintln!("minivmm: The machine that it makes has x86-64 processors; this one has not");
    ExitCode::FAILURE
}
