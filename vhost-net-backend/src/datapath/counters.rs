//! Counters the worker writes and reports read.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::EndId;
use super::drop_reason::DropReason;

/// Counters of one end. "In" is into the link from this end, "out" is out of the link to it.
#[derive(Debug, Default)]
pub struct EndCounters {
    /// Frames taken from this end, dropped ones included.
    pub frames_in: AtomicU64,
    /// Bytes of those frames, without virtio-net headers.
    pub bytes_in: AtomicU64,
    /// Frames delivered to this end.
    pub frames_out: AtomicU64,
    /// Bytes of those frames, without virtio-net headers.
    pub bytes_out: AtomicU64,
    /// Rings stopped because the driver broke the rules.
    pub ring_faults: AtomicU64,
    /// A bit for each worker at which this end can receive frames now.
    up: AtomicU8,
}

impl EndCounters {
    /// Whether this end can receive frames now.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed) != 0
    }

    /// Frames taken from this end, and delivered to it.
    pub fn frames(&self) -> [u64; 2] {
        [&self.frames_in, &self.frames_out].map(|counter| counter.load(Relaxed))
    }

    /// Notes whether it can at this worker, of at most eight. Returns whether that changed
    /// [`EndCounters::is_up`].
    pub fn set_up(&self, worker: usize, up: bool) -> bool {
        let bit = 1_u8.checked_shl(u32::try_from(worker).unwrap_or(u32::MAX)).unwrap_or(0);
        let (before, after) = if up {
            let before = self.up.fetch_or(bit, Relaxed);
            (before, before | bit)
        } else {
            let before = self.up.fetch_and(!bit, Relaxed);
            (before, before & !bit)
        };
        (before == 0) != (after == 0)
    }
}

/// Counters of the whole link.
#[derive(Debug)]
pub struct Counters {
    ends: [EndCounters; 2],
    drops: [[AtomicU64; DropReason::ALL.len()]; 2],
    /// Nanoseconds of turns in which there were frames.
    busy: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            ends: Default::default(),
            drops: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            busy: AtomicU64::new(0),
        }
    }
}

/// What a turn of the worker adds to the counters at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Frames taken.
    pub frames_in: usize,
    /// Bytes of those that were carried.
    pub bytes_in: usize,
    /// Frames delivered.
    pub frames_out: usize,
    /// Bytes of those.
    pub bytes_out: usize,
}

impl Counters {
    /// Adds what was moved from the end `from` to the other.
    pub fn add(&self, from: EndId, tally: &Tally) {
        let add = |counter: &AtomicU64, value: usize| {
            if value > 0 {
                counter.fetch_add(value as u64, Relaxed);
            }
        };
        add(&self.end(from).frames_in, tally.frames_in);
        add(&self.end(from).bytes_in, tally.bytes_in);
        add(&self.end(from.other()).frames_out, tally.frames_out);
        add(&self.end(from.other()).bytes_out, tally.bytes_out);
    }

    /// Adds a turn of so long in which there were frames.
    pub fn add_busy(&self, time: Duration) {
        self.busy.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Time spent in turns in which there were frames, of all workers together.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Relaxed))
    }

    /// The counters of one end.
    pub const fn end(&self, end: EndId) -> &EndCounters {
        &self.ends[end.index()]
    }

    /// Counts one frame that came from `from` and was dropped for `reason`.
    pub fn drop_frame(&self, from: EndId, reason: DropReason) {
        self.drops[from.index()][reason.index()].fetch_add(1, Relaxed);
    }

    /// Frames that came from `from` and were dropped for `reason`.
    pub fn drops(&self, from: EndId, reason: DropReason) -> u64 {
        self.drops[from.index()][reason.index()].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_is_up_while_it_is_at_any_worker() {
        let end = EndCounters::default();
        assert!(!end.set_up(0, false));
        assert!(end.set_up(0, true));
        assert!(!end.set_up(7, true));
        assert!(!end.set_up(0, false));
        assert!(end.is_up());
        assert!(end.set_up(7, false));
        assert!(!end.is_up());
    }
}
