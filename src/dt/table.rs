//! Surveys as a table.

use comfy_table::{ContentArrangement, Table, presets};
use dt_overlay::survey::{PlatformNic, Verdict};

use super::Surveyed;

/// One line a NIC; trees without any are counted.
pub(super) fn survey(all: &[Surveyed]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["tree", "NIC", "driver", "can be given away", "because"]);
    let mut without = 0;
    for surveyed in all {
        let name = surveyed.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        without += usize::from(surveyed.nics.is_empty());
        for nic in &surveyed.nics {
            table.add_row([
                name.clone(),
                clean(&nic.path),
                nic.driver.unwrap_or("-").to_owned(),
                answer(nic).to_owned(),
                clean(nic.verdict.reason()),
            ]);
        }
    }
    let nics: usize = all.iter().map(|it| it.nics.len()).sum();
    let sum = format!("{} trees, {nics} NICs, {without} trees without any\n", all.len());
    if nics == 0 { sum } else { format!("{table}\n{sum}") }
}

/// In a word.
pub(super) fn answer(nic: &PlatformNic) -> &'static str {
    match nic.verdict {
        Verdict::Passable { .. } => "yes",
        Verdict::NeedsIommu { .. } => "with a changed tree",
        Verdict::Impassable { .. } => "no",
    }
}

/// Text of a tree for a terminal: names are printable, strings need not be.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}
