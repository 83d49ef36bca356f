//! What only a whole PC can show, in the rig: every scenario of `tests/rig/` and the demonstration, each a test.
//!
//! `cargo test --test rig` boots a PC for each group of scenarios; `cargo test --test rig -- NAME` runs only those
//! whose name contains NAME, `--skip NAME` leaves those out. `NETVM_RIG_SCRIPT=FILE cargo test --test rig -- script` runs
//! a script of your own.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use netvm::vmm::Vmm;
use netvm_rig::{Bundle, Ending, Event, Outcome, Pc, Rig, RigError, Scenario};

#[path = "rig/hostile.rs"]
mod hostile;
#[path = "rig/nics.rs"]
mod nics;

/// How long a scenario of `tests/rig/` may take.
const LIMIT: Duration = Duration::from_secs(400);

/// The exit code by which a scenario says that it lacks something; its last line of output says what.
const SKIPPED: i32 = 77;

/// How often a scenario is run before its failure counts.
const ATTEMPTS: u32 = 3;

/// Scenarios that run only when they are named: `minivmm` passes a NIC through alone, as `minivmm-attach` and the
/// demonstration on minivmm do with more around it; `nic-` and a model's name take five minutes together. `minivmm` stood still
/// in three runs. Two causes are known and gone: a command to a guest whose VMM had just ended waited for ever for
/// somebody to read it (rig/files/guest-sh), and a VMM ended when its guest used a NIC that was being taken from it
/// (vmm-plugin's `Function::detach`). Eight starts and ends in a row, with two processors, did not stand still.
const ON_REQUEST: &[&str] = &["minivmm", "nic-"];

/// What came of the scenarios of one PC.
type Run = LazyLock<Outcomes, Box<dyn FnOnce() -> Outcomes + Send>>;
type Outcomes = Result<Vec<Outcome>, String>;

/// Scenarios that share a PC.
struct Group {
    name: &'static str,
    pc: fn() -> Pc,
    scenarios: &'static [(&'static str, &'static str)],
}

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("rig/", $name, ".sh")))),*] };
}

const GROUPS: &[Group] = &[
    Group {
        name: "pc",
        pc: Pc::default,
        scenarios: scenarios![
            "refusals",
            "failures",
            "development",
            "crash",
            "reconnect",
            "offloads",
            "minivmm",
            "minivmm-link",
            "minivmm-refusals",
            "cloud-hypervisor"
        ],
    },
    Group { name: "attach", pc: Pc::default, scenarios: scenarios!["minivmm-attach"] },
    Group {
        name: "intremap-off",
        pc: without_remapping,
        scenarios: scenarios!["no-interrupt-remapping"],
    },
    Group { name: "no-iommu", pc: without_iommu, scenarios: scenarios!["no-iommu"] },
    Group { name: "usb", pc: with_usb, scenarios: scenarios!["usb"] },
];

fn without_remapping() -> Pc {
    Pc { intremap: false, ..Pc::default() }
}

fn without_iommu() -> Pc {
    Pc { iommu: false, ..Pc::default() }
}

/// A USB host controller behind a port of its own, with a NIC and a tablet.
fn with_usb() -> Pc {
    let devices = [
        "pcie-root-port,id=usb-port,bus=pcie.0,addr=5,chassis=5,slot=5",
        "qemu-xhci,id=xhci,bus=usb-port,addr=0",
        "usb-net,bus=xhci.0,netdev=usb",
        "usb-tablet,bus=xhci.0",
    ];
    let network = ["-netdev", "user,id=usb,net=10.0.9.0/24,restrict=on"].map(str::to_owned);
    let devices = devices.iter().flat_map(|device| ["-device".to_owned(), (*device).to_owned()]);
    Pc { devices: network.into_iter().chain(devices).collect(), ..Pc::default() }
}

