//! Boots the PC and runs scripts in it: `cargo run -p netvm-rig --example scenario -- FOLDER
//! SCRIPT...`. Each script is a scenario named after its file; logs and captures go to FOLDER.
//! `NETVM_RIG_PROGRAMS=PATH[:PATH...]` packs built programs for them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use netvm_rig::{Bundle, Pc, Scenario, run};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("usage: scenario FOLDER SCRIPT...")?;
    let scenarios: Vec<Scenario> =
        arguments.map(|path| scenario(&path)).collect::<Result<_, _>>()?;
    let started = Instant::now();
    let programs = std::env::var_os("NETVM_RIG_PROGRAMS").unwrap_or_default();
    let bundle = std::env::split_paths(&programs).fold(Bundle::new(), Bundle::program);
    let outcomes = run(&Pc::default(), &bundle, &scenarios, &folder, |event| {
        println!("{:7.1} {event:?}", started.elapsed().as_secs_f32());
    })?;
    for outcome in &outcomes {
        let seconds = outcome.duration.as_secs_f32();
        println!(
            "{}: {:?} after {seconds:.1} s, {}",
            outcome.name,
            outcome.ending,
            outcome.log().display()
        );
    }
    Ok(if outcomes.iter().all(netvm_rig::Outcome::passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn scenario(path: &Path) -> Result<Scenario, Box<dyn Error>> {
    let name = path.file_stem().ok_or("a script has a name")?.to_string_lossy().into_owned();
    let script = std::fs::read_to_string(path)?;
    Ok(Scenario::new(name, script).timeout(Duration::from_secs(600)))
}
