//! A flattened tree in memory: read, looked up, changed, written.

mod check;
mod dts;
mod index;
pub mod value;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node as _, Property as _};

pub use check::{DEPTH, NAME, PATH, SIZE};
pub use index::{Id, Index};

use crate::TreeError;

/// A node of a tree, with its properties and nodes in the order of the file.
pub type Node = DeviceTreeNode;

/// A device tree or an overlay.
///
/// ```
/// use dt_overlay::Tree;
///
/// let tree = Tree::default();
/// assert_eq!(Tree::parse(&tree.to_dtb())?, tree);
/// assert!(Tree::parse(b"not a tree").is_err());
/// # Ok::<(), dt_overlay::TreeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    model: DeviceTree,
    boot_cpu: u32,
}

/// An empty tree: a root without properties.
impl Default for Tree {
    fn default() -> Self {
        Self { model: DeviceTree::new(), boot_cpu: 0 }
    }
}

impl Tree {
    /// Reads a flattened tree of format version 17, of at most [`SIZE`] bytes. What follows it in
    /// `file` is ignored, as boot loaders leave room there.
    ///
    /// # Errors
    ///
    /// Everything that makes two readers see two trees: truncated or overlapping blocks, tokens
    /// out of place, names that are none, two properties or nodes of one name in one node, nesting
    /// beyond [`DEPTH`].
    pub fn parse(file: &[u8]) -> Result<Self, TreeError> {
        let bytes = check::check(file)?;
        // Everything that this reader takes for granted has been checked.
        let model = DeviceTree::from_fdt(&Fdt::new_unchecked(bytes));
        let tree = Self { model, boot_cpu: Fdt::new_unchecked(bytes).boot_cpuid_phys() };
        tree.counted(bytes)?;
        Ok(tree)
    }

    /// The model keeps the last of two siblings of one name: then it has fewer than the file.
    fn counted(&self, bytes: &[u8]) -> Result<(), TreeError> {
        fn compare(
            model: &DeviceTreeNode,
            file: dtoolkit::fdt::FdtNode<'_>,
            path: &mut Vec<String>,
        ) -> Result<(), TreeError> {
            let children: Vec<_> = file.children().collect();
            if model.properties().count() != file.properties().count()
                || model.children().count() != children.len()
            {
                let path = format!("/{}", path.join("/"));
                return Err(TreeError::node(path, "two of its properties or nodes share a name"));
            }
            // Names are unique here, and the model keeps the order.
            for (model, file) in model.children().zip(children) {
                path.push(model.name().to_owned());
                compare(model, file, path)?;
                path.pop();
            }
            Ok(())
        }
        compare(&self.model.root, Fdt::new_unchecked(bytes).root(), &mut Vec::new())
    }

    /// Writes the tree: the same tree gives the same bytes.
    #[must_use]
    pub fn to_dtb(&self) -> Vec<u8> {
        let mut dtb = self.model.to_dtb();
        // The writer leaves boot_cpuid_phys at 0 (section 5.2: at byte 28).
        if let Some(field) = dtb.get_mut(28..32) {
            field.copy_from_slice(&self.boot_cpu.to_be_bytes());
        }
        dtb
    }

    /// The tree as source text for dtc, for review: references as labels where it has symbols.
    #[must_use]
    pub fn to_dts(&self) -> String {
        dts::write(self)
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.model.root
    }

    /// The root, to be changed.
    pub fn root_mut(&mut self) -> &mut Node {
        &mut self.model.root
    }

    /// Ranges of physical memory that must not be used, as (address, bytes) (section 5.3).
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> {
        self.model.memory_reservations.iter().map(|entry| (entry.address(), entry.size()))
    }

    /// The node with the full `path`, to be changed.
    pub fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        descend(&mut self.model.root, path)
    }

    /// The node with the full `path`; unit addresses are part of names.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<&Node> {
        let mut node = &self.model.root;
        for name in names(path)? {
            node = exact_child(node, name)?;
        }
        Some(node)
    }

    /// `compatible` of the root, most specific first.
    #[must_use]
    pub fn board(&self) -> Vec<&str> {
        value::strings(self.root(), "compatible").unwrap_or_default()
    }

    /// The tree with the properties and nodes of every node sorted by name: two trees that say
    /// the same are equal then.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let mut tree = self.clone();
        tree.model.root = sorted(&self.model.root);
        tree
    }
}

fn sorted(node: &Node) -> Node {
    let mut out = Node::new_unchecked(node.name());
    let mut properties: Vec<_> = node.properties().collect();
    properties.sort_by(|a, b| a.name().cmp(b.name()));
    properties.into_iter().for_each(|property| out.add_property(property.clone()));
    let mut children: Vec<_> = node.children().collect();
    children.sort_by_key(|child| child.name());
    children.into_iter().for_each(|child| out.add_child(sorted(child)));
    out
}

/// The names in a full path; `None` if it is not one.
pub(crate) fn names(path: &str) -> Option<impl Iterator<Item = &str>> {
    Some(path.strip_prefix('/')?.split('/').filter(|name| !name.is_empty()))
}

/// dtoolkit's lookup takes a name without unit address for any; this does not.
pub(crate) fn exact_child<'t>(node: &'t Node, name: &str) -> Option<&'t Node> {
    if name.contains('@') {
        node.child(name)
    } else {
        node.children().find(|child| child.name() == name)
    }
}

pub(crate) fn descend<'t>(from: &'t mut Node, path: &str) -> Option<&'t mut Node> {
    let mut node = from;
    for name in names(path)? {
        node = node.child_mut(name)?;
    }
    Some(node)
}

/// Sets a property to bytes; names of boards are not held to 31 characters.
pub(crate) fn set(node: &mut Node, name: &str, value: impl Into<Vec<u8>>) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value.into()));
}
