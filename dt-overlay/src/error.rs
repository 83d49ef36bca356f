//! What can be wrong with a tree, an overlay, or what is asked of them.

/// Why a tree cannot be read, changed or used as asked. Whoever read a file names the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The bytes are no flattened tree, or a damaged one (Devicetree 0.4, chapter 5).
    #[error("Not a valid flattened device tree: {what}, at byte {offset:#x}")]
    Blob {
        /// Where, from its beginning.
        offset: usize,
        /// What is wrong.
        what: String,
    },
    /// A node is not as it must be.
    #[error("{path}: {what}")]
    Node {
        /// Its full path.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A property is not as it must be.
    #[error("{path}: property {property}: {what}")]
    Property {
        /// Full path of its node.
        path: String,
        /// Its name.
        property: String,
        /// What is wrong.
        what: String,
    },
    /// No node has this path.
    #[error("{path}: the tree has no such node")]
    NoSuchNode {
        /// The path that was asked for.
        path: String,
    },
    /// No node has this label.
    #[error("{label}: the base tree has no such symbol; its /__symbols__ says what labels it has")]
    NoSuchSymbol {
        /// The label.
        label: String,
    },
    /// An overlay says which boards it is for, and this is none of them.
    #[error(
        "The overlay is for {overlay}, the tree is of {base}: take the one made for this board"
    )]
    OtherBoard {
        /// `compatible` of the overlay's root.
        overlay: String,
        /// `compatible` of the tree's root.
        base: String,
    },
    /// The NIC cannot be given away.
    #[error("{path} cannot be given to a guest: {reason}")]
    Impassable {
        /// Full path of its node.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A board file is wrong.
    #[error("Board file: {what}")]
    Board {
        /// What is wrong.
        what: String,
    },
}

impl TreeError {
    pub(crate) fn node(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Node { path: path.into(), what: what.into() }
    }

    pub(crate) fn property(
        path: impl Into<String>,
        property: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self::Property { path: path.into(), property: property.into(), what: what.into() }
    }
}
