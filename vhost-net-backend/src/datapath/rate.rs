//! Token buckets: how much one direction of a link may carry.
//!
//! A bucket fills with its rate and holds its burst; what is carried is taken out of it. Levels are
//! exact, in billionths of a token, so that no sequence of small steps gains or loses any.

use super::drop_reason::DropReason;
use super::filter::Class;

const NANOSECONDS: u64 = 1_000_000_000;

/// Least burst of bytes: two of the longest GSO frames, so that every frame fits in a full bucket.
const BYTES_BURST_MIN: u64 = 2 * 65_550;
/// Least burst of frames: what a driver hands over at once.
const FRAMES_BURST_MIN: u64 = 256;

/// Group-addressed frames, ARP and neighbour discovery that pass in a second unless said otherwise.
/// A guest that starts and keeps its neighbours fresh sends some dozens.
pub const CONTROL_PER_SECOND: u64 = 1000;

/// A rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Tokens a second.
    pub per_second: u64,
    /// Tokens that a bucket holds.
    pub burst: u64,
}

impl Limit {
    /// So many bytes a second, and a burst of a tenth of a second.
    pub const fn bytes(per_second: u64) -> Self {
        Self::with_burst(per_second, BYTES_BURST_MIN)
    }

    /// So many frames a second, and a burst of a tenth of a second. A GSO frame is one frame.
    pub const fn frames(per_second: u64) -> Self {
        Self::with_burst(per_second, FRAMES_BURST_MIN)
    }

    /// So many control frames a second, and a burst of one second.
    pub const fn control(per_second: u64) -> Self {
        Self { per_second, burst: per_second }
    }

    const fn with_burst(per_second: u64, least: u64) -> Self {
        let tenth = per_second / 10;
        Self { per_second, burst: if tenth > least { tenth } else { least } }
    }
}

/// What one direction may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, Ethernet headers included; `None`: any number.
    pub bytes: Option<Limit>,
    /// Frames; `None`: any number.
    pub frames: Option<Limit>,
    /// Frames of [`Class::Control`], which count as frames too. Each worker has a bucket of its
    /// own for them.
    pub control: Limit,
}

impl Default for Limits {
    /// Only control frames are limited, to [`CONTROL_PER_SECOND`].
    fn default() -> Self {
        Self { bytes: None, frames: None, control: Limit::control(CONTROL_PER_SECOND) }
    }
}

impl Limits {
    /// Whether data frames are limited too.
    pub const fn is_limited(&self) -> bool {
        self.bytes.is_some() || self.frames.is_some()
    }
}

/// The buckets of one direction, full at first.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Whether data frames need no look at a bucket.
    unlimited: bool,
    bytes: Option<Bucket>,
    frames: Option<Bucket>,
    control: Bucket,
}

