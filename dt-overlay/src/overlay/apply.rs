//! An overlay applied to a tree, as libfdt's `fdt_overlay_apply` does it.

use std::collections::{BTreeMap, HashMap};

use dtoolkit::{Node as _, Property as _};

use crate::TreeError;
use crate::tree::{Index, Node, Tree, descend, exact_child, set, value};

const PHANDLES: [&str; 2] = ["phandle", "linux,phandle"];

/// Applies `overlay` to `base`. The base stays as it is: on an error there is no half of a result.
///
/// Phandles of the overlay move above those of the base; what `__local_fixups__` names follows;
/// what `__fixups__` names becomes the phandles of the base's symbols. Then each fragment is merged
/// into its target, and the overlay's symbols join the base's.
///
/// # Errors
///
/// An overlay for another board (its root has a `compatible` of which the base's has none),
/// fragments without a target or whose target does not exist, unknown symbols, fixups that point
/// outside of properties, clashing phandles.
pub fn apply(base: &Tree, overlay: &Tree) -> Result<Tree, TreeError> {
    let index = Index::new(base)?;
    same_board(base, overlay)?;
    let mut change = overlay.clone();
    let delta = index.max_phandle();
    move_phandles(change.root_mut(), delta, "")?;
    if let Some(fixups) = exact_child(overlay.root(), "__local_fixups__") {
        fix_local(change.root_mut(), fixups, delta, "")?;
    }
    if let Some(fixups) = exact_child(overlay.root(), "__fixups__") {
        fix_symbols(&mut change, fixups, &index)?;
    }
    let mut result = base.clone();
    let mut targets = HashMap::new();
    for fragment in change.root().children() {
        let Some(content) = exact_child(fragment, "__overlay__") else { continue };
        let target = target(fragment, &index)?;
        let node = result.node_mut(&target);
        let node = node.ok_or_else(|| TreeError::NoSuchNode { path: target.clone() })?;
        merge(node, content);
        targets.insert(fragment.name().to_owned(), target);
    }
    if let Some(symbols) = exact_child(overlay.root(), "__symbols__") {
        add_symbols(&mut result, symbols, &targets);
    }
    // Two nodes with one phandle would be found here.
    Index::new(&result)?;
    Ok(result)
}

fn same_board(base: &Tree, overlay: &Tree) -> Result<(), TreeError> {
    let (base, overlay) = (base.board(), overlay.board());
    if overlay.is_empty() || overlay.iter().any(|board| base.contains(board)) {
        return Ok(());
    }
    Err(TreeError::OtherBoard { overlay: overlay.join(", "), base: base.join(", ") })
}

fn move_phandles(node: &mut Node, delta: u32, path: &str) -> Result<(), TreeError> {
    for name in PHANDLES {
        if value::bytes(node, name).is_none() {
            continue;
        }
        let moved = value::cell(node, name).and_then(|phandle| phandle.checked_add(delta));
        let moved = moved.filter(|phandle| *phandle != u32::MAX && *phandle != 0);
        let moved = moved.ok_or_else(|| {
            TreeError::property(path, name, "it is no phandle, or too large for this tree")
        })?;
        set(node, name, moved.to_be_bytes());
    }
    for child in node.children_mut() {
        let path = format!("{path}/{}", child.name());
        move_phandles(child, delta, &path)?;
    }
    Ok(())
}

/// What happens to a cell.
enum Edit {
    Add(u32),
    Put(u32),
}

/// Changes the cells at the offsets of a property, all at once: a large property with many fixups
/// is copied once.
fn patch(
    node: &mut Node,
    path: &str,
    property: &str,
    edits: impl IntoIterator<Item = (usize, Edit)>,
) -> Result<(), TreeError> {
    let wrong = |what: String| TreeError::property(path, property, what);
    let bytes = value::bytes(node, property);
    let mut bytes =
        bytes.ok_or_else(|| wrong("a fixup names it, but it is not there".into()))?.to_vec();
    for (offset, edit) in edits {
        let cell = offset.checked_add(4).and_then(|end| bytes.get_mut(offset..end));
        let cell = cell.and_then(|cell| <&mut [u8; 4]>::try_from(cell).ok());
        let cell =
            cell.ok_or_else(|| wrong(format!("a fixup is at byte {offset}, beyond its end")))?;
        let new = match edit {
            Edit::Add(delta) => u32::from_be_bytes(*cell).checked_add(delta),
            Edit::Put(phandle) => Some(phandle),
        };
        let new = new.ok_or_else(|| wrong("its phandle is too large for this tree".into()))?;
        *cell = new.to_be_bytes();
    }
    set(node, property, bytes);
    Ok(())
}

