//! What crosvm does to an overlay before it applies it (`cros_fdt`, August 2026), as a model: with
//! `filter` it keeps the labelled node, what is below it, what those and the nodes above refer to
//! by `__local_fixups__`, and nothing else.

use std::collections::BTreeSet;

use dt_overlay::tree::{Node, value};
use dt_overlay::{Index, Tree};
use dtoolkit::{Node as _, Property as _};

/// Paths of nodes of the overlay's fragments that crosvm would drop. Panics where crosvm would
/// refuse the overlay.
pub fn dropped(overlay: &Tree, label: &str) -> Vec<String> {
    let index = Index::new(overlay).expect("an overlay");
    let symbols = overlay.node("/__symbols__").expect("symbols");
    let start = value::string(symbols, label).expect("the label").to_owned();
    // crosvm's own tree has one label.
    if let Some(fixups) = overlay.node("/__fixups__") {
        assert!(fixups.properties().all(|it| it.name() == "intc"), "crosvm knows no other label");
    }
    // What crosvm writes registers to has two and two cells.
    let parent = overlay.node(start.rsplit_once('/').expect("a path").0).expect("a parent");
    for cells in ["#address-cells", "#size-cells"] {
        assert_eq!(value::cell(parent, cells), Some(2), "{cells}");
    }
    let mut kept = BTreeSet::new();
    let mut next = vec![start];
    while let Some(path) = next.pop() {
        if !kept.insert(path.clone()) {
            continue;
        }
        let mut references = Vec::new();
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let (mut node, mut fixup) = (overlay.root(), overlay.node("/__local_fixups__"));
        for name in names {
            node = child(node, name).expect("the node is there");
            fixup = fixup.and_then(|fixup| child(fixup, name));
            let Some(fixup) = fixup else { break };
            own(fixup, node, &mut references);
        }
        if let Some(fixup) = fixup {
            below(fixup, node, &mut references);
        }
        for phandle in references {
            let id = index.by_phandle(phandle).expect("a local reference leads to a node");
            next.push(index.path(id));
        }
    }
    let all = index.ids().map(|id| index.path(id)).filter(|path| path.contains("/__overlay__/"));
    let related = |path: &String| {
        kept.iter().any(|it| {
            it == path
                || path.strip_prefix(it.as_str()).is_some_and(|rest| rest.starts_with('/'))
                || it.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let fragments = all.filter(|path| path.starts_with("/fragment@"));
    fragments.filter(|path| !related(path)).collect()
}

fn child<'t>(node: &'t Node, name: &str) -> Option<&'t Node> {
    node.children().find(|child| child.name() == name)
}

fn own(fixup: &Node, node: &Node, references: &mut Vec<u32>) {
    for property in fixup.properties() {
        let value = value::cells(node, property.name()).expect("the property is there");
        for offset in value::cells(fixup, property.name()).expect("offsets") {
            let at = usize::try_from(offset / 4).expect("small");
            references.push(*value.get(at).expect("the offset is in the property"));
        }
    }
}

fn below(fixup: &Node, node: &Node, references: &mut Vec<u32>) {
    own(fixup, node, references);
    for it in fixup.children() {
        below(it, child(node, it.name()).expect("the node is there"), references);
    }
}
