//! The host's half: the native driver stays away, and the IOMMU holds the NIC.

use super::build::{Build, Cell};
use super::request::{Found, Request, set_value};
use crate::TreeError;
use crate::board::{BoardNode, Proxy};
use crate::survey::{KeepAway, PlatformNic, Verdict};
use crate::tree::{Id, Index, Tree, value};

/// What a node says that it is while its NIC is given away. No driver knows it.
pub const PASSTHROUGH: &str = "netvm,passthrough";
/// The property that keeps what the node was: a changed tree can still be surveyed, and guest
/// overlays made from it.
pub const NATIVE: &str = "netvm,compatible";

/// An overlay for the host's tree, for this board only: its root has the board's `compatible`.
///
/// It changes the NIC's node and those of NICs that go with it: what they are
/// ([`KeepAway::Compatible`]) and, where the tree does not say it, which streams of which IOMMU
/// their DMA has. It enables a disabled IOMMU, and adds what the board file adds. Everything else
/// stays: pin states, assigned clock rates and power domains of the node are set by Linux' driver
/// core for vfio-platform as for any driver.
///
/// # Errors
///
/// A NIC that does not exist or cannot be given away; streams that are not known, or do not fit
/// the IOMMU's `#iommu-cells`.
pub fn host_overlay(request: &Request<'_>) -> Result<Tree, TreeError> {
    let index = Index::new(request.tree)?;
    let found = request.find(&index)?;
    let mut out = Build::default();
    if let Some(board) = request.tree.board().first() {
        out.set("/", "compatible", value::from_strings(&[board]));
    }
    let mut iommus = Iommus { found: &found, made: Vec::new() };
    for nic in &found.nics {
        let node = index.find(&nic.path);
        let node = node.ok_or_else(|| TreeError::NoSuchNode { path: nic.path.clone() })?;
        let path = out.fragment(&index, node);
        if found.keep_away(nic) == KeepAway::Compatible {
            out.set(&path, "compatible", value::from_strings(&[PASSTHROUGH]));
            out.set(&path, NATIVE, value::from_strings(&nic.compatible));
        }
        out.set(&path, "status", *b"okay\0");
        confine(&mut out, &mut iommus, nic, &path)?;
        if let Some(facts) = found.facts(nic) {
            for (name, value) in &facts.host {
                set_value(&mut out, &path, name, value, &mut |out, at| iommus.refer(out, at))?;
            }
        }
    }
    if let Some(proxy) = found.board.and_then(|board| board.proxy.as_ref()) {
        allow(&mut out, &found, proxy)?;
    }
    Ok(out.finish())
}

/// Puts a NIC behind its IOMMU.
fn confine(
    out: &mut Build,
    iommus: &mut Iommus<'_>,
    nic: &PlatformNic,
    path: &str,
) -> Result<(), TreeError> {
    let given = &iommus.found.choices.streams;
    let Verdict::NeedsIommu { iommu, .. } = &nic.verdict else {
        return match given.is_empty() {
            true => Ok(()),
            false => Err(TreeError::property(
                &nic.path,
                "iommus",
                "the tree says already which streams its DMA has",
            )),
        };
    };
    if !nic.streams.is_empty() {
        for stream in nic.streams.iter().filter(|stream| !stream.enabled) {
            iommus.enable(out, &stream.iommu)?;
        }
        return Ok(());
    }
    let facts = iommus.found.facts(nic);
    let iommu = iommus.found.choices.iommu.as_ref().unwrap_or(iommu).clone();
    let known = facts.map(|facts| facts.streams.clone()).unwrap_or_default();
    let streams = if given.is_empty() { known } else { given.clone() };
    if streams.is_empty() {
        let what = "the tree does not say which streams its DMA has: give them, or a board file";
        return Err(TreeError::property(&nic.path, "iommus", what));
    }
    let mut cells = Vec::new();
    for stream in &streams {
        cells.push(iommus.refer(out, &iommu)?);
        let wanted = iommus.cells(&iommu)?;
        if stream.len() != wanted {
            let what = format!(
                "{iommu} wants {wanted} cells for a stream (#iommu-cells), not {}",
                stream.len()
            );
            return Err(TreeError::property(&nic.path, "iommus", what));
        }
        cells.extend(stream.iter().map(|cell| Cell::Number(*cell)));
    }
    iommus.enable(out, &iommu)?;
    out.cells(path, "iommus", &cells);
    Ok(())
}

/// IOMMUs that the overlay refers to, and the fragments that it made for them.
struct Iommus<'a> {
    found: &'a Found<'a>,
    /// From a path of the base to that in the overlay.
    made: Vec<(String, String)>,
}

