//! T79 of the catalogue of hostile input: what a link that was taken over could still call.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use vhost_net_backend::cli::SandboxMode;
use vhost_net_backend::sandbox::{self, Identity};

use crate::daemon::UID;

/// Tells the child what to do; not set in an ordinary run of the tests.
const ACTION: &str = "NETVM_TEST_ACTION";
/// SIGSYS: ended by the system call filter.
const SIGSYS: i32 = 31;

/// Runs [`child`] in a process of its own.
fn run(action: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "calls::child"])
        .env(ACTION, action)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

/// Enters the sandbox on its thread, and then does what it was told.
#[test]
fn child() {
    let Ok(action) = std::env::var(ACTION) else { return };
    let root = rustix::process::geteuid().is_root();
    let mode = if root { SandboxMode::Required } else { SandboxMode::Available };
    let identity = root.then_some(Identity { uid: UID, gid: UID });
    sandbox::enter(mode, identity).unwrap();
    match action.as_str() {
        "nothing" => {}
        "open" => {
            for path in ["/etc/passwd", "/proc/self/mem", "/", "/dev/null"] {
                assert!(File::open(path).is_err(), "{path}");
            }
        }
        "connect" => drop(TcpListener::bind("127.0.0.1:0")),
        "execute" => drop(Command::new("/bin/true").spawn()),
        "signal" => drop(rustix::process::test_kill_process(rustix::process::Pid::INIT)),
        "namespace" => drop(rustix::process::chroot("/")),
        other => panic!("{other}"),
    }
}

#[test]
fn t79_calls_a_link_does_not_need_end_the_process() {
    assert!(run("nothing").success(), "{:?}", run("nothing"));
    assert!(run("open").success(), "opening a file is an error");
    for action in ["connect", "execute", "signal", "namespace"] {
        assert_eq!(run(action).signal(), Some(SIGSYS), "{action}");
    }
}
