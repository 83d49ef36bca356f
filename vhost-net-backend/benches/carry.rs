//! What the packet path does per frame: frames between two rings in this process, without threads.
//!
//! ```text
//! cargo bench -p vhost-net-backend --bench carry               # nanoseconds a frame
//! make instructions                                            # instructions a frame (callgrind)
//! ```
#![expect(clippy::print_stdout, reason = "that is what it is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::direct::Direct;
use common::driver::{Driver, DriverRing};
use common::guest::{EVENT_IDX, Guest, MRG_RXBUF};
use common::packed::PackedRing;
use common::{GUEST, NETVM, frame};
use vhost_net_backend::datapath::EndId;

const RING: u16 = 256;
/// Where an IPv4 packet in a frame has its protocol.
const PROTOCOL: usize = 14 + 9;
const UDP: u8 = 17;
/// Frames posted between two turns.
const BATCH: u16 = 64;

/// Moves `rounds` batches of frames of `len` bytes. Returns the time the link took.
fn run<R: Driver>(features: u64, len: usize, rounds: u32) -> Duration {
    let [mut guest, mut netvm] = [(); 2].map(|()| Guest::<R>::create(features, RING));
    let mut link = Direct::new(&guest, &netvm);
    let mut frame = frame(NETVM, GUEST, len, 1);
    frame[PROTOCOL] = UDP;
    let mut time = Duration::ZERO;
    for _ in 0..rounds {
        netvm.fill_rx();
        for _ in 0..BATCH {
            guest.post(&frame);
        }
        let start = Instant::now();
        let turn = link.turn(EndId::Guest);
        time += start.elapsed();
        assert_eq!(turn.delivered, usize::from(BATCH), "every frame is delivered");
        while guest.tx.pop_used().is_some() {}
        while netvm.rx.pop_used().is_some() {}
    }
    time
}

/// What is measured, or the one length that LENGTH asks for.
fn lengths() -> Vec<usize> {
    match std::env::var("LENGTH").ok().and_then(|text| text.parse().ok()) {
        Some(length) => vec![length],
        None => vec![64, 256, 1514],
    }
}

/// What is measured, or the one kind of ring that RING asks for.
fn is_wanted(kind: &str) -> bool {
    std::env::var("RING").map_or(true, |wanted| wanted == kind)
}

fn main() {
    // Under valgrind a few are enough: every run counts the same.
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let kinds = [("split", run::<DriverRing> as fn(_, _, _) -> _), ("packed", run::<PackedRing>)];
    for (kind, run) in kinds.into_iter().filter(|(kind, _)| is_wanted(kind)) {
        for (name, features) in [("", MRG_RXBUF), (", event indices", MRG_RXBUF | EVENT_IDX)] {
            for len in lengths() {
                let time = run(features, len, rounds);
                let frames = f64::from(rounds) * f64::from(BATCH);
                let nanoseconds = time.as_secs_f64() * 1e9 / frames;
                println!("{kind}{name}, {len} bytes: {nanoseconds:.1} ns a frame");
            }
        }
    }
}