fn fix_local(node: &mut Node, fixups: &Node, delta: u32, path: &str) -> Result<(), TreeError> {
    for property in fixups.properties() {
        let offsets = value::cells(fixups, property.name()).ok_or_else(|| {
            let what = "it is no list of offsets";
            TreeError::property(format!("/__local_fixups__{path}"), property.name(), what)
        })?;
        let edits = offsets
            .into_iter()
            .map(|offset| (usize::try_from(offset).unwrap_or(usize::MAX), Edit::Add(delta)));
        patch(node, path, property.name(), edits)?;
    }
    for child in fixups.children() {
        let path = format!("{path}/{}", child.name());
        let below = node.child_mut(child.name()).ok_or_else(|| {
            TreeError::node(&path, "a fixup names it, but the overlay has no such node")
        })?;
        fix_local(below, child, delta, &path)?;
    }
    Ok(())
}

fn fix_symbols(change: &mut Tree, fixups: &Node, index: &Index<'_>) -> Result<(), TreeError> {
    let symbols = index.find("/__symbols__").map(|id| index.node(id));
    let mut edits: BTreeMap<(&str, &str), Vec<(usize, Edit)>> = BTreeMap::new();
    for property in fixups.properties() {
        let label = property.name();
        let phandle = symbol(symbols, label, index)?;
        let wrong = |what| TreeError::property("/__fixups__", label, what);
        let places = value::strings(fixups, label)
            .ok_or_else(|| wrong("it is no list of strings".to_owned()))?;
        for place in places {
            let (path, name, offset) = location(place)
                .ok_or_else(|| wrong(format!("{place:?} is no path:property:offset")))?;
            edits.entry((path, name)).or_default().push((offset, Edit::Put(phandle)));
        }
    }
    for ((path, name), edits) in edits {
        let node = descend(change.root_mut(), path).ok_or_else(|| {
            TreeError::node(path, "a fixup names it, but the overlay has no such node")
        })?;
        patch(node, path, name, edits)?;
    }
    Ok(())
}

/// The phandle of the base's node with this label.
fn symbol(symbols: Option<&Node>, label: &str, index: &Index<'_>) -> Result<u32, TreeError> {
    let path = symbols.and_then(|symbols| value::string(symbols, label));
    let path = path.ok_or_else(|| TreeError::NoSuchSymbol { label: label.to_owned() })?;
    let id = index.find(path).ok_or_else(|| {
        TreeError::property("/__symbols__", label, format!("{path} is not in the tree"))
    })?;
    value::phandle(index.node(id))
        .ok_or_else(|| TreeError::node(path, format!("it has the label {label} but no phandle")))
}

fn location(place: &str) -> Option<(&str, &str, usize)> {
    let (rest, offset) = place.rsplit_once(':')?;
    let (path, name) = rest.rsplit_once(':')?;
    Some((path, name, offset.parse().ok()?))
}

/// Full path of the node that a fragment changes.
fn target(fragment: &Node, index: &Index<'_>) -> Result<String, TreeError> {
    let here = || format!("/{}", fragment.name());
    if value::bytes(fragment, "target").is_some() {
        let phandle = value::cell(fragment, "target");
        let id = phandle.and_then(|phandle| index.by_phandle(phandle));
        return id.map(|id| index.path(id)).ok_or_else(|| {
            TreeError::property(here(), "target", "no node of the base tree has that phandle")
        });
    }
    let path = value::string(fragment, "target-path")
        .ok_or_else(|| TreeError::node(here(), "a fragment needs `target` or `target-path`"))?;
    let id = index.find(path);
    id.map(|id| index.path(id)).ok_or_else(|| TreeError::NoSuchNode { path: path.to_owned() })
}

// At most twice `DEPTH` deep.
fn merge(target: &mut Node, content: &Node) {
    for property in content.properties() {
        target.add_property(property.clone());
    }
    for child in content.children() {
        match target.child_mut(child.name()) {
            Some(there) => merge(there, child),
            None => target.add_child(child.clone()),
        }
    }
}

/// A label of the overlay's is of a node in a fragment: its path in the result is below the target.
fn add_symbols(result: &mut Tree, symbols: &Node, targets: &HashMap<String, String>) {
    if result.root().child("__symbols__").is_none() {
        result.root_mut().add_child(Node::new_unchecked("__symbols__"));
    }
    let Some(all) = result.root_mut().child_mut("__symbols__") else { return };
    for symbol in symbols.properties() {
        let Some(path) = value::string(symbols, symbol.name()) else { continue };
        let inside = path.strip_prefix('/').and_then(|path| {
            let (fragment, rest) = path.split_once('/')?;
            let rest = rest.strip_prefix("__overlay__")?;
            let inside = rest.is_empty() || rest.starts_with('/');
            inside.then_some((targets.get(fragment)?, rest))
        });
        let Some((target, rest)) = inside else { continue };
        let path = match (target.as_str(), rest) {
            ("/", "") => "/".to_owned(),
            ("/", rest) => rest.to_owned(),
            (target, rest) => format!("{target}{rest}"),
        };
        set(all, symbol.name(), [path.as_bytes(), b"\0"].concat());
    }
}
