//! How long the worker looks for frames by itself before it goes to sleep.

use std::time::{Duration, Instant};

/// The longest it looks in vain.
const LONGEST: Duration = Duration::from_micros(50);
/// The shortest worth it.
const SHORTEST: Duration = Duration::from_micros(4);

/// A window that grows while frames come soon after one another, and shrinks to nothing while they
/// do not: a link with little traffic sleeps between frames, an idle one always.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    window: Duration,
    /// Since when there have been no frames.
    since: Option<Instant>,
}

impl Pause {
    /// There were frames.
    pub const fn reset(&mut self) {
        self.since = None;
    }

    /// Whether the pause has been too short to go to sleep.
    pub fn is_short(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(*self.since.get_or_insert(now)) < self.window
    }

    /// The worker slept this long. Had it looked on for as long, it would have met the frames.
    pub fn slept(&mut self, time: Duration) {
        self.since = None;
        self.window = if time < LONGEST {
            (self.window * 2).clamp(SHORTEST, LONGEST)
        } else {
            let half = self.window / 2;
            if half < SHORTEST { Duration::ZERO } else { half }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_grows_with_short_sleeps_and_vanishes_with_long_ones() {
        let mut pause = Pause::default();
        let now = Instant::now();
        assert!(!pause.is_short(now), "an idle link does not look on");
        for _ in 0..10 {
            pause.slept(Duration::from_micros(10));
        }
        assert!(pause.is_short(now));
        assert!(pause.is_short(now + Duration::from_micros(49)));
        assert!(!pause.is_short(now + LONGEST));
        pause.reset();
        assert!(pause.is_short(now + LONGEST), "frames came");
        for _ in 0..10 {
            pause.slept(Duration::from_millis(10));
        }
        assert!(!pause.is_short(now));
    }
}
