//! Lookups in a tree that does not change: by path, by phandle, from a node to its parent.

use std::collections::HashMap;

use dtoolkit::{Node as _, Property as _};

use super::{Node, Tree, names, value};
use crate::TreeError;

/// A node in an [`Index`]: its place in the file's order, from 0 for the root.
pub type Id = usize;

#[derive(Debug)]
struct Entry<'t> {
    node: &'t Node,
    parent: Id,
    /// The first node after the last one below it.
    end: Id,
}

/// All nodes of a tree. Paths are made when asked for: kept, they could be far larger than the
/// tree.
#[derive(Debug)]
pub struct Index<'t> {
    nodes: Vec<Entry<'t>>,
    phandles: HashMap<u32, Id>,
    by_name: HashMap<(Id, &'t str), Id>,
    labels: HashMap<Id, String>,
}

impl<'t> Index<'t> {
    /// Looks at every node once.
    ///
    /// # Errors
    ///
    /// Two nodes with one phandle.
    pub fn new(tree: &'t Tree) -> Result<Self, TreeError> {
        let mut index = Self {
            nodes: Vec::new(),
            phandles: HashMap::new(),
            by_name: HashMap::new(),
            labels: HashMap::new(),
        };
        index.add(tree.root(), 0)?;
        if let Some(symbols) = index.find("/__symbols__") {
            for property in index.node(symbols).properties() {
                let path = value::string(index.node(symbols), property.name());
                if let Some(id) = path.and_then(|path| index.find(path)) {
                    index.labels.entry(id).or_insert_with(|| property.name().to_owned());
                }
            }
        }
        Ok(index)
    }

    // At most `DEPTH` deep.
    fn add(&mut self, node: &'t Node, parent: Id) -> Result<(), TreeError> {
        let id = self.nodes.len();
        self.nodes.push(Entry { node, parent, end: id });
        if id != 0 {
            self.by_name.insert((parent, node.name()), id);
        }
        if let Some(phandle) = value::phandle(node) {
            if phandle == 0 || phandle == u32::MAX {
                let what = format!("{phandle:#x} is no phandle");
                return Err(TreeError::property(self.path(id), "phandle", what));
            }
            if let Some(first) = self.phandles.insert(phandle, id) {
                let what = format!("{phandle:#x} is also the phandle of {}", self.path(first));
                return Err(TreeError::property(self.path(id), "phandle", what));
            }
        }
        for child in node.children() {
            self.add(child, id)?;
        }
        self.nodes[id].end = self.nodes.len();
        Ok(())
    }

    /// Every node, in the file's order, the root first.
    pub fn ids(&self) -> std::ops::Range<Id> {
        0..self.nodes.len()
    }

    /// The node.
    ///
    /// # Panics
    ///
    /// If `id` is not of this index.
    #[must_use]
    pub fn node(&self, id: Id) -> &'t Node {
        self.nodes[id].node
    }

    /// The node's parent; the root is its own.
    ///
    /// # Panics
    ///
    /// If `id` is not of this index.
    #[must_use]
    pub fn parent(&self, id: Id) -> Id {
        self.nodes[id].parent
    }

    /// The nodes directly in it.
    pub fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        let names = self.node(id).children().map(|child| child.name());
        names.filter_map(move |name| self.by_name.get(&(id, name)).copied())
    }

    /// The node and all below it, in the file's order.
    ///
    /// # Panics
    ///
    /// If `id` is not of this index.
    #[must_use]
    pub fn subtree(&self, id: Id) -> std::ops::Range<Id> {
        id..self.nodes[id].end
    }

    /// Its parent, that one's parent, up to the root.
    pub fn ancestors(&self, id: Id) -> impl Iterator<Item = Id> {
        let up = move |id: &Id| (*id != 0).then(|| self.parent(*id));
        std::iter::successors(up(&id), up)
    }

    /// Whether `id` is `other` or below it.
    #[must_use]
    pub fn within(&self, id: Id, other: Id) -> bool {
        self.subtree(other).contains(&id)
    }

    /// Full path of the node.
    #[must_use]
    pub fn path(&self, id: Id) -> String {
        if id == 0 {
            return "/".to_owned();
        }
        let mut chain: Vec<Id> = self.ancestors(id).filter(|id| *id != 0).collect();
        chain.reverse();
        chain.push(id);
        chain.into_iter().map(|id| format!("/{}", self.node(id).name())).collect()
    }

    /// The node with this full path, or with this name in /aliases.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Id> {
        if path.starts_with('/') {
            return names(path)?.try_fold(0, |id, name| self.by_name.get(&(id, name)).copied());
        }
        let aliases = self.node(self.find("/aliases")?);
        self.find(value::string(aliases, path).filter(|path| path.starts_with('/'))?)
    }

    /// The node with this phandle.
    #[must_use]
    pub fn by_phandle(&self, phandle: u32) -> Option<Id> {
        self.phandles.get(&phandle).copied()
    }

    /// The node's label in /__symbols__, if it has one.
    #[must_use]
    pub fn label(&self, id: Id) -> Option<&str> {
        self.labels.get(&id).map(String::as_str)
    }

    /// The largest phandle; 0 if there is none.
    #[must_use]
    pub fn max_phandle(&self) -> u32 {
        self.phandles.keys().copied().max().unwrap_or(0)
    }
}
