//! Which properties refer to other nodes, and how: a phandle and as many cells as that node wants.

use dtoolkit::{Node as _, Property as _};

use crate::TreeError;
use crate::tree::{Id, Index, Node, Tree, value};

/// A reference from a property to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The property.
    pub property: String,
    /// Which reference in the property this is, from 0.
    pub nth: usize,
    /// Byte offset of the phandle in the property's value.
    pub offset: u32,
    /// The node that it refers to.
    pub target: Id,
    /// What follows the phandle.
    pub arguments: Vec<u32>,
}

/// How many cells follow a phandle.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// As many as this property of the target says; none without it where that is allowed.
    Named(&'static str, bool),
    /// Always so many.
    Fixed(usize),
}

/// Properties whose every phandle stands alone.
const BARE: &[&str] = &[
    "ae-handle",
    "ethernet",
    "fsl,fman-ports",
    "interrupt-parent",
    "memory-region",
    "nvidia,bpmp",
    "pcs-handle",
    "pcsphy-handle",
    "phy",
    "phy-device",
    "phy-handle",
    "ptp-timer",
    "rockchip,grf",
    "rockchip,php-grf",
    "sfp",
    "snps,axi-config",
    "snps,mtl-rx-config",
    "snps,mtl-tx-config",
    "syscon",
    "marvell,system-controller",
    "mediatek,ethsys",
    "mediatek,pericfg",
    "mediatek,sgmiisys",
    "rgmii",
    "mdio-handle",
];

/// Properties whose phandles are followed by what the target says.
const NAMED: &[(&str, &str, bool)] = &[
    ("clocks", "#clock-cells", false),
    ("assigned-clocks", "#clock-cells", false),
    ("assigned-clock-parents", "#clock-cells", false),
    ("dmas", "#dma-cells", false),
    ("interconnects", "#interconnect-cells", false),
    ("interrupts-extended", "#interrupt-cells", false),
    ("iommus", "#iommu-cells", false),
    ("mboxes", "#mbox-cells", false),
    ("msi-parent", "#msi-cells", true),
    ("mux-controls", "#mux-control-cells", false),
    ("nvmem-cells", "#nvmem-cell-cells", true),
    ("phys", "#phy-cells", false),
    ("power-domains", "#power-domain-cells", false),
    ("resets", "#reset-cells", false),
];

/// Properties whose phandles are followed by a fixed number of cells.
const FIXED: &[(&str, usize)] =
    &[("fsl,stop-mode", 2), ("intf_mode", 1), ("ti,syscon-efuse", 1), ("altr,sysmgr-syscon", 2)];

/// Most references in one property: boards have up to some dozens.
const MOST: usize = 256;

/// How a property with this name refers to other nodes; `None` if it does not, as far as is known.
pub(crate) fn shape(name: &str) -> Option<Shape> {
    if BARE.contains(&name) || name.ends_with("-supply") {
        return Some(Shape::Fixed(0));
    }
    if let Some(number) = name.strip_prefix("pinctrl-") {
        return number.bytes().all(|byte| byte.is_ascii_digit()).then_some(Shape::Fixed(0));
    }
    if let Some((_, cells, optional)) = NAMED.iter().find(|(it, ..)| *it == name) {
        return Some(Shape::Named(cells, *optional));
    }
    if name == "gpios" || name.ends_with("-gpios") || name.ends_with("-gpio") {
        return Some(Shape::Named("#gpio-cells", false));
    }
    FIXED.iter().find(|(it, _)| *it == name).map(|(_, cells)| Shape::Fixed(*cells))
}

/// The references in one property of a node.
///
/// # Errors
///
/// A phandle that no node has, a target without the property that counts its cells, a list whose
/// length does not fit.
pub(crate) fn of_property(
    index: &Index<'_>,
    id: Id,
    name: &str,
) -> Result<Vec<Reference>, TreeError> {
    let Some(shape) = shape(name) else { return Ok(Vec::new()) };
    let node = index.node(id);
    if value::bytes(node, name).is_none() {
        return Ok(Vec::new());
    }
    let wrong = |what: String| TreeError::property(index.path(id), name, what);
    let cells = value::cells(node, name).ok_or_else(|| wrong("it is no list of cells".into()))?;
    // A bare word such as `phy = <1>` of an old binding is no reference.
    let mut found: Vec<Reference> = Vec::new();
    let mut at = 0;
    while let Some(phandle) = cells.get(at).copied() {
        let nth = found.len();
        let target = index.by_phandle(phandle);
        let Some(target) = target else {
            // An empty place in the list (Devicetree 0.4, 2.3.3: phandles are not 0).
            if phandle == 0 {
                at += 1;
                continue;
            }
            return Err(wrong(format!("{phandle:#x}, at cell {at}, is no node's phandle")));
        };
        let count = count(index.node(target), shape).ok_or_else(|| {
            wrong(format!(
                "cell {at} refers to {}, which does not say how many cells follow",
                index.path(target)
            ))
        })?;
        let end = at.checked_add(1).and_then(|from| from.checked_add(count));
        let arguments = end.and_then(|end| cells.get(at + 1..end)).ok_or_else(|| {
            wrong(format!(
                "{} wants {count} cells after cell {at}, and the list ends",
                index.path(target)
            ))
        })?;
        let offset = u32::try_from(at * 4).unwrap_or(u32::MAX);
        let (property, arguments) = (name.to_owned(), arguments.to_vec());
        found.push(Reference { property, nth, offset, target, arguments });
        at += 1 + count;
        if found.len() > MOST {
            return Err(wrong(format!("more than {MOST} references")));
        }
    }
    Ok(found)
}

fn count(target: &Node, shape: Shape) -> Option<usize> {
    match shape {
        Shape::Fixed(cells) => Some(cells),
        Shape::Named(name, optional) => match value::cell(target, name) {
            Some(cells) => usize::try_from(cells).ok().filter(|cells| *cells <= 16),
            None => optional.then_some(0),
        },
    }
}

/// The references in all properties of a node.
pub(crate) fn of_node(index: &Index<'_>, id: Id) -> Result<Vec<Reference>, TreeError> {
    let mut all = Vec::new();
    for property in index.node(id).properties() {
        all.extend(of_property(index, id, property.name())?);
    }
    Ok(all)
}

/// Every reference in a tree that leads nowhere, or does not fit what it leads to, and every
/// phandle that two nodes have.
#[must_use]
pub fn unresolved(tree: &Tree) -> Vec<TreeError> {
    let index = match Index::new(tree) {
        Ok(index) => index,
        Err(error) => return vec![error],
    };
    let all = index.ids().flat_map(|id| {
        let names: Vec<_> = index.node(id).properties().map(|it| it.name().to_owned()).collect();
        names.into_iter().map(move |name| (id, name))
    });
    all.filter_map(|(id, name)| of_property(&index, id, &name).err()).take(MOST).collect()
}
