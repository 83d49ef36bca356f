//! Runs the few programs this crate relies on, with a fixed environment.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use crate::ImageError;

/// Directories searched for programs, in this order.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `program` with `args` and returns its output whatever its exit status is.
///
/// The environment is replaced: no LD_PRELOAD, no LD_LIBRARY_PATH, no locale may change what ends
/// up in an image.
pub(crate) fn output<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<Output, ImageError> {
    let program = program.as_ref();
    Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ImageError::Spawn {
            program: program.to_string_lossy().into_owned(),
            source,
        })
}

/// As [`output`], but a non-zero exit is an error; returns standard output as text.
pub(crate) fn stdout<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<String, ImageError> {
    let output = output(program.as_ref(), args)?;
    if !output.status.success() {
        return Err(failed(program.as_ref(), &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The error for a program that ran and failed.
pub(crate) fn failed(program: &OsStr, output: &Output) -> ImageError {
    let message = String::from_utf8_lossy(&output.stderr);
    ImageError::Program {
        program: program.to_string_lossy().into_owned(),
        status: output.status.to_string(),
        message: message.trim().replace(|c: char| c.is_control(), " "),
    }
}
