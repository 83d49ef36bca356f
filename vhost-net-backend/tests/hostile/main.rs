//! Hostile rings: T1 to T46 of the catalogue of hostile input, each on split and on packed rings
//! where it applies. What a driver does wrong stops that ring, or costs it that frame; nothing else
//! is affected, and a new session heals it.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a wrong number or an error fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

mod burden;
mod chains;
mod double_fetch;
mod flood;
mod indices;
mod offload;
mod oracle;
mod placement;
mod race;
mod random;
mod receive;
mod walker;
