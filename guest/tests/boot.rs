//! Boots netvm's image in QEMU (TCG) with a real NIC model and reads its state channel.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netvm_image::config;
use netvm_image::state::{Phase, State};

/// Slow machines under full load; a boot takes 5 to 15 s.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running QEMU, ended when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts netvm: e1000e on an isolated network with DHCP, and one card for each link.
fn boot(directory: &Path, initramfs: &Path, kernel: &Path, config: &config::Config) -> Machine {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none"])
        .arg("-no-reboot")
        .args(["-machine", "q35"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 panic=1 quiet"])
        .arg("-serial")
        .arg(format!("file:{}", directory.join("console").display()))
        .args(["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=state"])
        .arg("-chardev")
        .arg(format!("file,id=state,path={}", directory.join("state").display()))
        .args(["-netdev", "user,id=n0,restrict=on"])
        .args(["-device", "e1000e,netdev=n0,mac=52:54:00:12:34:56"]);
    for (index, link) in config.links.iter().enumerate() {
        let id = index + 1;
        qemu.args(["-netdev", &format!("hubport,id=l{id},hubid={id}")]);
        qemu.args(["-device", &format!("virtio-net-pci,netdev=l{id},mac={}", link.card_mac)]);
    }
    let child = qemu.stdin(Stdio::null()).spawn().expect("qemu-system-x86_64 is installed");
    Machine(child)
}

/// Waits for a line of the state channel that holds `wanted`, and returns it with the time it
/// took.
fn wait_for(directory: &Path, wanted: &str) -> (String, Duration) {
    let begin = Instant::now();
    loop {
        let state = fs::read_to_string(directory.join("state")).unwrap_or_default();
        if let Some(line) = state.lines().find(|line| line.contains(wanted)) {
            return (line.to_owned(), begin.elapsed());
        }
        if begin.elapsed() > PATIENCE || state.contains("\"failed\"") {
            let console = fs::read_to_string(directory.join("console")).unwrap_or_default();
            panic!("no {wanted} on the state channel:\n{state}\nconsole:\n{console}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn boot_with_e1000e_and_three_links_gets_ready_by_dhcp() {
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        eprintln!("SKIP: qemu-system-x86_64 is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let image = support::image(directory.path());
    let config = support::config();
    let initramfs = directory.path().join("netvm.cpio");
    config::append(&image.initramfs, &config::render(&config).unwrap(), &initramfs).unwrap();

    let _machine = boot(directory.path(), &initramfs, &image.kernel, &config);
    let (line, elapsed) = wait_for(directory.path(), "\"phase\":\"ready\"");

    eprintln!("ready after {elapsed:?}: {line}");
    // What netvm says is what the host accepts.
    let state = State::parse(line.as_bytes()).unwrap();
    assert_eq!(state.phase, Phase::Ready);
    assert!(state.ruleset && state.forwarding);
    let uplink = state.uplink.unwrap();
    assert_eq!(uplink.mac.to_string(), "52:54:00:12:34:56");
    assert_eq!(uplink.driver, "e1000e");
    assert_eq!(uplink.address.to_string(), "10.0.2.15/24");
    // An isolated network: its DHCP server names neither.
    assert_eq!((uplink.gateway.0, uplink.dns.len()), (None, 0));
    // It goes on reporting without being asked.
    let lines = || fs::read_to_string(directory.path().join("state")).unwrap().lines().count();
    let before = lines();
    let begin = Instant::now();
    while lines() == before {
        assert!(begin.elapsed() < PATIENCE, "no further report");
        std::thread::sleep(Duration::from_millis(100));
    }
}
