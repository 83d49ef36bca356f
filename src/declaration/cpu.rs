//! CPUs of links, which are right or wrong by what the host has, not by the file alone.

use super::error::{Findings, Problem};
use super::{At, Parsed};

impl Parsed {
    /// Checks every `link_cpu` against the host: `is_usable` tells for a CPU's number whether it is
    /// there, online, and one that this process, and so the links it starts, may run on.
    ///
    /// # Errors
    ///
    /// Every CPU that is not, with its place in the file.
    pub fn check_cpus(&self, is_usable: impl Fn(u16) -> bool) -> Result<(), Findings> {
        let problems: Vec<Problem> = self
            .cpus
            .iter()
            .filter(|at| !is_usable(at.value))
            .map(|At { span, value }| {
                Problem::error(
                    "netvm::guest::link_cpu_unusable",
                    span.clone(),
                    format!(
                        "A link cannot run on CPU {value}: this host does not have it, it is \
                         offline, or this process may not use it"
                    ),
                    "not usable",
                )
                .help(
                    "name one of /sys/devices/system/cpu/online that is in Cpus_allowed_list of \
                     /proc/self/status too, or leave `link_cpu` out",
                )
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(self.warnings.with(problems)) }
    }
}
