//! vhost-user sessions: who may connect, which messages pass, and what they mean for the rings.
//!
//! ```text
//! frontend ── gate ── private socket ── vhost-user-backend ── vring ── commands ──▶ worker
//! ```
//!
//! The [`gate`] is the only thing that reads from a frontend. It checks every message against
//! [`rules`] before the library sees it, and puts them into an order the library accepts. The
//! library keeps the protocol state and maps memory; its `VringT` objects are ours ([`vring`]) and
//! turn ring life cycles into commands for the packet workers ([`placement`]). The library's own threads for
//! rings are not started.

pub mod backend;
pub mod config_space;
pub mod control_command;
pub mod control_queue;
pub mod control_ring;
pub mod eventfd;
pub mod features;
pub mod gate;
pub mod listener;
pub mod log_rules;
pub mod message;
pub mod placement;
pub mod private_socket;
pub mod refusal;
pub mod region;
pub mod ring_rules;
pub mod rules;
pub mod session;
pub mod shape;
pub mod vring;
