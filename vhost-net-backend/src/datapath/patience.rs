//! How long frames of an end wait for receive buffers of the other, each queue pair for itself: a
//! pair that finds none for long loses its frames, and another that waits for a moment does not.

use std::time::{Duration, Instant};

use super::carry::Turn;
use super::command::MAX_PAIRS;

/// The longest they wait before they are dropped. A driver that is a little late loses nothing; one
/// that offers no buffers holds its peer's pair up for this long once.
pub const LONGEST: Duration = Duration::from_millis(1);

/// Since when the frames of each pair wait.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    since: [Option<Instant>; MAX_PAIRS],
}

impl Patience {
    /// Whether frames of a pair may wait. Those of a pair that does not exist may not.
    pub fn may_wait(&self, pair: usize, now: Instant) -> bool {
        self.since.get(pair).is_some_and(|since| since.is_none_or(|since| is_short(since, now)))
    }

    /// Takes note of what a turn of a pair did.
    pub fn note(&mut self, pair: usize, turn: &Turn, now: Instant) {
        let Some(since) = self.since.get_mut(pair) else {
            return;
        };
        if turn.delivered > 0 {
            *since = None;
        }
        if turn.starved {
            since.get_or_insert(now);
        }
    }

    /// Whether frames of any pair wait, and may.
    pub fn is_waiting(&self, now: Instant) -> bool {
        self.since.iter().flatten().any(|since| is_short(*since, now))
    }
}

fn is_short(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARVED: Turn = Turn { frames: 0, delivered: 0, starved: true };
    const DELIVERED: Turn = Turn { frames: 1, delivered: 1, starved: false };
    const BOTH: Turn = Turn { frames: 1, delivered: 1, starved: true };

    #[test]
    fn frames_wait_so_long_and_no_longer() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        assert!(patience.may_wait(0, start) && !patience.is_waiting(start));
        patience.note(0, &STARVED, start);
        let later = start + LONGEST / 2;
        patience.note(0, &STARVED, later);
        assert!(patience.may_wait(0, later) && patience.is_waiting(later));
        let end = start + LONGEST;
        assert!(!patience.may_wait(0, end) && !patience.is_waiting(end));
        // What goes through begins the wait anew.
        patience.note(0, &BOTH, end);
        assert!(patience.may_wait(0, end) && patience.is_waiting(end));
        patience.note(0, &DELIVERED, end);
        assert!(patience.may_wait(0, end) && !patience.is_waiting(end));
    }

    #[test]
    fn pair_without_buffers_takes_no_patience_from_the_others() {
        let (mut patience, start) = (Patience::default(), Instant::now());
        patience.note(0, &STARVED, start);
        let end = start + LONGEST;
        assert!(!patience.may_wait(0, end));
        for pair in 1..MAX_PAIRS {
            assert!(patience.may_wait(pair, end), "pair {pair}");
        }
        patience.note(1, &STARVED, end);
        assert!(patience.is_waiting(end) && patience.may_wait(1, end + LONGEST / 2));
        // And what one delivers is no patience for another.
        patience.note(2, &DELIVERED, end);
        assert!(!patience.may_wait(0, end));
        assert!(!patience.may_wait(MAX_PAIRS, end));
    }
}
