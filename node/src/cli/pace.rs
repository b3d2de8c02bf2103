//! How long it takes still, if it goes on as it did.

use std::time::Duration;

use crate::clock::Ticks;

/// What was left when it was first looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    since: Ticks,
    partitions: u64,
    bytes: u64,
}

impl Pace {
    /// Begins with what is left now.
    pub(super) fn new(now: Ticks, partitions: u64, bytes: u64) -> Self {
        Pace { since: now, partitions, bytes }
    }

    /// Returns how long it takes until nothing is left. A move costs something whatever it
    /// carries, and every byte costs something: whichever of the two lasts longer counts. `None`
    /// while nothing has been done that tells.
    pub(super) fn eta(&self, now: Ticks, partitions: u64, bytes: u64) -> Option<Duration> {
        if partitions == 0 {
            return Some(Duration::ZERO);
        }
        let seconds = now.since(self.since).as_secs_f64();
        let rest = |begun: u64, left: u64| {
            let done = begun.checked_sub(left).filter(|done| *done > 0)?;
            Some(seconds * left as f64 / done as f64)
        };
        let by_partitions = rest(self.partitions, partitions)?;
        let by_bytes = rest(self.bytes, bytes).unwrap_or(0.0);
        Duration::try_from_secs_f64(by_partitions.max(by_bytes)).ok()
    }
}
