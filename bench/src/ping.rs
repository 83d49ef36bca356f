//! How long a frame takes from one driver to the other.

use std::time::{Duration, Instant};

use crate::frame::Station;
use crate::frame::{UDP_HEADERS, stamp, udp};
use crate::header::NetHeader;
use crate::load::{Load, LoadError};
use crate::pair::QueuePair;

/// Bytes of the frame that goes to and fro.
const LEN: usize = 64;
/// When a frame has not come after so long, it never will.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends a frame to and fro for `duration`, each time after a `pause`, with a receiver that sleeps until it is called.
/// Returns what passed each time between the kick and the call.
pub fn ping(
    ends: [&mut QueuePair; 2],
    stations: [Station; 2],
    pause: Duration,
    duration: Duration,
) -> Result<Vec<Duration>, LoadError> {
    let frames = frames(stations);
    let mut times = Vec::new();
    let end = Instant::now() + duration;
    let mut from = 0;
    while Instant::now() < end {
        let to = 1 - from;
        while ends[to].enable_receive_calls() {
            ends[to].receive(usize::MAX, |_| {})?;
        }
        ends[to].flush()?;
        // A call for what came before.
        ends[to].wait_for_call(Duration::ZERO)?;
        std::thread::sleep(pause);
        let added = ends[from].send_frame(NetHeader::default(), &frames[from]);
        assert!(added, "at most one frame is under way");
        let start = Instant::now();
        ends[from].flush()?;
        loop {
            ends[to].wait_for_call(PATIENCE)?;
            let time = start.elapsed();
            if ends[to].receive(1, |_| {})? > 0 {
                times.push(time);
                break;
            }
            if time > PATIENCE {
                return Err(LoadError::Stalled);
            }
            ends[to].enable_receive_calls();
        }
        ends[to].disable_receive_calls();
        ends[to].flush()?;
        ends[from].reap()?;
        from = to;
    }
    Ok(times)
}

/// As [`ping`], while the same thread drives load on other links: the receiver polls. The time goes from publication
/// to arrival, and is as fine as a turn of the load is short.
pub fn ping_under_load(
    ends: [&mut QueuePair; 2],
    stations: [Station; 2],
    loads: &mut [Load<'_>],
    pause: Duration,
    duration: Duration,
) -> Result<Vec<Duration>, LoadError> {
    let mut frames = frames(stations);
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut last = begin;
    let mut number = 0;
    let mut from = 0;
    let mut under_way = false;
    loop {
        for load in loads.iter_mut() {
            load.turn(true)?;
        }
        let now = Instant::now();
        if under_way {
            if ends[1 - from].receive(1, |_| {})? > 0 {
                times.push(now - last);
                under_way = false;
                ends[1 - from].flush()?;
                ends[from].reap()?;
                from = 1 - from;
                last = now;
            } else if now - last > PATIENCE {
                return Err(LoadError::Stalled);
            }
        } else if now - begin > duration {
            return Ok(times);
        } else if now - last > pause {
            number += 1;
            frames[from][UDP_HEADERS..UDP_HEADERS + 8].copy_from_slice(&stamp(number));
            let added = ends[from].send_frame(NetHeader::default(), &frames[from]);
            assert!(added, "at most one frame is under way");
            last = Instant::now();
            ends[from].flush()?;
            under_way = true;
        }
        for load in loads.iter_mut() {
            load.check(now)?;
        }
    }
}

/// What each end sends.
fn frames([first, second]: [Station; 2]) -> [Vec<u8>; 2] {
    [udp(first, second, LEN), udp(second, first, LEN)]
}
