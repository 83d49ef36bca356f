//! Interrupts (Devicetree 0.4, section 2.4).

use serde::Serialize;

use super::reference;
use crate::TreeError;
use crate::tree::{Id, Index, value};

/// An interrupt of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Its name in `interrupt-names`, if it has one.
    pub name: Option<String>,
    /// Full path of the interrupt controller.
    pub controller: String,
    /// Its specifier, as that controller's binding says.
    pub specifier: Vec<u32>,
    /// Number of the shared peripheral interrupt (0 is interrupt 32), if the controller is a GIC.
    pub spi: Option<u32>,
    /// Whether it is level triggered; `None` if the specifier's meaning is not known here.
    pub level: Option<bool>,
}

const GICS: &[&str] = &[
    "arm,gic-v3",
    "arm,gic-400",
    "arm,gic-v2",
    "arm,cortex-a15-gic",
    "arm,cortex-a9-gic",
    "arm,cortex-a57-gic",
    "cavium,thunder-88xx-gic",
];

/// The node's own interrupts, in order.
///
/// # Errors
///
/// No interrupt controller, or a list whose length does not fit its cells.
pub(crate) fn interrupts(index: &Index<'_>, id: Id) -> Result<Vec<Interrupt>, TreeError> {
    let node = index.node(id);
    let names = value::strings(node, "interrupt-names").unwrap_or_default();
    let name = |nth: usize| names.get(nth).map(|name| (*name).to_owned());
    let extended = reference::of_property(index, id, "interrupts-extended")?;
    if !extended.is_empty() {
        let all = extended.into_iter();
        return Ok(all.map(|it| describe(index, name(it.nth), it.target, it.arguments)).collect());
    }
    if value::bytes(node, "interrupts").is_none() {
        return Ok(Vec::new());
    }
    let wrong = |what: String| TreeError::property(index.path(id), "interrupts", what);
    let cells = value::cells(node, "interrupts").ok_or_else(|| wrong("no list of cells".into()))?;
    let parent = controller(index, id).ok_or_else(|| wrong("no interrupt controller".into()))?;
    let count = value::cell(index.node(parent), "#interrupt-cells");
    let count = count.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count > 0 && cells.len().is_multiple_of(*count));
    let count = count.ok_or_else(|| {
        wrong(format!("its {} cells do not fit {}", cells.len(), index.path(parent)))
    })?;
    let all = cells.chunks_exact(count).enumerate();
    Ok(all.map(|(nth, cells)| describe(index, name(nth), parent, cells.to_vec())).collect())
}

/// What the nearest `interrupt-parent` names, or the nearest node above that is a controller or a
/// nexus itself: as Linux' `of_irq_find_parent`.
fn controller(index: &Index<'_>, id: Id) -> Option<Id> {
    let mut at = id;
    // A chain of phandles could be a ring.
    for _ in 0..=index.ids().len() {
        at = match value::cell(index.node(at), "interrupt-parent") {
            Some(phandle) => index.by_phandle(phandle)?,
            None if at == 0 => return None,
            None => index.parent(at),
        };
        if value::bytes(index.node(at), "#interrupt-cells").is_some() {
            return Some(at);
        }
    }
    None
}

fn describe(
    index: &Index<'_>,
    name: Option<String>,
    controller: Id,
    specifier: Vec<u32>,
) -> Interrupt {
    let compatible = value::strings(index.node(controller), "compatible").unwrap_or_default();
    let gic = compatible.iter().any(|name| GICS.contains(name));
    // Type 0 is an SPI; flags 4 and 8 are levels (bindings/interrupt-controller/arm,gic*.yaml).
    let (spi, level) = match specifier[..] {
        [0, number, flags, ..] if gic => (Some(number), Some(flags & 0xf >= 4)),
        _ => (None, None),
    };
    Interrupt { name, controller: index.path(controller), specifier, spi, level }
}
