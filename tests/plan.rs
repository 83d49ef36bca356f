//! What `netvm plan` says, and so what `netvm up` does, in which order, on a machine of files.

use std::path::Path;

use netvm::declaration::{self, Declaration};
use netvm::plan::{Part, Step};
use netvm::run::paths::RunDir;
use netvm::run::process::Identity;
use netvm::secure::{self, Parts};
use vmm_plugin::host::nic::{Nic, resolve_all};
use vmm_plugin::host::sysfs::Sysfs;

use self::machine::{Machine, lines, parts};

mod machine;

fn declaration(vmm: &str) -> Declaration {
    let text = format!(
        r#"
        scenario = "secure"
        spare_links = 1
        netvm = {{ vmm = "{vmm}" }}
        nic = [{{ pci = "0000:00:03.0" }}]
        guest = [{{ name = "a", vmm = "cloud-hypervisor" }}, {{ name = "b", vmm = "qemu", user = 1000 }}]
        "#
    );
    let parsed = declaration::parse("netvm.toml", &text);
    parsed.unwrap_or_else(|findings| panic!("{:?}", miette::Report::new(findings))).declaration
}

/// One e1000e with its driver, in IOMMU group 7; vfio-pci is loaded.
fn host(root: &Path) -> (Sysfs, Vec<Nic>) {
    let (machine, place) = (Machine(root), "pci0000:00/0000:00:03.0");
    machine.device("pci", place, "e1000e", 7);
    for (name, text) in [("vendor", "0x8086"), ("device", "0x10d3"), ("class", "0x020000")] {
        machine.write(&format!("sys/devices/{place}/{name}"), text);
    }
    machine.write("sys/bus/pci/drivers/vfio-pci/bind", "");
    let sysfs = Sysfs::new(root);
    let nics = resolve_all(&sysfs, &declaration("qemu").nics).expect("the NIC is there");
    (sysfs, nics)
}

fn steps(declaration: &Declaration, unsafe_interrupts: bool) -> Vec<Step> {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (sysfs, nics) = host(directory.path());
    let parts = Parts { unsafe_interrupts, ..parts() };
    let run = RunDir::new(directory.path().join("run"));
    secure::steps(declaration, &sysfs, &nics, &run, &parts).expect("it can be planned")
}

#[test]
fn the_nic_leaves_the_host_after_the_links_and_just_before_netvm() {
    let lines = lines(&steps(&declaration("qemu"), false));
    let at = |words: &[&str]| {
        let found = lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("{words:?} in {lines:#?}"))
    };
    let order = [
        at(&["listen", "control.sock"]),
        at(&["fifo", "state"]),
        at(&["start", "--name a"]),
        at(&["start", "--name b"]),
        at(&["start", "--name spare-1"]),
        at(&["write", "driver_override <- vfio-pci"]),
        at(&["write", "drivers/e1000e/unbind <- 0000:00:03.0"]),
        at(&["write", "drivers_probe <- 0000:00:03.0"]),
        at(&["chown", "/dev/vfio/7"]),
        at(&["start", "/usr/bin/vmm"]),
        at(&["await"]),
    ];
    assert!(order.is_sorted(), "{order:?} in {lines:#?}");
}

#[test]
fn every_link_has_a_user_of_its_own_and_only_its_vmms_may_connect() {
    let steps = steps(&declaration("qemu"), false);
    let mut users = std::collections::BTreeSet::new();
    for step in &steps {
        let Step::Start(start) = step else { continue };
        let words: Vec<_> = start.argv.iter().map(|word| word.to_string_lossy()).collect();
        let after = |name: &str| {
            words.iter().position(|word| word == name).map(|at| words[at + 1].to_string())
        };
        match &start.part {
            Part::Link(guest) => {
                assert!(users.insert(after("--uid")), "{guest} shares its user");
                assert_eq!(after("--netvm-uid").as_deref(), Some("4000"), "{guest}");
                let owner = if guest == "b" { "1000" } else { "0" };
                assert_eq!(after("--guest-uid").as_deref(), Some(owner), "{guest}");
                let unsealed = (guest == "a").then_some("guest");
                assert_eq!(after("--unsealed").as_deref(), unsealed, "{guest}");
            }
            Part::Netvm => assert_eq!(start.identity, Some(Identity { uid: 4000, gid: 104 })),
            Part::Dnsmasq => panic!("there is no dnsmasq on a secure host"),
        }
    }
    assert_eq!(users.len(), 3);
}

#[test]
fn a_link_knows_its_guests_addresses_rates_and_cpu() {
    let text = r#"
        scenario = "secure"
        spare_links = 1
        nic = [{ pci = "0000:00:03.0" }]
        [[guest]]
        name = "a"
        address = "100.127.77.9"
        rate = { up = "8Mbit", down_frames = 5000, control_frames = 10 }
        link_cpu = 3
        [[guest]]
        name = "b"
    "#;
    let declaration = declaration::parse("netvm.toml", text).expect("it is valid").declaration;
    let links: Vec<Vec<String>> = steps(&declaration, false)
        .iter()
        .filter_map(|step| match step {
            Step::Start(start) if matches!(start.part, Part::Link(_)) => Some(&start.argv),
            _ => None,
        })
        .map(|argv| argv.iter().map(|word| word.to_string_lossy().into_owned()).collect())
        .collect();
    let [a, b, spare] = &links[..] else { panic!("{links:?}") };
    let has = |words: &[String], pair: [&str; 2]| words.windows(2).any(|two| two == pair);
    assert!(has(a, ["--address", "100.127.77.9"]), "{a:?}");
    assert!(has(a, ["--rate-up", "1000000"]), "{a:?}");
    assert!(has(a, ["--frames-down", "5000"]) && has(a, ["--rate-control", "10"]), "{a:?}");
    assert!(has(a, ["--pin", "3"]), "{a:?}");
    assert!(!a.contains(&"--dynamic".to_owned()), "{a:?}");
    for link in [b, spare] {
        assert!(link.contains(&"--dynamic".to_owned()), "{link:?}");
        assert!(!link.iter().any(|word| word == "--address" || word.contains("rate")), "{link:?}");
        assert!(!link.contains(&"--pin".to_owned()), "{link:?}");
    }
    // The link itself understands what it is told.
    for words in &links {
        let cli = <vhost_net_backend::cli::Cli as clap::Parser>::try_parse_from(words);
        assert!(cli.is_ok_and(|cli| cli.validate().is_ok()), "{words:?}");
    }
}

#[test]
fn unsafe_interrupts_are_allowed_only_when_overridden() {
    let declaration = declaration("cloud-hypervisor");
    let count = |unsafe_interrupts| {
        let lines = lines(&steps(&declaration, unsafe_interrupts));
        lines.iter().filter(|line| line.contains("allow_unsafe_interrupts <- Y")).count()
    };
    assert_eq!((count(false), count(true)), (0, 1));
}
