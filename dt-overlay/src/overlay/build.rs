//! An overlay in the making: fragments, and the fixups that its references need.

use std::collections::BTreeMap;

use crate::tree::{Id, Index, Node, Tree, descend, set, value};

/// A cell of a property's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// As it is.
    Number(u32),
    /// The phandle of the node of the overlay with this path.
    Local(String),
    /// The phandle of the base's node with this label.
    Symbol(String),
}

/// Fragments and fixups; [`Build::finish`] makes a tree of them.
#[derive(Debug, Default)]
pub(crate) struct Build {
    root: Tree,
    fragments: usize,
    phandles: u32,
    fixups: BTreeMap<String, Vec<String>>,
    local: Vec<(String, String, u32)>,
    symbols: Vec<(String, String)>,
}

impl Build {
    /// A fragment for the node `id` of the base: by label where it has one, by path where not.
    /// Returns the path of what goes into it.
    pub(crate) fn fragment(&mut self, base: &Index<'_>, id: Id) -> String {
        let path = self.new_fragment();
        // libfdt wants a labelled node to have a phandle.
        let label = base.label(id).filter(|_| value::phandle(base.node(id)).is_some());
        match label {
            Some(label) => self.cells(&path, "target", &[Cell::Symbol(label.to_owned())]),
            None => self.set(&path, "target-path", value::from_strings(&[base.path(id)])),
        }
        format!("{path}/__overlay__")
    }

    /// A fragment for the root of whatever base.
    pub(crate) fn root_fragment(&mut self) -> String {
        let path = self.new_fragment();
        self.set(&path, "target-path", *b"/\0");
        format!("{path}/__overlay__")
    }

    fn new_fragment(&mut self) -> String {
        let path = format!("/fragment@{}", self.fragments);
        self.fragments += 1;
        self.node(&format!("{path}/__overlay__"));
        path
    }

    /// The node with this path, made if it is not there.
    pub(crate) fn node(&mut self, path: &str) -> &mut Node {
        let mut node = self.root.root_mut();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if node.child_mut(name).is_none() {
                node.add_child(Node::new_unchecked(name));
            }
            // It was just put there.
            node = match node.child_mut(name) {
                Some(child) => child,
                None => unreachable!("a node was just added"),
            };
        }
        node
    }

    pub(crate) fn set(&mut self, path: &str, name: &str, bytes: impl Into<Vec<u8>>) {
        set(self.node(path), name, bytes);
    }

    /// Sets a property to cells, with the fixups that they need.
    pub(crate) fn cells(&mut self, path: &str, name: &str, cells: &[Cell]) {
        let mut out = Vec::with_capacity(cells.len());
        for (cell, offset) in cells.iter().zip((0_u32..).step_by(4)) {
            out.push(match cell {
                Cell::Number(number) => *number,
                Cell::Local(target) => {
                    self.local.push((path.to_owned(), name.to_owned(), offset));
                    self.phandle(target)
                }
                Cell::Symbol(label) => {
                    let place = format!("{path}:{name}:{offset}");
                    self.fixups.entry(label.clone()).or_default().push(place);
                    u32::MAX
                }
            });
        }
        self.set(path, name, value::from_cells(&out));
    }

    /// The phandle of a node of the overlay, given to it if it has none.
    pub(crate) fn phandle(&mut self, path: &str) -> u32 {
        if let Some(phandle) = value::phandle(self.node(path)) {
            return phandle;
        }
        self.phandles += 1;
        let phandle = self.phandles;
        self.set(path, "phandle", phandle.to_be_bytes());
        phandle
    }

    /// Gives a node of the overlay a label.
    pub(crate) fn label(&mut self, path: &str, label: &str) {
        self.symbols.push((label.to_owned(), path.to_owned()));
    }

    pub(crate) fn finish(mut self) -> Tree {
        for (label, path) in std::mem::take(&mut self.symbols) {
            self.set("/__symbols__", &label, value::from_strings(&[path]));
        }
        for (label, places) in std::mem::take(&mut self.fixups) {
            self.set("/__fixups__", &label, value::from_strings(&places));
        }
        let mut offsets: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
        for (path, name, offset) in std::mem::take(&mut self.local) {
            offsets.entry((path, name)).or_default().push(offset);
        }
        for ((path, name), offsets) in offsets {
            let bytes = value::from_cells(&offsets);
            self.set(&format!("/__local_fixups__{path}"), &name, bytes);
        }
        self.root
    }

    /// Whether the overlay has this node already.
    pub(crate) fn has(&mut self, path: &str) -> bool {
        descend(self.root.root_mut(), path).is_some()
    }
}
