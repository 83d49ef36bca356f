//! Gives one NIC to VFIO and takes it back, by hand: `give_away check|plan|bind|recover
//! JOURNAL [NIC [OVERRIDE]...]`, where NIC is `pci=0000:00:03.0`, `id=8086:10d3`,
//! `class=network`, `usb=0bda:8153` or `platform=fe300000.ethernet`.
//!
//! `bind` ends with the NIC given away and the journal left behind, as a crash would;
//! `recover` needs only the journal. Ends with 3 when preflight refuses, 4 when something
//! could not be undone.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use vmm_plugin::host::binding::{bind, plan};
use vmm_plugin::host::journal::Record;
use vmm_plugin::host::preflight::{self, Override, Overrides};
use vmm_plugin::host::recovery::recover;
use vmm_plugin::host::{Environment, Journal, LiveHost, NicSelector, Sysfs, Wanted, resolve};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [action, journal, rest @ ..] = &arguments[..] else {
        return Err("give_away check|plan|bind|recover JOURNAL [NIC [OVERRIDE]...]".into());
    };
    let journal = Path::new(journal);
    let sysfs = Sysfs::default();
    if action == "recover" {
        let recovery = recover(&sysfs, &mut LiveHost, journal)?;
        println!("{}", serde_json::to_string_pretty(&recovery)?);
        let code = if recovery.complete() { 0 } else { 4 };
        return Ok(ExitCode::from(code));
    }
    let (nic, flags) = rest.split_first().ok_or("which NIC?")?;
    let overrides: Overrides =
        flags.iter().map(|flag| flag.parse::<Override>()).collect::<Result<_, _>>()?;
    let (kind, value) = nic.split_once('=').ok_or("write KIND=VALUE, as in pci=0000:00:03.0")?;
    let selector: NicSelector = serde_json::from_value(serde_json::json!({ kind: value }))?;
    let nic = resolve(&sysfs, &selector).map_err(|error| error.to_string())?;
    let nics = [nic];
    match action.as_str() {
        "plan" => {
            for step in plan(&sysfs, &nics) {
                println!("{} > {}  # {}", step.value, step.path.display(), step.why);
            }
            Ok(ExitCode::SUCCESS)
        }
        "check" | "bind" => {
            let wanted = Wanted { guest_memory: 256 << 20, vmm_is_root: true };
            let environment = Environment::read(&sysfs, &nics, wanted)?;
            let report = preflight::run(&sysfs, &nics, &environment, &overrides);
            print!("{report}");
            if report.refused() {
                return Ok(ExitCode::from(3));
            }
            if action == "bind" {
                let mut journal = Journal::create(&sysfs, &mut LiveHost, journal)?;
                let note = Record::Note {
                    text: "give_away".to_owned(),
                    overrides: overrides.into_iter().collect(),
                };
                journal.append(&mut LiveHost, note)?;
                for bound in bind(&sysfs, &mut LiveHost, &mut journal, &nics)? {
                    println!("{}", serde_json::to_string(&bound)?);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("no such action: {other}").into()),
    }
}
