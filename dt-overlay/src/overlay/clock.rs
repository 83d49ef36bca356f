//! Rates of clocks that a guest is told as facts.

use dtoolkit::Node as _;

use super::request::Found;
use crate::TreeError;
use crate::survey::{PlatformNic, binding, reference};
use crate::tree::{Id, value};

/// A clock of a NIC.
pub(super) struct Fixed {
    /// In Hz.
    pub rate: u32,
}

/// The NIC's clocks in order. A rate is, in this order: what the operator says, what the board file
/// says, what the node assigns, what a fixed clock says of itself, what is usual for the binding.
pub(super) fn fixed(found: &Found<'_>, nic: &PlatformNic, id: Id) -> Result<Vec<Fixed>, TreeError> {
    let index = found.index;
    let node = index.node(id);
    let names = value::strings(node, "clock-names").unwrap_or_default();
    let compatible: Vec<&str> = nic.compatible.iter().map(String::as_str).collect();
    let usual = binding::find(&compatible).map(|binding| binding.clocks).unwrap_or_default();
    // What the node asks of other clocks does not matter here; its own lists may be malformed.
    let assigned = reference::of_property(index, id, "assigned-clocks")?;
    let rates = value::cells(node, "assigned-clock-rates").unwrap_or_default();
    let mut clocks = Vec::new();
    for it in reference::of_property(index, id, "clocks")? {
        let name = names.get(it.nth).map_or_else(|| format!("clock{}", it.nth), |it| (*it).into());
        let given = found.choices.clocks.get(&name).copied();
        let known = || found.facts(nic)?.clocks.get(&name).copied();
        let same = |other: &&reference::Reference| {
            other.target == it.target && other.arguments == it.arguments
        };
        let asked = || {
            let other = assigned.iter().find(same)?;
            rates.get(other.nth).copied().filter(|rate| *rate != 0)
        };
        let says = || value::cell(index.node(it.target), "clock-frequency");
        let usual = || usual.iter().find(|(it, _)| *it == name).map(|(_, rate)| *rate);
        let rate = given.or_else(known).or_else(asked).or_else(says).or_else(usual);
        let rate = rate.ok_or_else(|| {
            let provider = index.node(it.target).name();
            let what = format!("the rate of {name} (of {provider}) is not known: give it");
            TreeError::property(index.path(id), "clocks", what)
        })?;
        clocks.push(Fixed { rate });
    }
    Ok(clocks)
}
