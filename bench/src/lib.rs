//! A guest without a VMM, for load and measurement.
//!
//! A [`card::Card`] is a virtio-net card as a guest's driver sees it: rings ([`ring`], split or packed) and buffers in
//! memory of its own on a sealed memfd ([`memory`]), given to a vhost-user backend by a frontend ([`session`]).
//! [`frame`] makes frames that a filtering backend lets pass, [`samples`] does the arithmetic of measurements.
//!
//! Nothing here shares code with the backend, so that a mistake there is not repeated here.

pub mod card;
pub mod features;
pub mod frame;
pub mod header;
pub mod load;
pub mod memory;
pub mod memory_rate;
pub mod pair;
pub mod ping;
pub mod ring;
pub mod samples;
pub mod session;
mod sys;
