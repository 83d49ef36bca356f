//! How much memory this process may lock, before the kernel says no without a number.

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::DmaError;

/// What the kernel compares when memory is pinned for DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memlock {
    /// `RLIMIT_MEMLOCK`; `None` when there is no limit, or it does not matter.
    limit: Option<u64>,
    /// What is locked already.
    locked: u64,
}

impl Memlock {
    pub(super) fn of_this_process() -> Self {
        let exempt =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
        let limit = if exempt { None } else { getrlimit(Resource::Memlock).current };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { limit, locked: locked(&status) }
    }

    /// `bytes` more may be locked.
    pub(super) fn allows(self, bytes: u64) -> Result<(), DmaError> {
        match self.limit {
            Some(limit) if self.locked.saturating_add(bytes) > limit => {
                Err(DmaError::Memlock { needed: bytes, limit, locked: self.locked })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that `/proc/PID/status` says are locked: by type 1 containers among others (`VmLck`), or
/// by iommufd (`VmPin`). Each is held against the limit on its own.
fn locked(status: &str) -> u64 {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    let most = kib("VmLck:").max(kib("VmPin:")).unwrap_or(0);
    most.saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_a_vmm() {
        let status = "Name:\tvmm\nVmLck:\t    2048 kB\nVmPin:\t       0 kB\nVmHWM:\t 9 kB\n";
        assert_eq!(locked(status), 2 << 20);
        assert_eq!(locked("VmLck:\t1 kB\nVmPin:\t4 kB\n"), 4096);
        assert_eq!(locked(""), 0);
        assert_eq!(locked("VmLck:\tmuch kB\n"), 0);
    }

    #[test]
    fn numbers_are_in_the_error() {
        let memlock = Memlock { limit: Some(8 << 20), locked: 1 << 20 };
        memlock.allows(7 << 20).unwrap();
        let text = memlock.allows((7 << 20) + 1).unwrap_err().to_string();
        for number in ["7340033", "8388608", "1048576", "8388609"] {
            assert!(text.contains(number), "{text}");
        }
        memlock.allows(u64::MAX).unwrap_err();
        Memlock { limit: None, locked: u64::MAX }.allows(u64::MAX).unwrap();
    }
}
