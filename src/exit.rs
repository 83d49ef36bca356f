//! What the command's exit status means; the same table is in its `--help` and in its man page.

use std::process::ExitCode;

/// The exit status of `netvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked for was done.
    Done = 0,
    /// Something failed; what had been started was undone.
    Failed = 1,
    /// The command line or the declaration is wrong; nothing was touched.
    Declaration = 2,
    /// Preflight refused; nothing was touched.
    Refused = 3,
    /// An earlier run left changes behind: `netvm recover` undoes them.
    NeedsRecovery = 4,
}

/// The table of exit statuses as `--help` prints it.
pub const TABLE: &str = "\
Exit status:
  0  done
  1  failed (what had been started was undone)
  2  wrong command line or declaration (nothing was touched)
  3  preflight refused (nothing was touched)
  4  an earlier run left changes behind: run `netvm recover`";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