impl Iommus<'_> {
    fn in_file(&self, path: &str) -> Option<&BoardNode> {
        self.found.board?.node.iter().find(|node| node.path == path)
    }

    fn cells(&self, path: &str) -> Result<usize, TreeError> {
        let index = self.found.index;
        let cells = match (index.find(path), self.in_file(path)) {
            (Some(id), _) => value::cell(index.node(id), "#iommu-cells"),
            (None, Some(node)) => match node.property.get("#iommu-cells") {
                Some(crate::board::Value::Number(cells)) => Some(*cells),
                _ => None,
            },
            (None, None) => return Err(TreeError::NoSuchNode { path: path.to_owned() }),
        };
        cells
            .and_then(|cells| usize::try_from(cells).ok())
            .ok_or_else(|| TreeError::property(path, "#iommu-cells", "it is no IOMMU without it"))
    }

    /// What goes into the node with this path of the base: a fragment for it, or the board's node.
    fn content(&mut self, out: &mut Build, path: &str) -> Result<String, TreeError> {
        if let Some((_, made)) = self.made.iter().find(|(base, _)| base == path) {
            return Ok(made.clone());
        }
        let index = self.found.index;
        let made = match index.find(path) {
            Some(id) => out.fragment(index, id),
            None => self.add(out, path)?,
        };
        self.made.push((path.to_owned(), made.clone()));
        Ok(made)
    }

    /// Adds a node of the board file.
    fn add(&mut self, out: &mut Build, path: &str) -> Result<String, TreeError> {
        let index = self.found.index;
        let missing = || TreeError::NoSuchNode { path: path.to_owned() };
        let node = self.in_file(path).ok_or_else(missing)?.clone();
        let (parent, name) = path.rsplit_once('/').ok_or_else(missing)?;
        let parent = if parent.is_empty() { "/" } else { parent };
        let parent = index.find(parent).ok_or_else(missing)?;
        let made = format!("{}/{name}", out.fragment(index, parent));
        for (name, value) in &node.property {
            set_value(out, &made, name, value, &mut |_, at| base_cell(index, at))?;
        }
        Ok(made)
    }

    /// A cell with the phandle of the node with this path of the base, or of the board file.
    fn refer(&mut self, out: &mut Build, path: &str) -> Result<Cell, TreeError> {
        let index = self.found.index;
        let base = index.find(path);
        if let Some(cell) = base.and_then(|id| existing(index, id)) {
            return Ok(cell);
        }
        // The overlay gives it a phandle, which moves above the base's.
        Ok(Cell::Local(self.content(out, path)?))
    }

    /// Enables an IOMMU and the buses above it.
    fn enable(&mut self, out: &mut Build, path: &str) -> Result<(), TreeError> {
        let index = self.found.index;
        let Some(id) = index.find(path) else {
            self.content(out, path)?;
            return Ok(());
        };
        let chain: Vec<Id> = std::iter::once(id).chain(index.ancestors(id)).collect();
        for id in chain.into_iter().filter(|id| !value::enabled(index.node(*id))) {
            let content = self.content(out, &index.path(id))?;
            out.set(&content, "status", *b"okay\0");
        }
        Ok(())
    }
}

/// The phandle that a node of the base has: through its label if it has one, else as a number,
/// which holds as the overlay is for this tree.
fn existing(index: &Index<'_>, id: Id) -> Option<Cell> {
    let phandle = value::phandle(index.node(id))?;
    Some(match index.label(id) {
        Some(label) => Cell::Symbol(label.to_owned()),
        None => Cell::Number(phandle),
    })
}

fn base_cell(index: &Index<'_>, path: &str) -> Result<Cell, TreeError> {
    let id = index.find(path).ok_or_else(|| TreeError::NoSuchNode { path: path.to_owned() })?;
    let what = "the board file refers to it, but it has no phandle";
    existing(index, id).ok_or_else(|| TreeError::node(path, what))
}

/// Lists what a guest may ask of the firmware: what the NIC's node names, and the clocks above.
fn allow(out: &mut Build, found: &Found<'_>, proxy: &Proxy) -> Result<(), TreeError> {
    let root = out.root_fragment();
    let path = format!("{root}/{}", proxy.host);
    out.set(&path, "compatible", value::from_strings(&[&proxy.host_compatible]));
    for (property, list) in &proxy.lists {
        let mut ids: Vec<u32> = found
            .nics
            .iter()
            .flat_map(|nic| &nic.uses)
            .filter(|it| it.property == *property && provides(found.index, &it.of, proxy))
            .filter_map(|it| it.arguments.first().copied())
            .collect();
        if property == "clocks" {
            ids.extend(&proxy.ancestors);
        }
        ids.sort_unstable();
        ids.dedup();
        out.set(&path, list, value::from_cells(&ids));
    }
    out.set(&path, "status", *b"okay\0");
    Ok(())
}

/// Whether the node with this path is the firmware's.
pub(super) fn provides(index: &Index<'_>, path: &str, proxy: &Proxy) -> bool {
    let node = index.find(path).map(|id| index.node(id));
    let names = node.and_then(|node| value::strings(node, "compatible")).unwrap_or_default();
    names.contains(&proxy.provider.as_str())
}
