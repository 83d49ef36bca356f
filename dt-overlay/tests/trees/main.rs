//! Reading, writing, applying, surveys and overlays, with dtc and libfdt as the reference.

#[path = "../common/mod.rs"]
mod common;
mod overlays;
mod passthrough;
mod property;
mod survey;
mod tree;
