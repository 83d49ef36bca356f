//! How long the worker looks for frames by itself before it goes to sleep.

use std::time::{Duration, Instant};

/// The longest it looks in vain.
const LONGEST: Duration = Duration::from_micros(50);
/// The shortest worth it.
const SHORTEST: Duration = Duration::from_micros(4);

/// Sleeps without a look after others wanted the CPU.
const CROWDED: u32 = 64;

/// A window that grows while frames come soon after one another, and shrinks to nothing while they
/// do not: a link with little traffic sleeps between frames, an idle one always.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    window: Duration,
    /// Since when there have been no frames.
    since: Option<Instant>,
    /// How many more sleeps the window stays closed for.
    crowded: u32,
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

    /// The worker offered the CPU, and had it back after this long. If others took it, it does not
    /// look again for a while: a thread that yields goes to the end of the line (EEVDF takes what is
    /// left of its slice), and one that is woken goes to the front.
    pub fn yielded(&mut self, time: Duration) {
        if time >= LONGEST {
            self.window = Duration::ZERO;
            self.crowded = CROWDED;
        }
    }

    /// The worker slept this long. Had it looked on for as long, it would have met the frames.
    pub fn slept(&mut self, time: Duration) {
        self.since = None;
        if self.crowded > 0 {
            self.crowded -= 1;
            return;
        }
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

    #[test]
    fn window_stays_closed_while_others_want_the_cpu() {
        let mut pause = Pause::default();
        let now = Instant::now();
        pause.slept(Duration::from_micros(10));
        pause.yielded(Duration::from_micros(1));
        assert!(pause.is_short(now), "nobody else ran");
        pause.yielded(Duration::from_millis(3));
        for _ in 0..CROWDED {
            assert!(!pause.is_short(now));
            pause.slept(Duration::from_micros(10));
        }
        assert!(!pause.is_short(now));
        pause.slept(Duration::from_micros(10));
        assert!(pause.is_short(now), "it is tried again");
    }
}