impl Rates {
    /// Full buckets with these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            unlimited: !limits.is_limited(),
            bytes: limits.bytes.map(Bucket::new),
            frames: limits.frames.map(Bucket::new),
            control: Bucket::new(limits.control),
        }
    }

    /// Whether data frames are not limited.
    #[inline]
    pub const fn is_unlimited(&self) -> bool {
        self.unlimited
    }

    /// Takes what a frame of `bytes` bytes costs at `now` (ns), or nothing if a bucket has too
    /// little. A `now` before an earlier one counts as that one.
    #[inline]
    pub fn take(&mut self, class: Class, bytes: usize, now: u64) -> Result<(), DropReason> {
        if self.unlimited && class == Class::Data {
            return Ok(());
        }
        self.take_limited(class, bytes, now)
    }

    /// Undoes a [`Rates::take`] for a frame that could not be delivered after all. It may be judged
    /// again later, and is not to be charged twice.
    pub fn give_back(&mut self, class: Class, bytes: usize) {
        if class == Class::Control {
            self.control.give_back(1);
        }
        if let Some(frames) = &mut self.frames {
            frames.give_back(1);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.give_back(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    fn take_limited(&mut self, class: Class, bytes: usize, now: u64) -> Result<(), DropReason> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let control = (class == Class::Control).then_some(&mut self.control);
        let mut wanted = [
            (control, 1, DropReason::RateControl),
            (self.frames.as_mut(), 1, DropReason::RateFrames),
            (self.bytes.as_mut(), bytes, DropReason::RateBytes),
        ];
        for (bucket, tokens, reason) in &mut wanted {
            if let Some(bucket) = bucket
                && !bucket.has(*tokens, now)
            {
                return Err(*reason);
            }
        }
        for (bucket, tokens, _) in &mut wanted {
            if let Some(bucket) = bucket {
                bucket.take(*tokens);
            }
        }
        Ok(())
    }
}

/// One bucket.
#[derive(Clone, Debug)]
struct Bucket {
    per_second: u64,
    /// Billionths of a token: now, and when full. The product of two u64 always fits.
    level: u128,
    full: u128,
    /// When the level was brought up to date, ns.
    at: u64,
}

impl Bucket {
    fn new(limit: Limit) -> Self {
        let full = cost(limit.burst);
        Self { per_second: limit.per_second, level: full, full, at: 0 }
    }

    /// Fills up to `now`; whether there are that many tokens.
    fn has(&mut self, tokens: u64, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let gained = u128::from(elapsed) * u128::from(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.full);
        self.level >= cost(tokens)
    }

    fn take(&mut self, tokens: u64) {
        self.level = self.level.saturating_sub(cost(tokens));
    }

    fn give_back(&mut self, tokens: u64) {
        self.level = self.level.saturating_add(cost(tokens)).min(self.full);
    }
}

/// Billionths of a token in `tokens` tokens.
fn cost(tokens: u64) -> u128 {
    u128::from(tokens) * u128::from(NANOSECONDS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = NANOSECONDS;

    #[test]
    fn data_is_unlimited_and_control_is_not() {
        let mut rates = Rates::new(&Limits::default());
        for _ in 0..5000 {
            assert_eq!(rates.take(Class::Data, 65_549, 0), Ok(()));
        }
        for _ in 0..1000 {
            assert_eq!(rates.take(Class::Control, 60, 0), Ok(()));
        }
        assert_eq!(rates.take(Class::Control, 60, 0), Err(DropReason::RateControl));
        assert_eq!(rates.take(Class::Data, 60, 0), Ok(()));
        // A thousandth of a second later there is one more, not two.
        assert_eq!(rates.take(Class::Control, 60, SECOND / 1000), Ok(()));
        assert_eq!(rates.take(Class::Control, 60, SECOND / 1000), Err(DropReason::RateControl));
    }

    #[test]
    fn each_limit_has_its_reason_and_a_refused_frame_costs_nothing() {
        let limits = Limits {
            bytes: Some(Limit { per_second: 1000, burst: 1500 }),
            frames: Some(Limit { per_second: 10, burst: 3 }),
            ..Limits::default()
        };
        let mut rates = Rates::new(&limits);
        assert_eq!(rates.take(Class::Data, 1501, 0), Err(DropReason::RateBytes));
        assert_eq!(rates.take(Class::Data, 1000, 0), Ok(()));
        assert_eq!(rates.take(Class::Data, 501, 0), Err(DropReason::RateBytes));
        assert_eq!(rates.take(Class::Data, 500, 0), Ok(()));
        assert_eq!(rates.take(Class::Control, 0, 0), Ok(()));
        assert_eq!(rates.take(Class::Data, 0, 0), Err(DropReason::RateFrames));
        assert_eq!(rates.take(Class::Data, 100, SECOND / 10), Ok(()));
        assert_eq!(rates.take(Class::Data, 1, SECOND / 10), Err(DropReason::RateFrames));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let limit = Limit { per_second: 0, burst: 2 };
        let bytes = Some(Limit { per_second: 0, burst: 200 });
        let limits = Limits { bytes, frames: Some(limit), control: limit };
        let mut rates = Rates::new(&limits);
        for _ in 0..1000 {
            assert_eq!(rates.take(Class::Control, 100, 0), Ok(()));
            rates.give_back(Class::Control, 100);
        }
        assert_eq!(rates.take(Class::Control, 100, 0), Ok(()));
        assert_eq!(rates.take(Class::Control, 100, 0), Ok(()));
        assert_eq!(rates.take(Class::Data, 0, 0), Err(DropReason::RateFrames));
        // A bucket does not overflow.
        for _ in 0..9 {
            rates.give_back(Class::Control, usize::MAX);
        }
        assert_eq!(rates.take(Class::Data, 201, 0), Err(DropReason::RateBytes));
    }

    #[test]
    fn declared_limits_let_the_longest_frame_through() {
        for per_second in [1, 1000, u64::MAX] {
            let limits = Limits { bytes: Some(Limit::bytes(per_second)), ..Limits::default() };
            assert_eq!(Rates::new(&limits).take(Class::Data, 65_549, 0), Ok(()));
        }
    }

    /// Frames carried, as a list; slow and obvious.
    struct Model {
        limit: Limit,
        carried: Vec<(u64, u64)>,
    }

    impl Model {
        /// In no stretch of time that ends now may be more than the burst and what the rate adds
        /// in it.
        fn take(&mut self, tokens: u64, now: u64) -> bool {
            let starts = self.carried.iter().map(|(at, _)| *at).chain([now]);
            let fits = |start: u64| {
                let stretch = self.carried.iter().filter(|(at, _)| *at >= start);
                let sum: u128 = stretch.map(|(_, tokens)| u128::from(*tokens)).sum();
                let billion = u128::from(NANOSECONDS);
                let gained = u128::from(now - start) * u128::from(self.limit.per_second);
                (sum + u128::from(tokens)) * billion
                    <= gained.saturating_add(u128::from(self.limit.burst) * billion)
            };
            let fits = starts.into_iter().all(fits);
            if fits {
                self.carried.push((now, tokens));
            }
            fits
        }
    }

    /// Small numbers and the largest.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..10_u64, 0..5000_u64, any::<u64>(), u64::MAX - 5..=u64::MAX]
    }

    proptest! {
        #[test]
        fn bucket_equals_the_model(
            per_second in number(),
            burst in number(),
            frames in proptest::collection::vec((number(), number()), 1..60),
        ) {
            let limit = Limit { per_second, burst };
            let mut bucket = Bucket::new(limit);
            let mut model = Model { limit, carried: Vec::new() };
            let mut now = 0_u64;
            for (tokens, pause) in frames {
                now = now.saturating_add(pause);
                let has = bucket.has(tokens, now);
                if has {
                    bucket.take(tokens);
                }
                prop_assert_eq!(has, model.take(tokens, now));
            }
        }

        #[test]
        fn times_that_go_back_never_panic_nor_gain(
            limit in number(),
            frames in proptest::collection::vec((any::<usize>(), any::<bool>(), number()), 1..60),
        ) {
            let bytes = Some(Limit::bytes(limit));
            let frame_limit = Some(Limit::frames(limit));
            let control = Limit::control(limit);
            let mut rates = Rates::new(&Limits { bytes, frames: frame_limit, control });
            for (bytes, control, now) in frames {
                let class = if control { Class::Control } else { Class::Data };
                let _ = rates.take(class, bytes, now);
                let bucket = &rates.control;
                prop_assert!(bucket.level <= bucket.full);
            }
        }
    }
}
