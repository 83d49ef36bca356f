//! The checks in netvm's scripts, run by the shell that runs them in netvm.

use std::path::Path;
use std::process::Command;

/// Sources common.sh, with the guests' network 100.64.0.0/24, and runs `script` with `arguments`.
fn shell(script: &str, arguments: &[&str]) -> Option<bool> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("files/common.sh");
    let script = format!(
        ". {}\nvalue() {{ [ $2 = prefix ] && echo 24 || echo 100.64.0.0; }}\n{script}",
        files.display()
    );
    let output = Command::new("busybox").args(["sh", "-c", &script, "sh"]).args(arguments).output();
    match output {
        Ok(output) => {
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(output.status.success())
        }
        Err(error) => {
            eprintln!("SKIP: busybox cannot be run: {error}");
            None
        }
    }
}

fn all(script: &str, inputs: &[&[&str]], expected: bool) {
    for arguments in inputs {
        if let Some(result) = shell(script, arguments) {
            assert_eq!(result, expected, "{script} {arguments:?}");
        }
    }
}

#[test]
fn is_address_takes_dotted_decimal_only() {
    let good: &[&[&str]] = &[&["0.0.0.0"], &["10.0.2.15"], &["255.255.255.255"]];
    let bad: &[&[&str]] = &[
        &[""],
        &["1"],
        &["1.2.3"],
        &["1.2.3.4.5"],
        &["1.2.3.256"],
        &["1.2.3.1000"],
        &["01.2.3.4"],
        &["1.2.3.4 "],
        &["1.2.3.4\n1.2.3.4"],
        &["1.2..4"],
        &[".1.2.3"],
        &["1.2.3."],
        &["-1.2.3.4"],
        &["1.2.3.4;reboot"],
        &["$(reboot)"],
        &["*"],
        &["a.b.c.d"],
        &["0x1.2.3.4"],
        &["::1"],
    ];
    all("is_address \"$1\"", good, true);
    all("is_address \"$1\"", bad, false);
}

#[test]
fn is_prefix_takes_1_to_32() {
    all("is_prefix \"$1\"", &[&["1"], &["9"], &["10"], &["24"], &["32"]], true);
    all("is_prefix \"$1\"", &[&[""], &["0"], &["33"], &["024"], &["24 "], &["-1"], &["2a"]], false);
}

#[test]
fn is_interface_takes_the_kernels_names_only() {
    all("is_interface \"$1\"", &[&["eth0"], &["usb0"], &["enx525400123456"]], true);
    let bad: &[&[&str]] =
        &[&[""], &["../eth0"], &["eth0 up"], &["\""], &["eth0}"], &["aaaaaaaaaaaaaaaa"]];
    all("is_interface \"$1\"", bad, false);
}

#[test]
fn overlaps_compares_by_the_shorter_prefix() {
    let overlapping: &[&[&str]] = &[
        &["100.64.0.9", "24"],
        &["100.64.0.9", "32"],
        &["100.64.77.1", "16"],
        &["10.0.0.1", "1"],
        &["100.127.0.1", "10"],
        &["100.64.0.129", "25"],
    ];
    let apart: &[&[&str]] = &[
        &["100.64.1.9", "24"],
        &["10.0.2.15", "24"],
        &["192.168.1.1", "1"],
        &["100.63.255.255", "16"],
        &["255.255.255.254", "31"],
    ];
    all("overlaps \"$1\" \"$2\"", overlapping, true);
    all("overlaps \"$1\" \"$2\"", apart, false);
}
