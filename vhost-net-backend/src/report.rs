//! What a link tells its supervisor.
//!
//! On the control channel the supervisor writes the line `report`; the link answers with one line
//! of JSON, a [`LinkReport`]. A reader must ignore fields it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// State and counters of a link since its process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The guest's name, as given by `--name`.
    pub name: String,
    /// The end at the guest.
    pub guest: EndReport,
    /// The end at netvm.
    pub netvm: EndReport,
    /// Frames dropped by reason, from both ends together; reasons without drops are left out. The
    /// keys are the names of [`crate::datapath::drop_reason::DropReason`].
    pub drops: BTreeMap<String, u64>,
    /// Nanoseconds that its workers spent on turns in which there were frames, by the clock: what is
    /// left of the time they looked for frames in vain, or slept.
    #[serde(default)]
    pub busy_ns: u64,
    /// What the sandbox lacks, empty if nothing; see [`crate::sandbox`].
    #[serde(default)]
    pub sandbox_missing: Vec<String>,
}

/// What is at an end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// A vhost-user frontend.
    VhostUser,
    /// A TAP of the host.
    Tap,
}

/// State and counters of one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReport {
    /// What is there.
    pub kind: EndKind,
    /// Whether a frontend is connected (a TAP: whether it exists).
    pub connected: bool,
    /// Whether the driver there can receive frames: its receive ring runs.
    pub up: bool,
    /// Virtio features of the present session; 0 before they are negotiated, and for a TAP.
    pub features: u64,
    /// Frames taken from this end, those dropped later included.
    pub frames_in: u64,
    /// Bytes of those, Ethernet header included, virtio-net header not.
    pub bytes_in: u64,
    /// Frames delivered to this end.
    pub frames_out: u64,
    /// Bytes of those.
    pub bytes_out: u64,
    /// Frames that came from this end and were dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Connections refused: another session was live, or the peer's user was wrong.
    pub refused: u64,
    /// Rings stopped because the driver broke the rules.
    pub ring_faults: u64,
    /// Why the last session ended, unless the frontend ended it in order.
    pub last_error: Option<String>,
}
