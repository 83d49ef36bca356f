//! Registers as the CPU sees them (Devicetree 0.4, sections 2.3.5 to 2.3.8).

use serde::Serialize;

use crate::TreeError;
use crate::tree::{Id, Index, value};

/// Most ranges of registers of a device; NICs have up to five.
const MOST: usize = 32;

/// A range of physical addresses, as the CPU sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// First address.
    pub address: u64,
    /// Length in bytes.
    pub size: u64,
}

/// The node's registers in the order of `reg`; `None` if the CPU cannot reach them, because a bus
/// on the way has no `ranges` or none that has them.
///
/// # Errors
///
/// A `reg` or `ranges` whose length does not fit the cells that say its shape.
pub(crate) fn regions(index: &Index<'_>, id: Id) -> Result<Option<Vec<Region>>, TreeError> {
    let parent = index.parent(id);
    let (address, size) = cells(index, parent);
    let Some(reg) = value::cells(index.node(id), "reg") else { return Ok(Some(Vec::new())) };
    let entry = address + size;
    if entry == 0 || address > 2 || size > 2 || !reg.len().is_multiple_of(entry) {
        // Three cells are a PCI bus's.
        if address > 2 {
            return Ok(None);
        }
        let what = format!(
            "it has {} cells, and an entry has {entry}, as {} says",
            reg.len(),
            index.path(parent)
        );
        return Err(TreeError::property(index.path(id), "reg", what));
    }
    if reg.len() / entry > MOST {
        let what = format!("more than {MOST} ranges of registers");
        return Err(TreeError::property(index.path(id), "reg", what));
    }
    let mut regions = Vec::new();
    for entry in reg.chunks_exact(entry) {
        let (start, length) = entry.split_at(address);
        let region = Region { address: number(start), size: number(length) };
        match translate(index, parent, region)? {
            Some(region) => regions.push(region),
            None => return Ok(None),
        }
    }
    Ok(Some(regions))
}

/// `#address-cells` and `#size-cells` of a node, for its children; more than 16 are none.
fn cells(index: &Index<'_>, id: Id) -> (usize, usize) {
    let one = |name, default| {
        let cells = value::cell(index.node(id), name).unwrap_or(default);
        usize::try_from(cells).ok().filter(|cells| *cells <= 16).unwrap_or(16)
    };
    (one("#address-cells", 2), one("#size-cells", 1))
}

/// At most two cells.
fn number(cells: &[u32]) -> u64 {
    cells.iter().fold(0, |number, cell| number << 32 | u64::from(*cell))
}

/// From the addresses of the children of `bus` to the CPU's.
fn translate(index: &Index<'_>, bus: Id, mut region: Region) -> Result<Option<Region>, TreeError> {
    let chain = std::iter::once(bus).chain(index.ancestors(bus));
    for bus in chain.take_while(|bus| *bus != 0) {
        let Some(ranges) = value::cells(index.node(bus), "ranges") else { return Ok(None) };
        if ranges.is_empty() {
            continue;
        }
        let (child, size) = cells(index, bus);
        let (parent, _) = cells(index, index.parent(bus));
        let entry = child + parent + size;
        if child > 2 || parent > 2 || size > 2 {
            return Ok(None);
        }
        if entry == 0 || !ranges.len().is_multiple_of(entry) {
            let what = format!("it has {} cells, and an entry has {entry}", ranges.len());
            return Err(TreeError::property(index.path(bus), "ranges", what));
        }
        let window = ranges.chunks_exact(entry).find_map(|entry| {
            let (from, rest) = entry.split_at(child);
            let (to, length) = rest.split_at(parent);
            let offset = region.address.checked_sub(number(from))?;
            let inside = offset.checked_add(region.size)? <= number(length);
            inside.then(|| number(to).checked_add(offset))?
        });
        match window {
            Some(address) => region.address = address,
            None => return Ok(None),
        }
    }
    Ok(Some(region))
}
