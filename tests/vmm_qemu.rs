//! The real QEMU takes netvm's command line and a guest's flags, and builds the machine that they
//! describe. No CPU runs, so neither KVM nor a kernel is needed; a few lines of vhost-user answer
//! its questions, and its machine protocol is asked what is on the PCI bus.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use netvm::declaration::{MacAddress, MacRole, Memory};
use netvm::vmm::{GuestLink, LinkCard, NetvmVm, Reconnect, Vmm, guest_flags, netvm_command};
use serde_json::Value;

const QEMU: &str = "qemu-system-x86_64";

/// What `--version` prints, or `None` with a printed reason.
fn qemu_version() -> Option<String> {
    match Command::new(QEMU).arg("--version").output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            eprintln!("SKIP: {QEMU} --version: {error}");
            None
        }
    }
}

/// Answers what a frontend asks before its driver starts: features, and rings that never ran.
fn answer(mut frontend: UnixStream) -> std::io::Result<()> {
    loop {
        // vhost-user: request, flags and size of the payload, each 32 bits, little endian here.
        let mut header = [0_u8; 12];
        frontend.read_exact(&mut header)?;
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let mut payload = vec![0; usize::try_from(word(8)).unwrap()];
        frontend.read_exact(&mut payload)?;
        let reply: u64 = match word(0) {
            // GET_FEATURES: VERSION_1 and PROTOCOL_FEATURES.
            1 => 1 << 32 | 1 << 30,
            // GET_PROTOCOL_FEATURES: none.
            15 => 0,
            // GET_VRING_BASE: the same ring, at 0.
            11 => u64::from(u32::from_ne_bytes([payload[0], payload[1], payload[2], payload[3]])),
            // The others want no answer.
            _ => continue,
        };
        frontend.write_all(&word(0).to_ne_bytes())?;
        frontend.write_all(&(1_u32 | 1 << 2).to_ne_bytes())?;
        frontend.write_all(&8_u32.to_ne_bytes())?;
        frontend.write_all(&reply.to_ne_bytes())?;
    }
}

fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for frontend in listener.incoming() {
            // An end of file is how every conversation ends.
            let _ = answer(frontend.unwrap());
        }
    });
}

/// Starts QEMU stopped, asks for its PCI devices, and has it quit.
fn pci_devices(mut command: Vec<OsString>) -> Vec<Value> {
    command.extend(["-S", "-qmp", "stdio"].map(OsString::from));
    let mut qemu = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = qemu.stdin.take().unwrap();
    for request in ["qmp_capabilities", "query-pci", "quit"] {
        writeln!(requests, "{{\"execute\": \"{request}\", \"id\": \"{request}\"}}").unwrap();
    }
    let answers = BufReader::new(qemu.stdout.take().unwrap()).lines();
    let answers: Vec<Value> =
        answers.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let status = qemu.wait().unwrap();
    assert!(status.success(), "{status}: {answers:?}");
    let pci = answers.iter().find(|answer| answer["id"] == "query-pci").unwrap();
    pci["return"][0]["devices"].as_array().unwrap().clone()
}

/// Places of the virtio network cards (1af4:1041) in ascending order.
fn cards(devices: &[Value]) -> Vec<(u64, u64)> {
    let is_card =
        |device: &&Value| device["id"]["vendor"] == 0x1af4 && device["id"]["device"] == 0x1041;
    let place =
        |device: &Value| (device["slot"].as_u64().unwrap(), device["function"].as_u64().unwrap());
    let mut cards: Vec<_> = devices.iter().filter(is_card).map(place).collect();
    cards.sort_unstable();
    cards
}

/// Without KVM, which needs more than this test.
fn emulated(command: Vec<OsString>) -> Vec<OsString> {
    let replace = |argument: OsString| match argument.to_str() {
        Some("kvm") => OsString::from("tcg"),
        Some("host") => OsString::from("max"),
        _ => argument,
    };
    command.into_iter().map(replace).collect()
}

fn netvm_with(directory: &Path, links: usize, version: &str) -> NetvmVm {
    for file in ["vmlinuz", "initramfs", "console", "state"] {
        File::create(directory.join(file)).unwrap();
    }
    let link = |index: usize| {
        let socket = directory.join(format!("{index}.sock"));
        serve(&socket);
        LinkCard { socket, mac: MacAddress::derive(MacRole::Card, &format!("guest-{index}")) }
    };
    NetvmVm {
        program: QEMU.into(),
        memory: Memory::from_mebibytes(256),
        vcpus: 1,
        kernel: directory.join("vmlinuz"),
        initramfs: directory.join("initramfs"),
        cmdline: "console=ttyS0".to_owned(),
        devices: Vec::new(),
        links: (0..links).map(link).collect(),
        mtu: 1500,
        console: directory.join("console"),
        state: directory.join("state"),
        reconnect: Reconnect::from_version(version),
    }
}

/// The command line without the kernel: these tests have none, and nothing boots.
fn without_kernel(command: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = command.into_iter();
    while let Some(argument) = arguments.next() {
        if ["-kernel", "-initrd", "-append"].iter().any(|flag| argument == *flag) {
            arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

fn netvm_devices(links: usize) -> Option<Vec<Value>> {
    let version = qemu_version()?;
    let directory = tempfile::tempdir().unwrap();
    let netvm = netvm_with(directory.path(), links, &version);
    let command = netvm_command(Vmm::Qemu, &netvm).unwrap();
    Some(pci_devices(without_kernel(emulated(command))))
}

#[test]
fn netvm_with_3_links_has_3_cards_and_nothing_superfluous() {
    let Some(devices) = netvm_devices(3) else { return };

    assert_eq!(cards(&devices), [(2, 0), (3, 0), (4, 0)]);
    // Host bridge, console, three cards, south bridge: no VGA, no disk or USB controller.
    assert_eq!(devices.len(), 6, "{devices:#?}");
}

#[test]
fn netvm_with_200_links_has_200_cards() {
    let Some(devices) = netvm_devices(200) else { return };

    let wanted: Vec<_> = (0..200).map(|index| (2 + index / 8, index % 8)).collect();
    assert_eq!(cards(&devices), wanted);
}

#[test]
fn guest_flags_add_a_card_to_a_machine() {
    let Some(version) = qemu_version() else { return };
    let directory = tempfile::tempdir().unwrap();
    // A comma in a path is QEMU's own separator.
    let socket = directory.path().join("a,b.sock");
    serve(&socket);
    let link = GuestLink {
        name: "browser".parse().unwrap(),
        socket,
        mac: MacAddress::derive(MacRole::Guest, "browser"),
        memory: Memory::from_mebibytes(256),
        mtu: 1500,
        vectors: Some(0),
        reconnect: Reconnect::from_version(&version),
    };
    let own = [QEMU, "-machine", "q35,accel=tcg", "-nodefaults", "-display", "none"];
    let mut command: Vec<OsString> = own.map(OsString::from).into();
    command.extend(guest_flags(Vmm::Qemu, &link).unwrap());

    let devices = pci_devices(command);

    assert_eq!(cards(&devices).len(), 1, "{devices:#?}");
}
