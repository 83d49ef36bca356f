//! Scenarios and what became of them.

use std::path::PathBuf;
use std::time::Duration;

use crate::RigError;

/// A shell script that runs in the PC.
///
/// It is read by busybox's sh with the functions of `lib.sh` (`step`, `note`, `claim`,
/// `wait_for`, ...) and the commands `guest-start`, `guest-wait`, `guest-sh` and `guest-stop`. `$OUT`
/// is a folder that the host sees; standard output and error go to `$OUT/log`. When it ends, all
/// its processes are killed and PCI devices return to their native drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Lower-case letters, digits and hyphens; at most 64.
    pub name: String,
    /// The script's text.
    pub script: String,
    /// How long it may take inside the PC; whole seconds, at least one.
    pub timeout: Duration,
}

impl Scenario {
    /// A scenario with a time limit of 120 seconds.
    pub fn new(name: impl Into<String>, script: impl Into<String>) -> Scenario {
        Scenario { name: name.into(), script: script.into(), timeout: Duration::from_secs(120) }
    }

    /// Changes the time limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Scenario {
        self.timeout = timeout;
        self
    }

    pub(crate) fn check(&self) -> Result<(), RigError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=64).contains(&self.name.len()) && self.name.chars().all(allowed) {
            Ok(())
        } else {
            Err(RigError::ScenarioName(self.name.clone()))
        }
    }
}

/// A statement that a script decided, with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Identifier, unique within a scenario.
    pub id: String,
    /// Whether it held.
    pub pass: bool,
    /// What shows it.
    pub evidence: String,
}

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The script ended with this exit code; above 128, a signal ended it.
    Exit(i32),
    /// It was killed at its time limit; the PC went on.
    TimedOut,
    /// The PC was lost while it ran; the text has the end of the console.
    Lost(String),
    /// The PC had been lost before.
    NotRun,
}

/// What became of a scenario.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The scenario's name.
    pub name: String,
    /// How it ended.
    pub ending: Ending,
    /// Time from its start to its end, as the host saw it.
    pub duration: Duration,
    /// Its claims, in order.
    pub claims: Vec<Claim>,
    /// The folder that was `$OUT`: `script`, `log`, `dmesg`, and what the script put there.
    pub folder: PathBuf,
    /// The frames on the first NIC's wire during this scenario (see [`crate::wire`]); those of
    /// further NICs are next to it as `wire-ID.pcap`.
    pub wire: PathBuf,
}

impl Outcome {
    /// Whether the script ended with 0 and no claim failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.ending == Ending::Exit(0) && self.claims.iter().all(|claim| claim.pass)
    }

    /// The script's log: its standard output and error.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_names_that_are_paths_or_commands_are_refused() {
        for name in ["", "..", "a/b", "a b", "A", "a\n", &"a".repeat(65)] {
            assert!(Scenario::new(name, "").check().is_err(), "{name:?}");
        }
        assert!(Scenario::new("kill-after-3rd-write", "").check().is_ok());
    }

    #[test]
    fn passed_failed_claim_is_not_hidden_by_exit_code_zero() {
        let claim = |pass| Claim { id: "a".into(), pass, evidence: String::new() };
        let outcome = |ending, claims| Outcome {
            name: "a".into(),
            ending,
            duration: Duration::ZERO,
            claims,
            folder: PathBuf::new(),
            wire: PathBuf::new(),
        };
        assert!(outcome(Ending::Exit(0), vec![claim(true)]).passed());
        assert!(!outcome(Ending::Exit(0), vec![claim(true), claim(false)]).passed());
        assert!(!outcome(Ending::Exit(1), vec![]).passed());
        assert!(!outcome(Ending::NotRun, vec![]).passed());
    }
}
