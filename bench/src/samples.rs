//! The arithmetic of measurements.

use std::time::Duration;

use serde::Serialize;

/// Percentiles of a number of durations, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many durations.
    pub count: usize,
    /// Half of them were at most this.
    pub p50_ns: u64,
    /// 99 in 100 were at most this.
    pub p99_ns: u64,
    /// 999 in 1000 were at most this.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Percentiles {
    /// Of these durations; none if there are none. The p-th percentile is the smallest of them that at least p in
    /// 100 do not exceed (nearest rank).
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let ns = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let rank = |per_mille: usize| {
            let rank = (durations.len() * per_mille).div_ceil(1000).max(1);
            durations.get(rank - 1).map(ns)
        };
        Some(Self {
            count: durations.len(),
            p50_ns: rank(500)?,
            p99_ns: rank(990)?,
            p999_ns: rank(999)?,
            max_ns: durations.last().map(ns)?,
        })
    }
}

/// The middle one of these numbers; of an even count the mean of the middle two. None of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values[middle - 1] + upper) / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: impl Iterator<Item = u64>) -> Percentiles {
        Percentiles::of(range.map(Duration::from_nanos).collect()).unwrap()
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let thousand = of((1..=1000).rev());
        assert_eq!((thousand.p50_ns, thousand.p99_ns, thousand.p999_ns), (500, 990, 999));
        assert_eq!((thousand.max_ns, thousand.count), (1000, 1000));
        let three = of([30, 10, 20].into_iter());
        assert_eq!((three.p50_ns, three.p99_ns, three.p999_ns), (20, 30, 30));
        let one = of(std::iter::once(7));
        assert_eq!((one.p50_ns, one.p99_ns, one.max_ns), (7, 7, 7));
    }

    #[test]
    fn percentiles_of_nothing_are_none() {
        assert_eq!(Percentiles::of(Vec::new()), None);
    }

    #[test]
    fn median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![9.0]), Some(9.0));
        assert_eq!(median(Vec::new()), None);
    }
}
