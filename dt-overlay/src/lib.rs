//! Flattened device trees (Devicetree Specification 0.4, chapter 5): the NICs that a board describes.
//!
//! [`survey()`] reads a tree, such as `/sys/firmware/fdt`, and lists its Ethernet controllers with what matters for
//! giving one to a guest: registers, interrupts, and whether an IOMMU stands in front of it.

mod survey;

pub use survey::{PlatformNic, Region, SurveyError, survey};
