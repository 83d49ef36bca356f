//! The packet path: rings, the virtio-net header, the frame rules and the worker threads that move
//! frames both ways.
//!
//! Nothing in here allocates, locks, logs or panics per frame; what it has to say about frames it
//! says in [`counters`]. Session threads reach it only through [`command`].

pub mod announce;
pub mod carry;
pub mod command;
pub mod counters;
pub mod drop_reason;
pub mod filter;
pub mod header;
pub mod lane;
pub mod log;
pub mod memory;
pub mod notify;
pub mod offload;
pub mod packet;
pub mod patience;
pub mod pause;
pub mod rate;
pub mod ring;
pub mod worker;

mod sys;

/// Which end of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndId {
    /// The end at the guest.
    Guest,
    /// The end at netvm (or at the TAP that stands in for it).
    Netvm,
}

impl EndId {
    /// The end opposite to this one.
    pub const fn other(self) -> Self {
        match self {
            Self::Guest => Self::Netvm,
            Self::Netvm => Self::Guest,
        }
    }

    /// `guest` or `netvm`, as logs and reports name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Netvm => "netvm",
        }
    }

    /// 0 for the guest's end, 1 for netvm's.
    pub const fn index(self) -> usize {
        match self {
            Self::Guest => 0,
            Self::Netvm => 1,
        }
    }
}

/// Largest ring a frontend may configure (virtio 1.2, 2.7).
pub const MAX_RING_SIZE: u16 = 32768;
