//! How long events took that took long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::records::UnixMillis;

/// Samples kept of each event (Redis: `LATENCY_TS_LEN`).
const SAMPLES_MAX: usize = 160;

/// The worst that one event took within one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub time_s: u64,
    /// Milliseconds.
    pub millis: u64,
}

/// What is known of one event.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Samples, the oldest first; never empty.
    pub samples: VecDeque<Sample>,
    /// The longest since the last reset, in milliseconds.
    pub max_ms: u64,
}

/// The events that took long.
#[derive(Debug, Default)]
pub struct LatencyMonitor(Mutex<BTreeMap<&'static str, Series>>);

impl LatencyMonitor {
    /// Adds a sample. Samples of one second become one: the worst.
    pub fn add(&self, event: &'static str, millis: u64, now: UnixMillis) {
        let time_s = now.0 / 1000;
        let mut events = self.lock();
        let series = events.entry(event).or_default();
        series.max_ms = series.max_ms.max(millis);
        if let Some(last) = series.samples.back_mut().filter(|last| last.time_s == time_s) {
            last.millis = last.millis.max(millis);
            return;
        }
        if series.samples.len() == SAMPLES_MAX {
            series.samples.pop_front();
        }
        series.samples.push_back(Sample { time_s, millis });
    }

    /// Returns all events.
    pub fn all(&self) -> Vec<(&'static str, Series)> {
        self.lock().iter().map(|(event, series)| (*event, series.clone())).collect()
    }

    /// Returns the samples of an event, the oldest first.
    pub fn samples(&self, event: &str) -> Vec<Sample> {
        let events = self.lock();
        events.get(event).map(|series| series.samples.iter().copied().collect()).unwrap_or_default()
    }

    /// Forgets an event, or all. Returns how many there were.
    pub fn reset(&self, event: Option<&str>) -> usize {
        let mut events = self.lock();
        match event {
            Some(event) => usize::from(events.remove(event).is_some()),
            None => std::mem::take(&mut *events).len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_second_become_the_worst_of_them() {
        let monitor = LatencyMonitor::default();
        for (millis, now) in [(5, 1000), (9, 1900), (7, 1999), (3, 2000)] {
            monitor.add("command", millis, UnixMillis(now));
        }
        let samples = monitor.samples("command");
        assert_eq!(samples, [Sample { time_s: 1, millis: 9 }, Sample { time_s: 2, millis: 3 }]);
        assert_eq!(monitor.all()[0].1.max_ms, 9);
        assert_eq!((monitor.reset(Some("nosuch")), monitor.reset(None)), (0, 1));
        assert!(monitor.samples("command").is_empty());
    }

    #[test]
    fn old_samples_make_room() {
        let monitor = LatencyMonitor::default();
        for second in 0..500 {
            monitor.add("command", 1, UnixMillis(second * 1000));
        }
        let samples = monitor.samples("command");
        assert_eq!((samples.len(), samples[0].time_s), (SAMPLES_MAX, 500 - SAMPLES_MAX as u64));
    }
}
