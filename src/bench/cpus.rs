//! Which CPU does what: links on one, the generator on another.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::BenchError;

/// The CPUs of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// For links and whatever else is measured.
    pub measured: usize,
    /// For the generator: another one, if this process may use two.
    pub generator: usize,
}

impl Cpus {
    /// The first two CPUs that this process may use.
    pub fn choose() -> Result<Self, BenchError> {
        let allowed =
            sched_getaffinity(None).map_err(BenchError::system("read the CPU affinity"))?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let measured = cpus.next().unwrap_or(0);
        Ok(Self { measured, generator: cpus.next().unwrap_or(measured) })
    }

    /// Whether there are two.
    pub const fn are_two(&self) -> bool {
        self.measured != self.generator
    }

    /// Does something on the measured CPU: threads and processes that it starts stay there.
    pub fn on_measured<T>(&self, act: impl FnOnce() -> T) -> Result<T, BenchError> {
        pin(self.measured)?;
        let result = act();
        pin(self.generator)?;
        Ok(result)
    }
}

/// Pins this thread.
fn pin(cpu: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(BenchError::system("pin a thread to a CPU"))
}