fn main() {
    let arguments = Arguments::from_args();
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rig");
    // netvm on QEMU, and on the VMM of this project.
    let demonstrations = [Vmm::Qemu, Vmm::Minivmm].map(netvm::demo::scenario).to_vec();
    let mut trials = vec![trials_of("demo", &out, Pc::default, demonstrations, &arguments)];
    for group in GROUPS {
        let scenarios = group
            .scenarios
            .iter()
            .filter(|(name, _)| chosen(&arguments, name))
            .map(|(name, script)| netvm::demo::scenario_of(name, script).timeout(LIMIT))
            .collect();
        trials.push(trials_of(group.name, &out, group.pc, scenarios, &arguments));
    }
    trials.push(trials_of("hostile", &out, Pc::default, hostile::scenarios(), &arguments));
    trials.push(trials_of("nics", &out, nics::pc, nics::scenarios(), &arguments));
    if let Some(path) = std::env::var_os("NETVM_RIG_SCRIPT") {
        let script = std::fs::read_to_string(&path).expect("NETVM_RIG_SCRIPT names a script");
        let scenario = netvm::demo::scenario_of("script", &script).timeout(LIMIT);
        trials.push(trials_of("script", &out, Pc::default, vec![scenario], &arguments));
    }
    let trials = trials.into_iter().flatten().collect();
    // One PC at a time: two cores.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}

fn chosen(arguments: &Arguments, name: &str) -> bool {
    let named = |filter: &String| name.contains(filter.as_str());
    let waits = |start: &&str| name == *start || start.ends_with('-') && name.starts_with(*start);
    if ON_REQUEST.iter().any(waits) && arguments.filter.is_none() {
        return false;
    }
    arguments.filter.as_ref().is_none_or(named) && !arguments.skip.iter().any(named)
}

/// The scenarios of one PC as tests: the first that runs boots it and runs all that were chosen.
fn trials_of(
    group: &str,
    out: &Path,
    pc: fn() -> Pc,
    scenarios: Vec<Scenario>,
    arguments: &Arguments,
) -> Vec<Trial> {
    let scenarios: Vec<_> =
        scenarios.into_iter().filter(|scenario| chosen(arguments, &scenario.name)).collect();
    let names: Vec<_> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let out = out.join(group);
    let run: Arc<Run> = Arc::new(LazyLock::new(Box::new(move || run(&pc(), &scenarios, &out))));
    let test = |name: String| {
        let run = Arc::clone(&run);
        Trial::ignorable_test(name.clone(), move || judge(&name, &run))
    };
    names.into_iter().map(test).collect()
}

/// Runs the scenarios in one PC. The emulated PC's nested virtualisation now and then loses a guest, or itself: what
/// failed is run again in a new PC, twice at most. What fails three times is not the emulator's fault.
fn run(pc: &Pc, scenarios: &[Scenario], out: &Path) -> Outcomes {
    let programs = Path::new(env!("CARGO_BIN_EXE_netvm")).parent().unwrap_or(Path::new("."));
    if !programs.join("netvm-link").is_file() {
        return Err("netvm-link is not built: run `cargo build --workspace` first".to_owned());
    }
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
    netvm::image::build_quietly(&image).map_err(|failure| format!("{:?}", failure.report))?;
    let bundle = netvm::demo::bundle(programs, &image)
        .installed("dnsmasq", "dnsmasq-base")
        .installed("nft", "nftables")
        .modules(["bridge", "nf_tables", "nft_masq", "nft_chain_nat", "nf_nat"])
        // Drives anything, for a group that is not all VFIO's.
        .modules(["uio_pci_generic"]);
    let bundle = hostile::bundle(bundle, programs);
    let mut outcomes = boot(pc, &bundle, scenarios, out)?;
    for attempt in 2..=ATTEMPTS {
        let failed: Vec<_> = scenarios
            .iter()
            .filter(|scenario| {
                let outcome = outcomes.iter().find(|outcome| outcome.name == scenario.name);
                outcome.is_none_or(|outcome| verdict(outcome).is_err())
            })
            .cloned()
            .collect();
        if failed.is_empty() {
            break;
        }
        for outcome in &outcomes {
            if let Err(why) = verdict(outcome) {
                eprintln!("attempt {} of {} failed: {why}", attempt - 1, outcome.name);
            }
        }
        let again = boot(pc, &bundle, &failed, &out.join(format!("attempt-{attempt}")))?;
        outcomes.retain(|outcome| !again.iter().any(|newer| newer.name == outcome.name));
        outcomes.extend(again);
    }
    Ok(outcomes)
}

fn boot(pc: &Pc, bundle: &Bundle, scenarios: &[Scenario], out: &Path) -> Outcomes {
    let text = |error: RigError| {
        let causes = std::iter::successors(error.source(), |error| (*error).source());
        causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
    };
    let mut progress = |event: &Event| eprintln!("{event:?}");
    let mut rig = Rig::boot(pc, bundle, out, &mut progress).map_err(text)?;
    let outcomes = scenarios
        .iter()
        .map(|scenario| rig.scenario(scenario, &mut progress).map_err(text))
        .collect();
    rig.halt();
    outcomes
}

fn skipped(outcome: &Outcome) -> bool {
    outcome.ending == Ending::Exit(SKIPPED)
}

/// What is wrong with an outcome, if anything is.
fn verdict(outcome: &Outcome) -> Result<(), String> {
    if skipped(outcome) {
        return Ok(());
    }
    let mut claims = outcome.claims.clone();
    if outcome.name.starts_with("demo") {
        claims.extend(netvm::demo::wire_claims(outcome).map_err(|error| error.to_string())?);
    }
    let failed: Vec<_> = claims
        .iter()
        .filter(|claim| !claim.pass)
        .map(|claim| format!("{}: {}", claim.id, claim.evidence))
        .collect();
    if outcome.passed() && failed.is_empty() && !claims.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{:?}, {} claims, failed: {}\nlog: {}",
        outcome.ending,
        claims.len(),
        failed.join("; "),
        outcome.log().display()
    ))
}

fn judge(name: &str, run: &Run) -> Result<Completion, Failed> {
    let outcomes = (**run).as_ref().map_err(Failed::from)?;
    let outcome = outcomes.iter().find(|outcome| outcome.name == name).ok_or("it was not run")?;
    if skipped(outcome) {
        let log = std::fs::read_to_string(outcome.log()).unwrap_or_default();
        let reason = log.lines().last().unwrap_or_default().to_owned();
        println!("SKIP {name}: {reason}");
        return Ok(Completion::ignored_with(reason));
    }
    verdict(outcome)?;
    Ok(Completion::Completed)
}
