//! Counters of connections, cheap enough for the request path: each thread has its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::command::CommandError;
use crate::monitor::histogram::SharedHistogram;

/// Different error codes that are told apart; a client that invents codes fills no memory.
const ERROR_CODES_MAX: usize = 128;

/// A number that one thread changes and all read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only ever called on the thread that owns the counter.
    #[inline]
    pub fn add(&self, more: u64) {
        // A load and a store cost a fraction of an atomic addition, and with one writer
        // nothing can come between them.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the connections of one thread count, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ThreadCounters {
    /// Commands, refused ones included.
    pub commands: Counter,
    /// Bytes read.
    pub input_bytes: Counter,
    /// Bytes written.
    pub output_bytes: Counter,
}

/// Sums over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commands, refused ones included.
    pub commands: u64,
    /// Bytes read.
    pub input_bytes: u64,
    /// Bytes written.
    pub output_bytes: u64,
}

/// What the connections of a node count.
#[derive(Debug)]
pub struct Counters {
    threads: Box<[ThreadCounters]>,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: AtomicU64,
    /// Clients closed because they did not read their replies.
    pub output_limit_closed: AtomicU64,
    /// Clients closed because their requests were too large for their buffer.
    pub input_limit_closed: AtomicU64,
    /// What is subtracted since `CONFIG RESETSTAT`.
    base: Mutex<Totals>,
    rate: Mutex<Rate>,
}

/// Figures a second, as the last second had them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// The totals when it was measured.
    last: Totals,
    /// Differences between the two last measurements.
    pub per_second: Totals,
}

impl Counters {
    /// Returns the counters of so many threads.
    pub fn new(threads: usize) -> Self {
        Counters {
            threads: (0..threads.max(1)).map(|_| ThreadCounters::default()).collect(),
            connections: AtomicU64::new(0),
            rejected_connections: AtomicU64::new(0),
            output_limit_closed: AtomicU64::new(0),
            input_limit_closed: AtomicU64::new(0),
            base: Mutex::default(),
            rate: Mutex::default(),
        }
    }

    /// The counters that only thread `index` may change.
    #[inline]
    pub fn of_thread(&self, index: usize) -> &ThreadCounters {
        &self.threads[index]
    }

    /// Sums since the start or the last reset.
    pub fn totals(&self) -> Totals {
        let base = *self.base.lock().unwrap_or_else(PoisonError::into_inner);
        difference(self.all(), base)
    }

    /// Forgets what was counted (`CONFIG RESETSTAT`).
    pub fn reset(&self) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = self.all();
        for counter in [
            &self.connections,
            &self.rejected_connections,
            &self.output_limit_closed,
            &self.input_limit_closed,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Measures the rates; called once a second.
    pub fn measure(&self) {
        let now = self.all();
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        *rate = Rate { last: now, per_second: difference(now, rate.last) };
    }

    /// What the last second had.
    pub fn per_second(&self) -> Totals {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).per_second
    }

    fn all(&self) -> Totals {
        self.threads.iter().fold(Totals::default(), |sum, thread| Totals {
            commands: sum.commands + thread.commands.get(),
            input_bytes: sum.input_bytes + thread.input_bytes.get(),
            output_bytes: sum.output_bytes + thread.output_bytes.get(),
        })
    }
}

fn difference(now: Totals, before: Totals) -> Totals {
    Totals {
        commands: now.commands.saturating_sub(before.commands),
        input_bytes: now.input_bytes.saturating_sub(before.input_bytes),
        output_bytes: now.output_bytes.saturating_sub(before.output_bytes),
    }
}

/// Counters of one command on connections.
#[derive(Debug, Default)]
pub struct CommandCounter {
    /// Times it ran.
    pub calls: AtomicU64,
    /// Time it took, in raw steps of [`crate::clock::Ticks`].
    pub raw_ticks: AtomicU64,
    /// Times it was refused before it ran.
    pub rejected: AtomicU64,
    /// Times it answered with an error.
    pub failed: AtomicU64,
    /// How its times are distributed.
    pub times: SharedHistogram,
}

/// Counters of all commands, by index in the table: of those that run on connections, and of the
/// refusals of all. The shards count what they execute themselves.
#[derive(Debug)]
pub struct CommandCounters(Box<[CommandCounter]>);

impl CommandCounters {
    /// Returns the counters of so many commands.
    pub fn new(commands: usize) -> Self {
        CommandCounters((0..commands).map(|_| CommandCounter::default()).collect())
    }

    /// The counters of a command.
    pub fn of(&self, index: u16) -> &CommandCounter {
        &self.0[index as usize]
    }

    /// Counts an execution, and among its times if these are `tracked`.
    pub fn executed(&self, index: u16, raw_ticks: u64, failed: bool, tracked: bool) {
        let counter = self.of(index);
        counter.calls.fetch_add(1, Ordering::Relaxed);
        counter.raw_ticks.fetch_add(raw_ticks, Ordering::Relaxed);
        if tracked {
            counter.times.add(raw_ticks);
        }
        counter.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// Counts a refusal.
    pub fn rejected(&self, index: u16) {
        self.of(index).rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what was counted (`CONFIG RESETSTAT`).
    pub fn reset(&self) {
        for counter in &self.0 {
            for number in [&counter.calls, &counter.raw_ticks, &counter.rejected, &counter.failed] {
                number.store(0, Ordering::Relaxed);
            }
            counter.times.reset();
        }
    }
}

/// Errors by code.
#[derive(Debug, Default)]
pub struct ErrorCounters(Mutex<BTreeMap<String, u64>>);

impl ErrorCounters {
    /// Counts an error.
    pub fn count(&self, error: &CommandError) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count_error(&mut counts, error);
    }

    /// Returns the counts.
    pub fn get(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what was counted (`CONFIG RESETSTAT`).
    pub fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Counts an error by its code, in a map of bounded size.
pub fn count_error(counts: &mut BTreeMap<String, u64>, error: &CommandError) {
    let code = error.code();
    if counts.len() < ERROR_CODES_MAX || counts.contains_key(&code) {
        *counts.entry(code).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_begin_again_at_zero_after_a_reset_and_rates_go_on() {
        let counters = Counters::new(2);
        counters.of_thread(0).commands.add(3);
        counters.of_thread(1).commands.add(4);
        assert_eq!(counters.totals().commands, 7);
        counters.measure();
        assert_eq!(counters.per_second().commands, 7);
        counters.reset();
        assert_eq!(counters.totals(), Totals::default());
        counters.of_thread(1).commands.add(5);
        counters.measure();
        assert_eq!(counters.totals().commands, 5);
        assert_eq!(counters.per_second().commands, 5);
    }

    #[test]
    fn error_codes_are_bounded() {
        let errors = ErrorCounters::default();
        for number in 0..2 * ERROR_CODES_MAX {
            errors.count(&CommandError::Other(format!("CODE{number} text").into()));
        }
        errors.count(&CommandError::Other("CODE1 text".into()));
        assert_eq!(errors.get().len(), ERROR_CODES_MAX);
        assert_eq!(errors.get()["CODE1"], 2);
    }
}
