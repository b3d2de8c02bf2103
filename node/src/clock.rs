//! The only file that reads time or randomness.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::records::UnixMillis;

/// Returns the wall-clock time.
#[inline]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> UnixMillis {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMillis(since_epoch.unwrap_or(Duration::ZERO).as_millis() as u64)
}

/// Returns the wall-clock time in microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now_micros() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.unwrap_or(Duration::ZERO).as_micros() as u64
}

static TICKS: LazyLock<quanta::Clock> = LazyLock::new(quanta::Clock::new);

/// A point of monotonic time, cheap enough to be read once a command: the time-stamp counter where
/// the machine's is reliable (about 10 ns), or else `CLOCK_MONOTONIC`.
///
/// Both go on while the process is stopped or waits for a processor. While the whole machine is
/// suspended they may stand still, and the counter may even begin anew, so what must not outlast
/// that is measured with a [`Moment`] as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(u64);

impl Ticks {
    /// Reads the counter.
    #[inline]
    pub fn now() -> Self {
        Ticks(TICKS.raw())
    }

    /// Time from `earlier` to `self`; zero if that is later.
    pub fn since(self, earlier: Ticks) -> Duration {
        TICKS.delta(earlier.0, self.0)
    }

    /// The point that lies so much later.
    pub fn after(self, time: Duration) -> Ticks {
        Ticks(self.0.saturating_add(raw_of(time)))
    }

    /// The point before all others.
    pub const fn begin() -> Self {
        Ticks(0)
    }

    /// The point that never comes.
    pub const NEVER: Ticks = Ticks(u64::MAX);

    /// Raw counter steps from `earlier` to `self`, to be summed and converted later.
    #[inline]
    pub fn raw_since(self, earlier: Ticks) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A point of time on two clocks: [`Ticks`], and `CLOCK_BOOTTIME`, which goes on while the machine
/// is suspended and does not depend on how the counter was calibrated. For promises between nodes,
/// which are broken by a clock that stands still: whoever asks says which way to be wrong.
///
/// Read it once a message; it costs a few times what [`Ticks`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The point as shards compare it.
    pub ticks: Ticks,
    boot: Duration,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (boot.tv_sec.max(0) as u64, boot.tv_nsec.max(0) as u64);
        let boot = Duration::from_secs(seconds) + Duration::from_nanos(nanos);
        Moment { ticks: Ticks::now(), boot }
    }

    /// The point that lies so much later.
    pub fn after(self, time: Duration) -> Moment {
        Moment { ticks: self.ticks.after(time), boot: self.boot.saturating_add(time) }
    }

    /// Whether at least `time` has passed since `earlier` by at least one of the clocks.
    pub fn may_be_after(self, earlier: Moment, time: Duration) -> bool {
        self.ticks.since(earlier.ticks) >= time || self.boot.saturating_sub(earlier.boot) >= time
    }

    /// Whether at least `time` has passed since `earlier` by both clocks.
    pub fn is_after(self, earlier: Moment, time: Duration) -> bool {
        self.ticks.since(earlier.ticks) >= time && self.boot.saturating_sub(earlier.boot) >= time
    }
}

/// A point of time that one thread sets and others read.
#[derive(Debug)]
pub struct SharedTicks(AtomicU64);

impl SharedTicks {
    /// Returns the present, to begin with.
    pub fn now() -> Self {
        SharedTicks(AtomicU64::new(Ticks::now().0))
    }

    /// Returns this point, to begin with.
    pub fn at(point: Ticks) -> Self {
        SharedTicks(AtomicU64::new(point.0))
    }

    /// Sets the point.
    pub fn set(&self, point: Ticks) {
        self.0.store(point.0, Relaxed);
    }

    /// The point.
    #[inline]
    pub fn get(&self) -> Ticks {
        Ticks(self.0.load(Relaxed))
    }

    /// Sets the point to the present.
    #[inline]
    pub fn touch(&self) {
        self.0.store(Ticks::now().0, Relaxed);
    }

    /// Time since the point.
    pub fn elapsed(&self) -> Duration {
        Ticks::now().since(Ticks(self.0.load(Relaxed)))
    }
}

/// Converts a sum of raw counter steps to time.
pub fn duration_of(raw: u64) -> Duration {
    TICKS.delta(0, raw)
}

/// Converts a time to raw counter steps.
pub fn raw_of(time: Duration) -> u64 {
    // Long enough that the rounding to nanoseconds does not matter.
    const STEPS: u64 = 1 << 32;
    let nanos_per_step = duration_of(STEPS).as_nanos() as f64 / STEPS as f64;
    (time.as_nanos() as f64 / nanos_per_step) as u64
}

/// Returns 64 unpredictable bits, from the operating system's randomness.
pub fn random_seed() -> u64 {
    // Every `RandomState` has fresh keys.
    RandomState::new().hash_one(now_micros())
}

/// Returns 256 random bits from the operating system, fit for cryptography.
///
/// # Errors
/// The system has none: its kernel is older than Linux 3.17.
pub fn nonce() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    // The system never gives less of so few bytes.
    if filled < bytes.len() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// Waits.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until a point of time.
pub async fn sleep_until(point: Ticks) {
    sleep(point.since(Ticks::now())).await;
}

/// Waits for a future, at most so long if there is a limit; `None` when the time is over.
pub async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        None => Some(future.await),
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counter_steps_are_converted_both_ways() {
        assert_eq!(raw_of(Duration::ZERO), 0);
        for micros in [1, 10_000, 1_000_000, 3_600_000_000] {
            let time = Duration::from_micros(micros);
            let back = duration_of(raw_of(time));
            assert!(time.abs_diff(back) <= time / 1000 + Duration::from_nanos(10), "{back:?}");
        }
    }
}
