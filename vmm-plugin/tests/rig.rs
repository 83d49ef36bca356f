//! The same on a real kernel: the example `give_away` on the rig's PC, whose NIC, IOMMU and
//! south bridge are QEMU's.

use std::path::PathBuf;
use std::time::Duration;

use netvm_rig::{Bundle, Outcome, Pc, Scenario, run};

/// The example's binary, next to this test's.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().nth(2).expect("it is in PROFILE/deps");
    let example = profile.join("examples/give_away");
    assert!(
        example.exists(),
        "{} is missing: cargo build -p vmm-plugin --example give_away",
        example.display()
    );
    example
}

/// Runs a script on a PC; `None`, said loudly, where there is no QEMU or kernel to do it with.
fn on_a_pc(pc: &Pc, name: &str, script: &str) -> Option<Outcome> {
    if let Err(missing) = Bundle::check_prerequisites() {
        println!("SKIP {name}: {missing}");
        return None;
    }
    let folder = tempfile::tempdir().expect("a directory for logs").keep();
    let bundle = Bundle::new().program(example());
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
    if let Some(outcome) = on_a_pc(&Pc::default(), "give-and-take", script) {
        assert!(outcome.claims.len() >= 14, "{:?}", outcome.claims);
    }
}

#[test]
fn pc_without_interrupt_remapping_is_refused() {
    let pc = Pc { intremap: false, ..Pc::default() };
    let script = include_str!("rig/without_remapping.sh");
    if let Some(outcome) = on_a_pc(&pc, "without-remapping", script) {
        assert_eq!(outcome.claims.len(), 2, "{:?}", outcome.claims);
    }
}
