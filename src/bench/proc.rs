//! What the kernel knows about a process: `/proc/PID`.

use std::fs;
use std::time::Duration;

/// CPU time that a process has used, of all its threads; none if the kernel does not say.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let nanoseconds = threads(pid)?.into_iter().map(|thread| {
        let text = fs::read_to_string(format!("{thread}/schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    nanoseconds.sum::<Option<u64>>().map(Duration::from_nanos)
}

/// How often its threads went to sleep of their own accord, and so were woken.
pub fn sleeps(pid: u32) -> Option<u64> {
    threads(pid)?
        .into_iter()
        .map(|thread| {
            let status = fs::read_to_string(format!("{thread}/status")).ok()?;
            field(&status, "voluntary_ctxt_switches:")
        })
        .sum()
}

/// Memory that it has for itself alone, in bytes.
pub fn private_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    private(&text)
}

/// The sum of the Private_* lines, which are in kB.
fn private(rollup: &str) -> Option<u64> {
    let kilobytes = ["Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"]
        .into_iter()
        .map(|name| field(rollup, name))
        .sum::<Option<u64>>()?;
    Some(kilobytes * 1024)
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn threads(pid: u32) -> Option<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let path = |entry: std::io::Result<fs::DirEntry>| Some(entry.ok()?.path().to_str()?.to_owned());
    entries.map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_the_sum_of_its_lines() {
        let text = "5000-6000 ---p 00000000 00:00 0 [rollup]\nRss: 10 kB\nPrivate_Clean:  4 kB\n\
                    Private_Dirty:     12 kB\nPrivate_Hugetlb:  0 kB\n";
        assert_eq!(private(text), Some(16 * 1024));
        assert_eq!(private("Rss: 10 kB\n"), None);
    }

    #[test]
    fn this_process_has_slept_worked_and_has_memory() {
        let pid = std::process::id();
        let before = sleeps(pid).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(sleeps(pid).unwrap() > before);
        assert!(private_memory(pid).unwrap() > 4096);
        assert!(cpu_time(pid).is_none_or(|time| time > Duration::ZERO));
    }
}
