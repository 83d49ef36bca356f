//! Which nodes of a tree are Ethernet controllers, and what each needs.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::{NodeStandard as _, Status};
use dtoolkit::{Node as _, Property as _};
use serde::Serialize;

/// An Ethernet controller that a tree describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformNic {
    /// Full path of its node, such as `/soc/ethernet@6800000`.
    pub path: String,
    /// `compatible`, most specific first (section 2.3.1).
    pub compatible: Vec<String>,
    /// `reg`, in order, as its parent's cells say; empty if the node has none (section 2.3.6).
    pub regions: Vec<Region>,
    /// Length of `interrupts` or `interrupts-extended` in 32-bit cells; 0 means that it has none.
    pub interrupt_cells: usize,
    /// Whether it has an `iommus` property: without one its DMA cannot be confined, and it cannot be given away.
    pub behind_iommu: bool,
    /// Whether `status` is absent or `okay` (section 2.3.4).
    pub enabled: bool,
}

/// A range of physical addresses, in the parent bus's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// First address.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
}

/// Why a tree could not be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// Not a flattened tree, or a damaged one.
    #[error("Not a valid flattened device tree")]
    Parse(#[source] dtoolkit::error::FdtParseError),
    /// Trees of real boards are less than ten levels deep.
    #[error("The tree is nested more than {DEPTH} levels deep at {path}")]
    TooDeep {
        /// Where.
        path: String,
    },
}

const DEPTH: usize = 32;

/// Lists the Ethernet controllers of the flattened tree `dtb`, in its order: the nodes with the generic name `ethernet`
/// (section 2.2.2) that have a `compatible` of their own, so not the ports of a switch.
///
/// ```
/// assert!(dt_overlay::survey(b"not a tree").is_err());
/// ```
pub fn survey(dtb: &[u8]) -> Result<Vec<PlatformNic>, SurveyError> {
    let tree = Fdt::new(dtb).map_err(SurveyError::Parse)?;
    let mut found = Vec::new();
    walk(tree.root(), "", 0, &mut found)?;
    Ok(found)
}

fn walk(
    node: FdtNode<'_>,
    path: &str,
    depth: usize,
    found: &mut Vec<PlatformNic>,
) -> Result<(), SurveyError> {
    if depth > DEPTH {
        return Err(SurveyError::TooDeep { path: path.to_owned() });
    }
    for child in node.children() {
        let path = format!("{path}/{}", child.name());
        if child.name_without_address() == "ethernet" && child.property("compatible").is_some() {
            found.push(describe(child, path.clone()));
        }
        walk(child, &path, depth + 1, found)?;
    }
    Ok(())
}

fn describe(node: FdtNode<'_>, path: String) -> PlatformNic {
    let compatible = node.compatible().map(|names| names.map(str::to_owned).collect());
    let regions = node.reg().ok().flatten().map(|ranges| {
        ranges
            .filter_map(|range| {
                Some(Region { address: range.address().ok()?, size: range.size().ok()? })
            })
            .collect()
    });
    let interrupts = node.property("interrupts-extended").or_else(|| node.property("interrupts"));
    PlatformNic {
        path,
        compatible: compatible.unwrap_or_default(),
        regions: regions.unwrap_or_default(),
        interrupt_cells: interrupts.map_or(0, |property| property.value().len() / 4),
        behind_iommu: node.property("iommus").is_some(),
        enabled: node.status().is_ok_and(|status| status == Status::Okay),
    }
}
