//! Links in this process: what they carry, what they drop, and what stops a ring.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a wrong number or an error fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

mod carry;
mod control;
mod drops;
mod features;
mod gate;
mod log;
mod malformed;
mod model;
mod packed;
mod pairs;
mod raw;
mod refusal;
mod replay;
mod requests;
mod rules;
mod tap;

use common::guest::Guest;
use common::link::TestLink;

/// A link with both ends connected, and full receive rings.
fn pair(features: u64, size: u16) -> (TestLink, Guest, Guest) {
    let link = TestLink::start();
    let mut guest = Guest::new(features, size);
    let mut netvm = Guest::new(features, size);
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    guest.fill_rx();
    netvm.fill_rx();
    (link, guest, netvm)
}
