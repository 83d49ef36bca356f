//! What both overlays are made from.

use std::collections::BTreeMap;

use crate::TreeError;
use crate::board::{Board, BoardNic, Item, Value};
use crate::survey::{KeepAway, PlatformNic, binding, survey_indexed};
use crate::tree::{Index, Tree, value};

use super::build::{Build, Cell};

/// Which NIC is given away, and what its tree does not say.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The host's tree as it was before anything was changed.
    pub tree: &'a Tree,
    /// Full path of the NIC's node, its name in /aliases, or Linux' name for the device.
    pub nic: &'a str,
    /// What is known about the board.
    pub board: Option<&'a Board>,
    /// What the operator says, which goes before what the board file says.
    pub choices: &'a Choices,
}

/// What an operator may say about a NIC.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// How the native driver is kept away.
    pub keep_away: Option<KeepAway>,
    /// Full path of the IOMMU in front of the NIC.
    pub iommu: Option<String>,
    /// The specifiers of its streams there.
    pub streams: Vec<Vec<u32>>,
    /// Rates of its clocks in Hz, by their names in `clock-names`; one without a name is `clock0`,
    /// `clock1` and so on.
    pub clocks: BTreeMap<String, u32>,
    /// The NIC's address in the guest.
    pub mac: Option<[u8; 6]>,
}

/// The NIC of a survey of `tree` that has this path, name in /aliases, or name among Linux'
/// devices.
///
/// # Errors
///
/// None has.
pub fn choose<'n>(
    tree: &Tree,
    all: &'n [PlatformNic],
    name: &str,
) -> Result<&'n PlatformNic, TreeError> {
    pick(&Index::new(tree)?, all, name)
}

fn pick<'n>(
    index: &Index<'_>,
    all: &'n [PlatformNic],
    name: &str,
) -> Result<&'n PlatformNic, TreeError> {
    let alias = index.find(name).map(|id| index.path(id));
    let wanted = |nic: &&PlatformNic| {
        nic.path == name || nic.device == name || Some(&nic.path) == alias.as_ref()
    };
    all.iter().find(wanted).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|nic| nic.path.as_str()).collect();
        let what = if names.is_empty() {
            "no such NIC: the tree describes none".to_owned()
        } else {
            format!("no such NIC; the tree's are {}", names.join(", "))
        };
        TreeError::node(name, what)
    })
}

/// A request whose NIC was found and can be given away.
pub(crate) struct Found<'a> {
    pub index: &'a Index<'a>,
    pub board: Option<&'a Board>,
    pub choices: &'a Choices,
    /// The NIC, then those that go with it.
    pub nics: Vec<PlatformNic>,
}

impl<'a> Request<'a> {
    pub(crate) fn find(&self, index: &'a Index<'a>) -> Result<Found<'a>, TreeError> {
        let all = survey_indexed(index, self.board)?;
        let nic = pick(index, &all, self.nic)?;
        if !nic.verdict.possible() {
            let reason = nic.verdict.reason().to_owned();
            return Err(TreeError::Impassable { path: nic.path.clone(), reason });
        }
        let others = nic.verdict.with().iter();
        let others = others.filter_map(|path| all.iter().find(|nic| nic.path == *path));
        let nics = std::iter::once(nic).chain(others).cloned().collect();
        Ok(Found { index, board: self.board, choices: self.choices, nics })
    }
}

impl Found<'_> {
    /// What the board file says about a NIC.
    pub(crate) fn facts(&self, nic: &PlatformNic) -> Option<&BoardNic> {
        self.board.and_then(|board| board.nic(&nic.path))
    }

    /// How the native driver of a NIC is kept away.
    pub(crate) fn keep_away(&self, nic: &PlatformNic) -> KeepAway {
        let compatible: Vec<&str> = nic.compatible.iter().map(String::as_str).collect();
        // vfio-platform finds its reset driver by `compatible`.
        let usual = match binding::find(&compatible) {
            Some(binding) if binding.vfio_reset => KeepAway::DriverOverride,
            _ => KeepAway::Compatible,
        };
        let known = self.facts(nic).and_then(|facts| facts.keep_away);
        self.choices.keep_away.or(known).unwrap_or(usual)
    }
}

/// Sets a property to what a board file says; `refer` finds what a reference in it means.
pub(crate) fn set_value(
    out: &mut Build,
    path: &str,
    name: &str,
    value: &Value,
    refer: &mut dyn FnMut(&mut Build, &str) -> Result<Cell, TreeError>,
) -> Result<(), TreeError> {
    match value {
        Value::Flag(false) => {}
        Value::Flag(true) => out.set(path, name, []),
        Value::Number(number) => out.set(path, name, number.to_be_bytes()),
        Value::Text(text) => out.set(path, name, value::from_strings(&[text])),
        Value::List(items) => {
            let is_text = |item: &Item| matches!(item, Item::Text(text) if !text.starts_with('&'));
            if items.iter().all(is_text) {
                let texts: Vec<&str> = items
                    .iter()
                    .filter_map(|item| match item {
                        Item::Text(text) => Some(text.as_str()),
                        Item::Number(_) => None,
                    })
                    .collect();
                out.set(path, name, value::from_strings(&texts));
                return Ok(());
            }
            let mut cells = Vec::new();
            for item in items {
                cells.push(match item {
                    Item::Number(number) => Cell::Number(*number),
                    Item::Text(text) => match text.strip_prefix('&') {
                        Some(target) => refer(out, target)?,
                        None => {
                            let what = format!("{name} of {path} mixes numbers and text");
                            return Err(TreeError::Board { what });
                        }
                    },
                });
            }
            out.cells(path, name, &cells);
        }
    }
    Ok(())
}
