//! The system calls a running link makes, and no other.

use std::io::Cursor;

use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};

use super::PartError;

/// Calls allowed whatever their arguments.
const ALLOWED: &[&str] = &[
    // Frames, messages, events.
    "read",
    "write",
    "readv",
    "writev",
    "recvmsg",
    "sendmsg",
    "recvfrom",
    "sendto",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "ppoll",
    "eventfd2",
    "close",
    "fstat",
    "fcntl",
    // Sessions: the private connection and the checks of what a frontend sends.
    "accept4",
    "bind",
    "listen",
    "connect",
    "getsockname",
    "getsockopt",
    "setsockopt",
    "shutdown",
    // Memory, the guests' and the process's own.
    "munmap",
    "madvise",
    "mremap",
    "brk",
    // Threads of sessions.
    "futex",
    "set_robust_list",
    "rseq",
    "sigaltstack",
    "rt_sigprocmask",
    "rt_sigaction",
    "rt_sigreturn",
    "sched_yield",
    "sched_getaffinity",
    "gettid",
    "getpid",
    "exit",
    "exit_group",
    "restart_syscall",
    // Time stamps and waits, where the vDSO does not serve.
    "clock_gettime",
    "clock_nanosleep",
    "getrandom",
];

/// Calls of the C library that only x86-64 has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_ARCH: &[&str] = &["poll", "epoll_wait"];
/// Calls of the C library that only this architecture has.
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_ARCH: &[&str] = &[];

/// AF_UNIX, PROT_EXEC, CLONE_THREAD, PR_SET_NAME, PR_SET_VMA.
const AF_UNIX: u64 = 1;
const PROT_EXEC: u64 = 4;
const CLONE_THREAD: u64 = 0x1_0000;
const PR_SET_NAME: u64 = 15;
const PR_SET_VMA: u64 = 0x5356_4d41;

const ENOENT: u32 = 2;
const ENOSYS: u32 = 38;

/// Loads the filters into the calling thread, which must be the only one. Any other call ends the
/// process.
pub fn load() -> Result<(), PartError> {
    for filter in filters() {
        for program in compile(&filter)? {
            apply_filter(&program).map_err(|error| PartError::Seccomp(error.into()))?;
        }
    }
    Ok(())
}

/// The filters. Where they disagree, the kernel takes the strictest: kill, then an error, then
/// allow.
fn filters() -> [Value; 3] {
    // The C library looks for files and for clone3, and goes on when it is told that there are
    // none. These come out as errors: the main filter would kill.
    [refuse(&["openat"], ENOENT), refuse(&["clone3"], ENOSYS), main_filter()]
}

fn refuse(calls: &[&str], errno: u32) -> Value {
    let rules: Vec<Value> = calls.iter().map(|call| json!({ "syscall": call })).collect();
    json!({ "link": {
        "mismatch_action": "allow",
        "match_action": { "errno": errno },
        "filter": rules,
    }})
}

fn main_filter() -> Value {
    let mut rules: Vec<Value> = ALLOWED
        .iter()
        .chain(ALLOWED_ARCH)
        .chain(&["openat", "clone3"])
        .map(|call| json!({ "syscall": call }))
        .collect();
    let own = u64::from(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
    rules.extend([
        json!({ "syscall": "socket", "args": [equal(0, AF_UNIX)] }),
        json!({ "syscall": "mmap", "args": [masked(2, PROT_EXEC, 0)] }),
        json!({ "syscall": "mprotect", "args": [masked(2, PROT_EXEC, 0)] }),
        json!({ "syscall": "clone", "args": [masked(0, CLONE_THREAD, CLONE_THREAD)] }),
        json!({ "syscall": "prctl", "args": [equal(0, PR_SET_NAME)] }),
        json!({ "syscall": "prctl", "args": [equal(0, PR_SET_VMA)] }),
        // abort() signals the process itself.
        json!({ "syscall": "tgkill", "args": [equal(0, own)] }),
    ]);
    json!({ "link": {
        "mismatch_action": "kill_process",
        "match_action": "allow",
        "filter": rules,
    }})
}

fn equal(index: u8, value: u64) -> Value {
    json!({ "index": index, "type": "dword", "op": "eq", "val": value })
}

fn masked(index: u8, mask: u64, value: u64) -> Value {
    json!({ "index": index, "type": "qword", "op": { "masked_eq": mask }, "val": value })
}

fn compile(filter: &Value) -> Result<impl Iterator<Item = BpfProgram> + use<>, PartError> {
    let failed = |error: seccompiler::Error| PartError::Seccomp(error.into());
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| PartError::Seccomp(error.into()))?;
    let programs = compile_from_json(Cursor::new(filter.to_string()), arch).map_err(failed)?;
    Ok(programs.into_values())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_for_this_architecture() {
        for filter in filters() {
            assert_eq!(compile(&filter).unwrap().count(), 1);
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls: Vec<_> = ALLOWED.iter().chain(ALLOWED_ARCH).collect();
        calls.sort();
        let len = calls.len();
        calls.dedup();
        assert_eq!(calls.len(), len);
    }
}
