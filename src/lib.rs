//! Gives a host's physical NIC to a guest of its own, netvm, and links every other guest to it.
//!
//! From a declaration ([`declaration`]) and the host's facts (`vmm_plugin::host`) comes a plan ([`plan`]), which
//! [`run`] executes, supervises and undoes. [`vmm`] and [`render`] know what VMMs and netvm's image want.

pub mod bench;
pub mod cli;
pub mod declaration;
pub mod demo;
pub mod development;
pub mod dt;
pub mod exit;
pub mod flags;
pub mod identity;
pub mod image;
pub mod leases;
pub mod plan;
pub mod platform;
pub mod prepare;
pub mod render;
pub mod run;
pub mod secure;
pub mod status;
pub mod vmm;
