//! Board files: what a tree does not say about its board, as TOML.
//!
//! A file names the board by its root `compatible` and adds facts to NICs by the path of their
//! node: which streams their DMA has, the rates of their clocks, what else must change.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::TreeError;
use crate::survey::KeepAway;
use crate::tree::Tree;

/// A board file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// What the board is called.
    pub name: String,
    /// Strings in the `compatible` of a tree's root of which one makes it this board's.
    pub compatible: Vec<String>,
    /// Whether passing the NIC on was tried on the board, and by whom.
    pub hardware: String,
    /// What must be known besides.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What published instructions have wrong.
    #[serde(default)]
    pub correction: Vec<Correction>,
    /// Its NICs.
    #[serde(default)]
    pub nic: Vec<BoardNic>,
    /// Nodes that its tree lacks.
    #[serde(default)]
    pub node: Vec<BoardNode>,
    /// A firmware that keeps clocks, resets and power domains, and takes a guest's requests.
    pub proxy: Option<Proxy>,
}

/// An error of published instructions, and what is right.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// What they say.
    pub was: String,
    /// What is right, and why.
    pub now: String,
}

/// Facts about a NIC of the board.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BoardNic {
    /// Full path of its node.
    pub path: String,
    /// Full path of the IOMMU in front of it, of the tree or of `node` in this file.
    pub iommu: Option<String>,
    /// The specifiers of its streams at that IOMMU (`#iommu-cells` numbers each).
    #[serde(default)]
    pub streams: Vec<Vec<u32>>,
    /// How the native driver is kept away, if not as usual.
    pub keep_away: Option<KeepAway>,
    /// Rates of its clocks in Hz, by their names in `clock-names`.
    #[serde(default)]
    pub clocks: BTreeMap<String, u32>,
    /// Properties that its node gets on the host.
    #[serde(default)]
    pub host: BTreeMap<String, Value>,
    /// Properties that its node gets in the guest.
    #[serde(default)]
    pub guest: BTreeMap<String, Value>,
    /// Nodes below it that the guest gets besides, by their names.
    #[serde(default)]
    pub guest_node: BTreeMap<String, BTreeMap<String, Value>>,
    /// What the guest is told about the link where it cannot reach the PHY.
    pub fixed_link: Option<FixedLink>,
    /// References of its node that the guest's driver can do without, although they are to
    /// registers that it shares with other devices.
    #[serde(default)]
    pub drop: Vec<String>,
}

/// A link whose speed nobody negotiates (bindings/net/ethernet-controller.yaml).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FixedLink {
    /// In Mbit/s.
    pub speed: u32,
    /// Whether both sides may send at once.
    pub full_duplex: bool,
}

/// A node that the tree lacks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardNode {
    /// Its full path; the node above it is in the tree.
    pub path: String,
    /// Its properties.
    pub property: BTreeMap<String, Value>,
}

/// A firmware that answers for clocks, resets and power domains.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Proxy {
    /// `compatible` of the node that provides them on the host.
    pub provider: String,
    /// Node below the host's root that holds the lists of what a guest may ask for.
    pub host: String,
    /// Its `compatible`.
    pub host_compatible: String,
    /// From a reference of the NIC (`clocks`) to the name of the list of what it refers to.
    pub lists: BTreeMap<String, String>,
    /// Clocks above those of the NIC, which must be readable but are not the guest's.
    #[serde(default)]
    pub ancestors: Vec<u32>,
    /// Node that the guest has instead of the provider.
    pub guest: String,
    /// Its properties.
    pub guest_property: BTreeMap<String, Value>,
}

/// A property's value: `true` is empty, text a string, numbers are cells, `"&/path"` in a list of
/// numbers is the phandle of that node.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Empty, or (if false) not there.
    Flag(bool),
    /// A cell.
    Number(u32),
    /// A string.
    Text(String),
    /// Cells, or strings.
    List(Vec<Item>),
}

/// One of a list of values.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Item {
    /// A cell.
    Number(u32),
    /// A string, or (beginning with `&`) a reference.
    Text(String),
}

/// The files that come with this crate.
const FILES: [(&str, &str); 6] = [
    ("imx8qm-mek", include_str!("../boards/imx8qm-mek.toml")),
    ("imx8mp-evk", include_str!("../boards/imx8mp-evk.toml")),
    ("orin-agx", include_str!("../boards/orin-agx.toml")),
    ("zynqmp-zcu102", include_str!("../boards/zynqmp-zcu102.toml")),
    ("rk3568-evb", include_str!("../boards/rk3568-evb.toml")),
    ("armada-8040-mcbin", include_str!("../boards/armada-8040-mcbin.toml")),
];

impl Board {
    /// Reads a board file.
    ///
    /// # Errors
    ///
    /// No TOML, or not of this shape.
    pub fn parse(text: &str) -> Result<Self, TreeError> {
        toml::from_str(text).map_err(|error| TreeError::Board { what: error.to_string() })
    }

    /// The boards that come with this crate.
    ///
    /// # Errors
    ///
    /// None, as long as the tests of this crate pass.
    pub fn known() -> Result<Vec<Self>, TreeError> {
        FILES.iter().map(|(_, text)| Self::parse(text)).collect()
    }

    /// The first of `boards` that `tree` is of.
    #[must_use]
    pub fn of<'b>(boards: &'b [Self], tree: &Tree) -> Option<&'b Self> {
        let names = tree.board();
        boards.iter().find(|board| board.compatible.iter().any(|it| names.contains(&it.as_str())))
    }

    /// What it says about the NIC whose node has this path.
    #[must_use]
    pub fn nic(&self, path: &str) -> Option<&BoardNic> {
        self.nic.iter().find(|nic| nic.path == path)
    }
}
