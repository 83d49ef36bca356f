//! The same on a real kernel: the examples `give_away` and `open_nic` on the rig's PC, whose NIC,
//! IOMMU and south bridge are QEMU's.

use std::path::PathBuf;
use std::time::Duration;

use netvm_rig::{Bundle, Nic, Outcome, Pc, Scenario, run};

/// An example's binary, next to this test's.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().nth(2).expect("it is in PROFILE/deps");
    let example = profile.join("examples").join(name);
    assert!(
        example.exists(),
        "{} is missing: cargo build -p vmm-plugin --example {name}",
        example.display()
    );
    example
}

/// Runs a script on a PC; `None`, said loudly, where there is no QEMU or kernel to do it with.
fn on_a_pc(pc: &Pc, program: &str, name: &str, script: &str) -> Option<Outcome> {
    if let Err(missing) = Bundle::check_prerequisites() {
        println!("SKIP {name}: {missing}");
        return None;
    }
    let folder = tempfile::tempdir().expect("a directory for logs").keep();
    let bundle = Bundle::new().program(example(program));
    let scenario = Scenario::new(name, script).timeout(Duration::from_secs(300));
    let mut outcomes =
        run(pc, &bundle, &[scenario], &folder, |_| {}).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let outcome = outcomes.pop().expect("one scenario, one outcome");
    assert!(outcome.passed(), "{name}: {:?}; see {}", outcome.claims, folder.display());
    std::fs::remove_dir_all(&folder).expect("the folder was just made");
    Some(outcome)
}

#[test]
fn nic_leaves_and_returns_whatever_kills_the_program() {
    let script = include_str!("rig/give_and_take.sh");
    if let Some(outcome) = on_a_pc(&Pc::default(), "give_away", "give-and-take", script) {
        assert!(outcome.claims.len() >= 14, "{:?}", outcome.claims);
    }
}

#[test]
fn pc_without_interrupt_remapping_is_refused() {
    let pc = Pc { intremap: false, ..Pc::default() };
    let script = include_str!("rig/without_remapping.sh");
    if let Some(outcome) = on_a_pc(&pc, "give_away", "without-remapping", script) {
        assert_eq!(outcome.claims.len(), 2, "{:?}", outcome.claims);
    }
}

#[test]
fn nic_is_opened_and_everything_given_back() {
    let bridge = "pcie-pci-bridge,id=bridge,bus=pcie.0,addr=6";
    let devices = ["-device", bridge, "-device", "rtl8139,bus=bridge,addr=1"];
    let pc = Pc {
        nics: vec![Nic { root_port: true, ..Nic::first() }],
        devices: devices.map(str::to_owned).into(),
        ..Pc::default()
    };
    let script = include_str!("rig/open_nic.sh");
    if let Some(outcome) = on_a_pc(&pc, "open_nic", "open-nic", script) {
        assert!(outcome.claims.len() >= 32, "{:?}", outcome.claims);
        for claim in outcome.claims.iter().filter(|claim| claim.id.starts_with("time-")) {
            println!("{}", claim.evidence);
        }
    }
}
