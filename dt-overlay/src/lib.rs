//! Flattened device trees (Devicetree Specification 0.4): reading, changing, overlays, and the NICs
//! that a board describes.
//!
//! On a board the NIC is often a node of the device tree instead of a PCI card. Giving it to a
//! guest takes two trees: the host's, where the native driver must stay away, and the guest's,
//! where it must find the NIC.

pub mod board;
mod error;
pub mod overlay;
pub mod survey;
pub mod tree;

pub use board::Board;
pub use error::TreeError;
pub use overlay::apply;
pub use survey::{PlatformNic, Verdict, survey};
pub use tree::{Index, Tree};
