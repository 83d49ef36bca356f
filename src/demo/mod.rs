//! `netvm demo`: the whole thing at work in the rig's PC, narrated, with its evidence.

mod claims;

use std::fs;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use netvm_rig::{Bundle, Claim, Ending, Event, Outcome, Pc, Rig, RigError, Scenario};

use crate::cli::run::{Failure, print};
use crate::exit::Exit;
use crate::vmm::Vmm;

pub use claims::wire_claims;

const FUNCTIONS: &str = include_str!("lib.sh");
const SCRIPT: &str = include_str!("demo.sh");
/// The declaration that it uses.
pub const DECLARATION: &str = include_str!("netvm.toml");
/// Where the script finds the declaration.
pub const DECLARATION_PATH: &str = "/etc/netvm/netvm.toml";

/// How long the whole demonstration may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What the PC needs to run netvm: the two programs, netvm's image, and what they call.
///
/// `programs` is the directory of `netvm` and `netvm-link`, `image` that of netvm's image.
pub fn bundle(programs: &Path, image: &Path) -> Bundle {
    // A VMM that need not be installed; a build of netvm alone has none.
    let minivmm = programs.join("minivmm");
    let bundle = Bundle::new();
    let bundle = if minivmm.is_file() { bundle.program(minivmm) } else { bundle };
    bundle
        .program(programs.join("netvm"))
        .program(programs.join("netvm-link"))
        .file(image.join(netvm_image::image::KERNEL), "/var/lib/netvm/image/vmlinuz")
        .file(image.join(netvm_image::image::INITRAMFS), "/var/lib/netvm/image/initramfs")
        .contents(DECLARATION_PATH, DECLARATION, 0o644)
}

/// The demonstration as a scenario, with netvm on `vmm`: `demo`, or `demo-VMM`.
pub fn scenario(vmm: Vmm) -> Scenario {
    let name = if vmm == Vmm::Qemu { "demo".to_owned() } else { format!("demo-{vmm}") };
    scenario_of(&name, &format!("DEMO_VMM={vmm}\n{SCRIPT}")).timeout(LIMIT)
}

/// Any script as a scenario: it has the demonstration's functions (`lib.sh`) and its declaration.
pub fn scenario_of(name: &str, script: &str) -> Scenario {
    Scenario::new(
        name,
        format!("{FUNCTIONS}\nexport NETVM_DECLARATION={DECLARATION_PATH}\n{script}"),
    )
}

/// Runs it, narrates it, and prints its claims.
pub fn demo(out: &Path, cache: &Path, vmm: Vmm) -> Result<Exit, Failure> {
    let started = Instant::now();
    let failed = |error: RigError| Failure::new(Exit::Failed, error);
    Bundle::check_prerequisites().map_err(failed)?;
    let image = cache.join("image");
    say(started, "building netvm's image from installed packages");
    crate::image::build_quietly(&image)?;
    let programs = std::env::current_exe().map_err(|error| Failure::new(Exit::Failed, error))?;
    let programs = programs.parent().unwrap_or(Path::new("."));
    let bundle = bundle(programs, &image);
    fs::create_dir_all(out).map_err(|error| Failure::new(Exit::Failed, error))?;
    say(
        started,
        "booting a PC in QEMU: IOMMU with interrupt remapping, an e1000e NIC, KVM for its guests",
    );
    let mut narrate = |event: &Event| narrate(started, event);
    let mut run = || {
        let mut rig = Rig::boot(&Pc::default(), &bundle, out, &mut narrate)?;
        let outcome = rig.scenario(&scenario(vmm), &mut narrate)?;
        rig.halt();
        Ok(outcome)
    };
    let mut outcome = run().map_err(failed)?;
    if let Ending::Lost(why) = &outcome.ending {
        say(
            started,
            &format!("QEMU's emulation of nested virtualisation lost the PC ({why}); once more"),
        );
        outcome = run().map_err(failed)?;
    }
    let mut claims = outcome.claims.clone();
    claims.extend(wire_claims(&outcome).map_err(failed)?);
    finish(started, out, &outcome, &claims)
}

