//! What the kernel knows about a process: `/proc/PID`.

use std::fs;
use std::time::Duration;

/// CPU time that a process has used, of all its threads; none if the kernel does not say.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let nanoseconds =
        sum_of_threads(pid, "schedstat", |text| text.split_ascii_whitespace().next()?.parse().ok());
    nanoseconds.map(Duration::from_nanos)
}

/// How often its threads went to sleep of their own accord, and so were woken.
pub fn sleeps(pid: u32) -> Option<u64> {
    sum_of_threads(pid, "status", |text| field(text, "voluntary_ctxt_switches:"))
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

/// Adds up what a file of each thread says. Threads may end meanwhile; none if no thread says anything.
fn sum_of_threads(pid: u32, file: &str, read: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let value = |thread: std::io::Result<fs::DirEntry>| {
        read(&fs::read_to_string(thread.ok()?.path().join(file)).ok()?)
    };
    threads.filter_map(value).fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
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
        // Threads of other tests may have ended meanwhile.
        assert!(before > 0 && sleeps(pid).unwrap() > 0);
        assert!(private_memory(pid).unwrap() > 4096);
        assert!(cpu_time(pid).is_none_or(|time| time > Duration::ZERO));
    }
}
