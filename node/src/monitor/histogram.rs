//! How the times of a command are distributed.
//!
//! Buckets are log-linear, as in an HDR histogram with few digits: each power of two has
//! eight of them, so a time is known up to an eighth of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// Buckets of each power of two.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 3;
/// Bits of the times below which all buckets are of one size: 64 raw clock steps are nothing.
const FIRST_BITS: u32 = 6;
/// Bits of the longest time that has a bucket of its own: minutes.
const LAST_BITS: u32 = 38;
const BUCKETS: usize = (LAST_BITS - FIRST_BITS + 1) as usize * PARTS;
/// Upper bound of Redis's first bucket, in nanoseconds; that of each next one is twice as much.
const BOUND_FIRST_NS: u64 = 1024;
/// Number of Redis's buckets; the last one ends at a second, and has what took longer as well.
const BOUNDS: usize = 21;

/// Counts of times. Costs two additions a time, and 2 KiB once there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Option<Box<[u64; BUCKETS]>>,
    /// Sum of the times, in raw clock steps.
    raw_sum: u64,
}

/// A histogram that all threads may add to.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    counts: OnceLock<Box<[AtomicU64; BUCKETS]>>,
    raw_sum: AtomicU64,
}

#[inline]
fn bucket_of(raw_ticks: u64) -> usize {
    let bits = (u64::BITS - raw_ticks.leading_zeros()).max(FIRST_BITS);
    if bits > LAST_BITS {
        return BUCKETS - 1;
    }
    // The bits behind the first one, which only those in the first power of two may lack.
    let shift = if bits == FIRST_BITS { FIRST_BITS - PART_BITS } else { bits - 1 - PART_BITS };
    let part = (raw_ticks >> shift) as usize % PARTS;
    (bits - FIRST_BITS) as usize * PARTS + part
}

/// The longest time of a bucket.
fn time_of(bucket: usize) -> Duration {
    let (power, part) = (bucket / PARTS, bucket as u64 % PARTS as u64);
    let end = if power == 0 {
        (part + 1) << (FIRST_BITS - PART_BITS)
    } else {
        (PARTS as u64 + part + 1) << (power as u32 + FIRST_BITS - 1 - PART_BITS)
    };
    clock::duration_of(end)
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
        self.counts.get_or_insert_with(|| Box::new([0; BUCKETS]))[bucket_of(raw_ticks)] += 1;
        self.raw_sum = self.raw_sum.wrapping_add(raw_ticks);
    }

    /// Adds the times of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        let Some(more) = &other.counts else { return };
        match &mut self.counts {
            Some(counts) => counts.iter_mut().zip(more.iter()).for_each(|(sum, n)| *sum += n),
            None => self.counts = Some(more.clone()),
        }
        self.raw_sum = self.raw_sum.wrapping_add(other.raw_sum);
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().flat_map(|counts| counts.iter().copied())
    }

    /// Sum of the times.
    pub fn sum(&self) -> Duration {
        clock::duration_of(self.raw_sum)
    }

    /// Number of times.
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// How many times there are up to each of Redis's bounds and above the one before; at last,
    /// those that took longer than all bounds.
    fn by_bounds(&self) -> [u64; BOUNDS + 1] {
        let mut sums = [0; BOUNDS + 1];
        for (bucket, count) in self.counts().enumerate().filter(|(_, count)| *count > 0) {
            let nanos = time_of(bucket).as_nanos();
            let at = (0..BOUNDS).find(|&number| nanos <= u128::from(bound_ns(number)));
            sums[at.unwrap_or(BOUNDS)] += count;
        }
        sums
    }

    /// How many times were no longer than a bound in microseconds, at those bounds where there
    /// are more of them than at the bound before.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut counts = self.by_bounds();
        counts[BOUNDS - 1] += counts[BOUNDS];
        let mut sum = 0;
        let mut cumulative = Vec::new();
        for (number, &count) in counts[..BOUNDS].iter().enumerate().filter(|(_, n)| **n > 0) {
            sum += count;
            cumulative.push((bound_ns(number) / 1000, sum));
        }
        cumulative
    }

    /// How many times were no longer than each of the bounds, which are the same ones for all
    /// histograms: from a microsecond to a second.
    pub fn up_to_bounds(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counts = self.by_bounds();
        let sums = counts.into_iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        (0..BOUNDS).map(|number| Duration::from_nanos(bound_ns(number))).zip(sums)
    }

    /// A time that `percent` of the times do not exceed, and at most an eighth more than the
    /// shortest such time; zero where there are none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let wanted = (self.count() as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut sum = 0;
        let found = self.counts().position(|count| {
            sum += count;
            sum >= wanted
        });
        found.map_or(Duration::ZERO, time_of)
    }
}

impl SharedHistogram {
    /// Adds a time in raw clock steps.
    pub fn add(&self, raw_ticks: u64) {
        let counts = self.counts.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]));
        counts[bucket_of(raw_ticks)].fetch_add(1, Ordering::Relaxed);
        self.raw_sum.fetch_add(raw_ticks, Ordering::Relaxed);
    }

    /// Returns the counts.
    pub fn get(&self) -> Histogram {
        let read = |counts: &[AtomicU64; BUCKETS]| {
            std::array::from_fn(|bucket| counts[bucket].load(Ordering::Relaxed))
        };
        Histogram {
            counts: self.counts.get().map(|counts| Box::new(read(counts))),
            raw_sum: self.raw_sum.load(Ordering::Relaxed),
        }
    }

    /// Forgets the counts.
    pub fn reset(&self) {
        let counts = self.counts.get().into_iter().flat_map(|counts| counts.iter());
        counts.for_each(|count| count.store(0, Ordering::Relaxed));
        self.raw_sum.store(0, Ordering::Relaxed);
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
    fn a_bucket_has_the_times_that_it_says() {
        let mut last = 0;
        for raw_ticks in (0..5000).chain((0..30).map(|bits| (1 << bits) + (1 << bits) / 3)) {
            let bucket = bucket_of(raw_ticks);
            let time = clock::duration_of(raw_ticks);
            assert!(time <= time_of(bucket), "{raw_ticks} in {bucket}");
            assert!(bucket == 0 || time >= time_of(bucket - 1), "{raw_ticks} in {bucket}");
        }
        for raw_ticks in 0..5000 {
            let bucket = bucket_of(raw_ticks);
            assert!(bucket == last || bucket == last + 1, "{raw_ticks} in {bucket}");
            last = bucket;
        }
        assert_eq!(bucket_of((1 << LAST_BITS) - 1), BUCKETS - 1);
    }

    #[test]
    fn times_are_found_again_within_an_eighth() {
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
            assert!((0.999..=1.126).contains(&(found / f64::from(micros))), "{percent}: {found}");
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative.iter().map(|at| at.1).collect::<Vec<_>>(), [90, 99, 100]);
        for (&(bound, _), micros) in cumulative.iter().zip([3, 700, 50_000]) {
            assert!(bound >= micros && bound <= micros * 5 / 2, "{bound} for {micros}");
        }
        let within = |limit| {
            let within = |&(bound, _): &(Duration, u64)| bound <= Duration::from_micros(limit);
            histogram.up_to_bounds().filter(within).last().unwrap().1
        };
        assert_eq!(histogram.up_to_bounds().count(), BOUNDS);
        assert_eq!(
            [within(2), within(5), within(600), within(40_000), within(2_000_000)],
            [0, 90, 90, 99, 100]
        );
        shared.reset();
        assert_eq!((shared.get().count(), shared.get().sum()), (0, Duration::ZERO));
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
