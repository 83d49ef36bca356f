//! What an attacker makes a card do that a guest has, and what becomes of it outside.

use std::path::Path;

use netvm_rig::{Bundle, Scenario};

/// What the scenarios share.
const SHARED: &str = include_str!("hostile.sh");

const SCENARIOS: [(&str, &str); 4] = [
    ("hostile-dma", include_str!("hostile-dma.sh")),
    ("hostile-reset", include_str!("hostile-reset.sh")),
    ("hostile-kill", include_str!("hostile-kill.sh")),
    ("hostile-storm", include_str!("hostile-storm.sh")),
];

pub fn scenarios() -> Vec<Scenario> {
    let scenario = |(name, script)| {
        netvm::demo::scenario_of(name, &format!("{SHARED}\n{script}")).timeout(super::LIMIT)
    };
    SCENARIOS.into_iter().map(scenario).collect()
}

/// Adds the attacker's driver, if it is built: the scenarios say so if it is not.
pub fn bundle(bundle: Bundle, programs: &Path) -> Bundle {
    let driver = programs.join("hostile-driver");
    if driver.is_file() { bundle.program(&driver).guest_program(driver) } else { bundle }
}
