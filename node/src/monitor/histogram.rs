//! How the times of a command are distributed, by powers of two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// Buckets of a histogram: from under 64 raw clock steps, which is nothing, to minutes.
const BUCKETS: usize = 32;
/// Bits of the longest time in the first bucket.
const FIRST_BITS: u32 = 6;
/// Upper bound of Redis's first bucket, in nanoseconds; that of each next one is twice as much.
const BOUND_FIRST_NS: u64 = 1024;
/// Number of Redis's buckets; the last one ends at a second, and has what took longer as well.
const BOUNDS: usize = 21;

/// Counts of times. Costs one increment a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

/// A histogram that all threads may add to.
#[derive(Debug, Default)]
pub struct SharedHistogram([AtomicU64; BUCKETS]);

#[inline]
fn bucket_of(raw_ticks: u64) -> usize {
    let bits = u64::BITS - raw_ticks.leading_zeros();
    (bits.saturating_sub(FIRST_BITS) as usize).min(BUCKETS - 1)
}

/// The time that stands for all those in a bucket: the middle of it.
fn time_of(bucket: usize) -> Duration {
    clock::duration_of((1 << (bucket as u32 + FIRST_BITS)) / 4 * 3)
}

/// The longest time that Redis's histogram does not tell from the bound: it has two digits.
fn bound_ns(number: usize) -> u64 {
    let bound = BOUND_FIRST_NS << number;
    bound + bound / 128 - 1
}

impl Histogram {
    /// Adds a time in raw clock steps.
    #[inline]
    pub fn add(&mut self, raw_ticks: u64) {
        self.0[bucket_of(raw_ticks)] += 1;
    }

    /// Adds the times of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    /// Number of times.
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many times were no longer than a bound in microseconds, at those bounds where there
    /// are more of them than at the bound before.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut counts = [0; BOUNDS];
        for (bucket, count) in self.0.iter().enumerate() {
            let nanos = time_of(bucket).as_nanos();
            let at = (0..BOUNDS).find(|&number| nanos <= u128::from(bound_ns(number)));
            counts[at.unwrap_or(BOUNDS - 1)] += count;
        }
        let mut sum = 0;
        let mut cumulative = Vec::new();
        for (number, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            sum += count;
            cumulative.push((bound_ns(number) / 1000, sum));
        }
        cumulative
    }

    /// The time that `percent` of the times do not exceed; zero where there are none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let wanted = (self.count() as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut sum = 0;
        let found = self.0.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        found.map_or(Duration::ZERO, time_of)
    }
}

impl SharedHistogram {
    /// Adds a time in raw clock steps.
    pub fn add(&self, raw_ticks: u64) {
        self.0[bucket_of(raw_ticks)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts.
    pub fn get(&self) -> Histogram {
        Histogram(std::array::from_fn(|bucket| self.0[bucket].load(Ordering::Relaxed)))
    }

    /// Forgets the counts.
    pub fn reset(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_redis() {
        let bounds: Vec<u64> = (0..11).map(|number| bound_ns(number) / 1000).collect();
        assert_eq!(bounds, [1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056]);
    }

    #[test]
    fn times_are_found_again_within_a_factor_of_two() {
        let mut histogram = Histogram::default();
        let shared = SharedHistogram::default();
        for (micros, times) in [(3, 90), (700, 9), (50_000, 1)] {
            for _ in 0..times {
                histogram.add(clock::raw_of(Duration::from_micros(micros)));
                shared.add(clock::raw_of(Duration::from_micros(micros)));
            }
        }
        assert_eq!(shared.get(), histogram);
        for (percent, micros) in [(50.0, 3), (90.0, 3), (99.0, 700), (99.9, 50_000)] {
            let found = histogram.percentile(percent).as_nanos() as f64 / 1000.0;
            assert!((0.5..=2.0).contains(&(found / f64::from(micros))), "{percent}: {found}");
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative.iter().map(|at| at.1).collect::<Vec<_>>(), [90, 99, 100]);
        for (&(bound, _), micros) in cumulative.iter().zip([3, 700, 50_000]) {
            assert!(bound >= micros / 2 && bound <= micros * 4, "{bound} for {micros}");
        }
        shared.reset();
        assert_eq!(shared.get().count(), 0);
    }

    #[test]
    fn the_shortest_and_the_longest_time_have_a_bucket() {
        let mut histogram = Histogram::default();
        histogram.add(0);
        histogram.add(u64::MAX);
        histogram.merge(&histogram.clone());
        assert_eq!(histogram.cumulative(), [(1, 2), (bound_ns(BOUNDS - 1) / 1000, 4)]);
        assert_eq!(Histogram::default().percentile(50.0), Duration::ZERO);
    }
}