fn finish(
    started: Instant,
    out: &Path,
    outcome: &Outcome,
    claims: &[Claim],
) -> Result<Exit, Failure> {
    let drawing = outcome.folder.join("topology.svg");
    let drawn = fs::copy(drawing, out.join("topology.svg")).is_ok();
    let table = table(claims);
    fs::write(out.join("claims.txt"), &table).map_err(|error| Failure::new(Exit::Failed, error))?;
    print(&format!("\n{table}\n"))?;
    let folder = out.display();
    print(&format!("Captures, logs and consoles: {folder}/\n"))?;
    if drawn {
        print(&format!("The topology as it ran:      {folder}/topology.svg\n"))?;
    }
    let whole = outcome.passed() && claims.iter().all(|claim| claim.pass);
    let seconds = started.elapsed().as_secs();
    if whole {
        return print(&format!("{} claims shown in {seconds} s.\n", claims.len()));
    }
    let log = fs::read_to_string(outcome.log()).unwrap_or_default();
    let tail: Vec<_> = log.lines().rev().take(20).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    let report = miette::miette!(
        help = format!("the whole log is {}", outcome.log().display()),
        "The demonstration failed ({:?}); the end of its log:\n{}",
        outcome.ending,
        tail.join("\n")
    );
    Err(Failure { exit: Exit::Failed, report })
}

fn table(claims: &[Claim]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["CLAIM", "", "EVIDENCE"]);
    for claim in claims {
        let evidence: String = claim.evidence.chars().take(100).collect();
        table.add_row([meaning(&claim.id), if claim.pass { "shown" } else { "FAILED" }, &evidence]);
    }
    table.to_string()
}

/// A claim in words.
fn meaning(id: &str) -> &str {
    match id {
        "check" => "netvm check finds the NIC fit to be given away",
        "nic-in-netvm" => "The NIC has left the host for VFIO",
        "static-address" => "Guest a has the address declared for it",
        "dynamic-address" => "Guest b has an address from the pool",
        "internet-a" => "Guest a reaches the outside through netvm",
        "internet-b" => "Guest b reaches the outside through netvm",
        "denied-a-to-b" => "Guest a cannot reach guest b undeclared",
        "denied-b-to-a" => "Guest b cannot reach guest a undeclared",
        "isolation" => "Frames to b's MAC, to all, or from a false MAC do not arrive at b",
        "drops-counted" => "The link dropped and counted the false MAC and the frames to b",
        "host-no-network" => "The host has no address and no route",
        "host-no-frames" => "The host's stack saw no frame",
        "up-exit" => "netvm up undoes everything and ends with 0",
        "fail-closed" => "Without netvm there is no traffic",
        "nic-back" => "The NIC is back on its host driver",
        "reconnect" => "A guest survives a new netvm without a restart",
        "allowed-a-to-b" => "a reaches b as [[allow]] says",
        "denied-b-to-a-still" => "b still cannot reach a",
        "denials-counted" => "netvm counts what it denies",
        "nic-back-again" => "The NIC is back on its host driver again",
        "nothing-left" => "Nothing is left behind",
        "wire-only-nic" => "The wire saw only the NIC's MAC",
        "wire-has-traffic" => "The wire did carry the guests' traffic",
        other => other,
    }
}

fn say(started: Instant, text: &str) {
    let seconds = started.elapsed().as_secs();
    println!("[{seconds:>4} s] {text}");
}

fn narrate(started: Instant, event: &Event) {
    let colour = std::io::stdout().is_terminal();
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    match event {
        Event::Booted { uptime } => say(started, &format!("the PC is up ({uptime} s)")),
        Event::Step { text } => say(started, &paint("1", text)),
        Event::Note { text } => say(started, &format!("  {text}")),
        Event::Claim { id, pass, evidence } => {
            let mark = if *pass { paint("32", "✓") } else { paint("31", "✗") };
            say(started, &format!("  {mark} {}: {evidence}", meaning(id)));
        }
        Event::Failed { reason } => say(started, &paint("31", reason)),
        _ => {}
    }
}
