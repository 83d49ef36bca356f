//! Which CPUs the link runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPU numbers that can be asked for are below this.
pub const MAX_CPU: usize = CpuSet::MAX_CPU;

/// Why the link cannot run where it was told to.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Some of the CPUs are not there.
    #[error(
        "Cannot run on CPU {0}: it does not exist, is offline, or this process may not use it; \
         see /sys/devices/system/cpu/online and Cpus_allowed_list in /proc/self/status"
    )]
    Unusable(usize),
    /// The kernel refused for another reason.
    #[error("Cannot choose the CPUs to run on")]
    System(#[source] rustix::io::Errno),
}

/// Has the calling thread, and those it starts from now on, run on these CPUs only; on any, if there
/// are none. Called before the sandbox is entered: no thread of a running link can change it.
pub fn pin(cpus: &[usize]) -> Result<(), PinError> {
    if cpus.is_empty() {
        return Ok(());
    }
    let usable = sched_getaffinity(None).map_err(PinError::System)?;
    let mut wanted = CpuSet::new();
    for cpu in cpus {
        // The kernel passes over CPUs that are not there as long as one is.
        if *cpu >= MAX_CPU || !usable.is_set(*cpu) {
            return Err(PinError::Unusable(*cpu));
        }
        wanted.set(*cpu);
    }
    sched_setaffinity(None, &wanted).map_err(PinError::System)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_runs_where_it_is_told_and_so_do_those_it_starts() {
        let thread = std::thread::spawn(|| {
            let usable = sched_getaffinity(None).unwrap();
            let cpu = (0..MAX_CPU).rfind(|cpu| usable.is_set(*cpu)).unwrap();
            pin(&[]).unwrap();
            assert_eq!(sched_getaffinity(None).unwrap(), usable);
            let nowhere = (0..=MAX_CPU).find(|cpu| *cpu == MAX_CPU || !usable.is_set(*cpu));
            let nowhere = nowhere.unwrap();
            let refused = pin(&[cpu, nowhere]).unwrap_err();
            assert!(matches!(refused, PinError::Unusable(cpu) if cpu == nowhere), "{refused}");
            assert_eq!(sched_getaffinity(None).unwrap(), usable, "nothing is half done");
            pin(&[cpu]).unwrap();
            let mut only = CpuSet::new();
            only.set(cpu);
            assert_eq!(sched_getaffinity(None).unwrap(), only);
            let child = std::thread::spawn(|| sched_getaffinity(None).unwrap());
            assert_eq!(child.join().unwrap(), only);
        });
        thread.join().unwrap();
    }
}
