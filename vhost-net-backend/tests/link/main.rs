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
mod lane;
mod log;
mod memory;
mod model;
mod notify;
mod packed;
mod pairs;
mod raw;
mod refusal;
mod replay;
mod requests;
mod rules;
mod tap;
mod waiting;

use common::driver::Driver;
use common::guest::Guest;
use common::link::TestLink;

/// A link with both ends connected, and full receive rings, which are split.
fn pair(features: u64, size: u16) -> (TestLink, Guest, Guest) {
    pair_of(features, size)
}

/// The same, with rings of either kind.
fn pair_of<R: Driver>(features: u64, size: u16) -> (TestLink, Guest<R>, Guest<R>) {
    let link = TestLink::start();
    let mut guest = Guest::create(features, size);
    let mut netvm = Guest::create(features, size);
    guest.connect(&link.guest_socket());
    netvm.connect(&link.netvm_socket());
    guest.fill_rx();
    netvm.fill_rx();
    (link, guest, netvm)
}
