//! R17: VFIO pins the guest's memory, which counts as locked.

use super::super::device::Device;
use super::super::sysfs::Sysfs;
use super::Facts;
use super::report::{Check, Report};

pub(super) fn check(facts: Facts<'_>, report: &mut Report) {
    let environment = facts.environment;
    if environment.wanted.vmm_is_root {
        report.ok(Check::R17, "host", "the VMM runs as root, which no memory lock limit holds");
        return;
    }
    let registers: u64 = facts
        .nics
        .iter()
        .map(|nic| registers(facts.sysfs, &nic.device))
        .fold(0, u64::saturating_add);
    let needed = environment.wanted.guest_memory.saturating_add(registers);
    match environment.memlock {
        Some(limit) if limit < needed => report.refuse(
            Check::R17,
            "host",
            format!(
                "the VMM may lock {} KiB (RLIMIT_MEMLOCK), and needs {} KiB: the guest's memory \
                 and the device's registers",
                limit / 1024,
                needed.div_ceil(1024)
            ),
            format!(
                "`ulimit -l {}` as root before the start, or LimitMEMLOCK= in the unit",
                needed.div_ceil(1024)
            ),
        ),
        _ => report.ok(Check::R17, "host", "the VMM may lock the guest's memory"),
    }
}

/// Bytes of the device's memory BARs, from `resource`: `FIRST LAST FLAGS` a line, the first six
/// being BARs.
fn registers(sysfs: &Sysfs, device: &Device) -> u64 {
    const MEMORY: u64 = 0x200;
    let Some(text) = sysfs.text(device.directory.join("resource")) else {
        return 0;
    };
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let size = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        let (first, last) = (number(words.next()?)?, number(words.next()?)?);
        let flags = number(words.next()?)?;
        (flags & MEMORY != 0).then(|| last.checked_sub(first)?.checked_add(1))?
    };
    text.lines().take(6).filter_map(size).fold(0, u64::saturating_add)
}
