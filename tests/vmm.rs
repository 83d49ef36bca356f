//! Whole command lines, compared with those in tests/golden (one argument a line).
//!
//! `NETVM_BLESS=1 cargo test --test vmm` writes the files anew; read the difference then.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use netvm::declaration::{MacAddress, MacRole, Memory};
use netvm::vmm::{
    CommandLineError, GuestLink, LinkCard, NetvmVm, Reconnect, VfioDevice, Vmm, guest_flags,
    netvm_command, shell_quote,
};

const VMMS: [Vmm; 4] = [Vmm::CloudHypervisor, Vmm::Crosvm, Vmm::Minivmm, Vmm::Qemu];

fn guest_link() -> GuestLink {
    GuestLink {
        name: "browser".parse().unwrap(),
        socket: "/run/netvm/links/browser/guest.sock".into(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        memory: Memory::from_mebibytes(2048),
        mtu: 1500,
        vectors: None,
        reconnect: Reconnect::Seconds,
    }
}

fn netvm_with(links: usize, devices: Vec<VfioDevice>) -> NetvmVm {
    let link = |index: usize| LinkCard {
        socket: format!("/run/netvm/links/guest-{index}/netvm.sock").into(),
        mac: MacAddress::derive(MacRole::Card, &format!("guest-{index}")),
    };
    NetvmVm {
        program: "/opt/vmm".into(),
        memory: Memory::from_mebibytes(512),
        vcpus: 2,
        kernel: "/var/lib/netvm/vmlinuz".into(),
        initramfs: "/run/netvm/initramfs".into(),
        cmdline: "console=ttyS0 quiet panic=-1".to_owned(),
        devices,
        links: (0..links).map(link).collect(),
        mtu: 1500,
        console: "/run/netvm/console".into(),
        state: "/run/netvm/state".into(),
        reconnect: Reconnect::Seconds,
    }
}

fn nic() -> VfioDevice {
    VfioDevice::Pci("0000:00:03.0".parse().unwrap())
}

fn platform_nic() -> VfioDevice {
    VfioDevice::Platform {
        sysfs: "/sys/bus/platform/devices/6800000.ethernet".into(),
        symbol: "mgbe0".to_owned(),
        overlay: "/run/netvm/overlay.dtbo".into(),
    }
}

fn assert_golden(name: &str, arguments: &[OsString]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let mut found = String::new();
    for argument in arguments {
        found += argument.to_str().unwrap();
        found.push('\n');
    }
    if std::env::var_os("NETVM_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(wanted == found, "{name} differs; wanted:\n{wanted}\nfound:\n{found}");
}

#[test]
fn guest_flags_of_each_vmm_are_as_recorded() {
    for vmm in VMMS {
        let flags = guest_flags(vmm, &guest_link()).unwrap();
        assert_golden(&format!("guest-flags-{vmm}.txt"), &flags);
    }
}

#[test]
fn netvm_command_of_each_vmm_is_as_recorded() {
    for vmm in VMMS {
        let command = netvm_command(vmm, &netvm_with(2, vec![nic()])).unwrap();
        assert_golden(&format!("netvm-{vmm}.txt"), &command);
    }
}

#[test]
fn netvm_command_with_platform_nic_is_crosvm_only() {
    let netvm = netvm_with(1, vec![platform_nic()]);
    let command = netvm_command(Vmm::Crosvm, &netvm).unwrap();
    assert_golden("netvm-crosvm-platform.txt", &command);
    for vmm in [Vmm::CloudHypervisor, Vmm::Minivmm, Vmm::Qemu] {
        let error = netvm_command(vmm, &netvm).unwrap_err();
        assert!(matches!(error, CommandLineError::PlatformDevice { .. }), "{vmm}: {error}");
    }
}

/// Values of `key` in the option lists of `flag`.
fn values(command: &[OsString], flag: &str, key: &str) -> Vec<Option<String>> {
    let prefix = format!("{key}=");
    let pairs = command.windows(2).filter(|pair| pair[0] == flag);
    pairs
        .map(|pair| {
            let mut options = pair[1].to_str().unwrap().split(',');
            options.find_map(|option| option.strip_prefix(&prefix).map(str::to_owned))
        })
        .collect()
}

#[test]
fn cloud_hypervisor_with_200_links_spreads_them_over_segments() {
    let command = netvm_command(Vmm::CloudHypervisor, &netvm_with(200, vec![nic()])).unwrap();

    let segments = values(&command, "--net", "pci_segment");
    assert_eq!(segments.len(), 200);
    let on = |segment: u16| {
        let wanted = (segment > 0).then(|| segment.to_string());
        segments.iter().filter(|found| **found == wanted).count()
    };
    // virtio-console, virtio-rng and the NIC take three of the 31 places of segment 0.
    assert_eq!((0..8).map(on).collect::<Vec<_>>(), [28, 31, 31, 31, 31, 31, 17, 0]);
    assert_eq!(values(&command, "--platform", "num_pci_segments"), [Some("7".to_owned())]);
}

#[test]
fn qemu_with_200_links_gives_each_a_place_of_its_own() {
    let command = netvm_command(Vmm::Qemu, &netvm_with(200, vec![nic()])).unwrap();

    let places: Vec<String> = values(&command, "-device", "addr").into_iter().flatten().collect();
    let mut unique = places.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(places.len(), 202, "console, NIC and links");
    assert_eq!(unique.len(), places.len());
    assert_eq!(places.last().map(String::as_str), Some("0x1b.7"));
}

#[test]
fn too_many_links_are_refused() {
    let too_many =
        [(Vmm::Minivmm, 31), (Vmm::Qemu, 225), (Vmm::Crosvm, 233), (Vmm::CloudHypervisor, 2974)];
    for (vmm, links) in too_many {
        let error = netvm_command(vmm, &netvm_with(links, vec![nic()])).unwrap_err();
        let CommandLineError::TooManyLinks { most, .. } = error else { panic!("{error}") };
        assert_eq!(most, links - 1, "{vmm}");
        netvm_command(vmm, &netvm_with(most, vec![nic()])).unwrap();
    }
}

#[test]
fn path_with_comma_is_doubled_for_qemu_and_refused_by_others() {
    let link = GuestLink { socket: "/run/a,mac=00/s".into(), ..guest_link() };

    let flags = guest_flags(Vmm::Qemu, &link).unwrap();
    assert!(
        flags.contains(&"socket,id=netvm-link,path=/run/a,,mac=00/s,reconnect=1".into()),
        "{flags:?}"
    );
    for vmm in [Vmm::CloudHypervisor, Vmm::Crosvm, Vmm::Minivmm] {
        let error = guest_flags(vmm, &link).unwrap_err();
        let path = PathBuf::from("/run/a,mac=00/s");
        assert_eq!(error, CommandLineError::Path { vmm, path });
    }
}

#[test]
fn fifo_path_with_quote_is_refused_by_all_but_qemu() {
    let netvm = NetvmVm { state: "/run/\"/state".into(), ..netvm_with(1, vec![nic()]) };
    for vmm in [Vmm::CloudHypervisor, Vmm::Crosvm, Vmm::Minivmm] {
        let error = netvm_command(vmm, &netvm).unwrap_err();
        assert!(matches!(error, CommandLineError::Path { .. }), "{vmm}: {error}");
    }
}

#[test]
fn mtu_other_than_1500_is_passed_on() {
    let link = GuestLink { mtu: 9000, ..guest_link() };
    let flags = guest_flags(Vmm::Qemu, &link).unwrap();
    assert_eq!(values(&flags, "-device", "host_mtu"), [Some("9000".to_owned())]);
    let flags = guest_flags(Vmm::CloudHypervisor, &link).unwrap();
    assert_eq!(values(&flags, "--net", "mtu"), [Some("9000".to_owned())]);
    let flags = guest_flags(Vmm::Minivmm, &link).unwrap();
    assert_eq!(values(&flags, "--link", "mtu"), [Some("9000".to_owned())]);
}

#[test]
fn qemu_vectors_are_passed_on() {
    let link = GuestLink { vectors: Some(0), ..guest_link() };
    let flags = guest_flags(Vmm::Qemu, &link).unwrap();
    assert_eq!(values(&flags, "-device", "vectors"), [Some("0".to_owned())]);
}

#[test]
fn reconnect_follows_the_version_of_qemu() {
    let cases = [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n", Reconnect::Seconds),
        ("QEMU emulator version 9.1.3", Reconnect::Seconds),
        ("QEMU emulator version 9.2.0", Reconnect::Milliseconds),
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)", Reconnect::Milliseconds),
        ("", Reconnect::Milliseconds),
    ];
    for (version, wanted) in cases {
        assert_eq!(Reconnect::from_version(version), wanted, "{version}");
    }
    let link = GuestLink { reconnect: Reconnect::Milliseconds, ..guest_link() };
    let flags = guest_flags(Vmm::Qemu, &link).unwrap();
    assert_eq!(values(&flags, "-chardev", "reconnect-ms"), [Some("1000".to_owned())]);
}

#[test]
fn shell_quote_is_read_back_by_a_shell() {
    let arguments = ["a b", "$(id)", "it's", "", "--x=\"y\"", "line\nfeed", "~", "*", "!"];
    let mut line = OsString::from("printf '%s\\0' ");
    line.push(shell_quote(arguments).unwrap());

    let output = std::process::Command::new("sh").arg("-c").arg(&line).output().unwrap();

    let wanted: Vec<u8> =
        arguments.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    assert_eq!(output.stdout, wanted);
    assert_eq!(shell_quote([OsStr::new("a\0b")]), Err(CommandLineError::ZeroByte));
}
