//! The link: a sandboxed vhost-user-net process between exactly two guests.
//!
//! A link has two ends. Its *guest end* is a vhost-user socket for the VMM of one guest; its *netvm
//! end* is one for the VMM of netvm, or a TAP of the host. It carries frames between the two
//! guests' memories, checks each on the way, and can reach nothing else.
//!
//! - [`control`]: vhost-user sessions, each behind a gate that checks every message. Never on the
//!   packet path.
//! - [`datapath`]: rings, header, frame rules and the worker thread that moves frames.
//! - [`end`]: what an end can be.
//! - [`link`]: both ends, the worker and the report channel, put together.
//! - [`pin`]: which CPUs it runs on.
//! - [`sandbox`]: what the process gives up before it speaks to anybody.
//! - [`report`]: what it tells its supervisor.

pub mod cli;
pub mod control;
pub mod datapath;
pub mod end;
pub mod inherited;
pub mod link;
pub mod link_state;
pub mod logging;
pub mod mac;
pub mod pin;
pub mod report;
pub mod sandbox;
pub mod supervisor;
