//! How long a sync waits for company, under `always`.
//!
//! The clients that a sync has released come back while the next one is under way, so that there
//! are two groups which take turns: each reply waits for two syncs, and each sync serves half of
//! the clients. Where a sync takes longer than they need to come back, it is better to begin the
//! next one when all of them wait. (The idea of PostgreSQL's `commit_delay`; here the time follows
//! from the disk's, and the number of those who are waited for from who waited last.)
//!
//! As many as waited when a sync ended are expected: those it released, and those who came
//! meanwhile. The next sync begins when so many wait, or after half the time of one. With
//! 7/8 of them it still was worth it: two groups of `n` in 1.5 syncs are more than `n` in one,
//! also if a quarter of one group is missing. If fewer came, the next times are left out, twice as
//! many after each failure: clients that think for long, or that are many, cost little.

use std::time::Duration;

use crate::clock::Ticks;

/// Shorter syncs wait for nobody: half of one is less than clients need, and timers are no finer
/// than 1 ms.
const SYNC_MIN: Duration = Duration::from_millis(1);

/// Most times in a row that are left out.
const LEFT_OUT_MAX: u32 = 64;

/// Decides when a sync begins.
#[derive(Debug, Default)]
pub struct Gather {
    /// Who is waited for, and until when; `None`: nobody.
    open: Option<(usize, Ticks)>,
    /// Time of the last sync.
    last: Duration,
    left_out: u32,
    left_out_next: u32,
}

impl Gather {
    /// Notes that a sync took so long, and that so many wait, those whom it releases among them.
    /// Returns how long the next one waits at most, if it does.
    pub fn begin(&mut self, now: Ticks, took: Duration, waiting: usize) -> Option<Duration> {
        self.open = None;
        // One that was slow by chance says nothing of the next.
        let usual = took.min(std::mem::replace(&mut self.last, took));
        if usual < SYNC_MIN {
            return None;
        }
        if self.left_out > 0 {
            self.left_out -= 1;
            return None;
        }
        let most = usual / 2;
        self.open = Some((waiting, now.after(most)));
        Some(most)
    }

    /// Returns whether the sync begins now that so many wait.
    pub fn is_over(&mut self, now: Ticks, waiting: usize) -> bool {
        let Some((expected, until)) = self.open else { return true };
        if waiting < expected && now < until {
            return false;
        }
        self.open = None;
        if waiting >= expected - expected / 8 {
            self.left_out_next = 1;
        } else {
            self.left_out = self.left_out_next.max(1);
            self.left_out_next = (self.left_out * 2).min(LEFT_OUT_MAX);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Ticks {
        Ticks::begin().after(ms * MS)
    }

    #[test]
    fn a_sync_begins_when_all_have_come_back() {
        let mut gather = Gather::default();
        assert!(gather.is_over(at(0), 1), "nobody is waited for before the first sync");
        assert_eq!(gather.begin(at(5), 4 * MS, 50), None, "one slow sync may be chance");
        assert_eq!(gather.begin(at(10), 4 * MS, 50), Some(2 * MS));
        assert!(!gather.is_over(at(10), 25));
        assert!(!gather.is_over(at(11), 49));
        assert!(gather.is_over(at(11), 50));
        assert!(gather.is_over(at(11), 1), "it is decided once");
    }

    #[test]
    fn a_short_sync_waits_for_nobody() {
        let mut gather = Gather::default();
        for took in [MS / 4, MS / 4, 9 * MS, MS / 4] {
            assert_eq!(gather.begin(at(10), took, 50), None);
            assert!(gather.is_over(at(10), 1));
        }
    }

    #[test]
    fn nobody_is_waited_for_longer_than_half_a_sync() {
        let mut gather = Gather::default();
        gather.begin(at(5), 4 * MS, 50);
        gather.begin(at(10), 8 * MS, 50);
        assert!(!gather.is_over(at(11), 44));
        assert!(gather.is_over(at(12), 44));
        assert!(gather.begin(at(20), 4 * MS, 50).is_some(), "enough had come");
    }

    #[test]
    fn where_clients_do_not_come_back_in_time_they_are_seldom_waited_for() {
        let mut gather = Gather::default();
        let mut waits = 0;
        gather.begin(at(0), 4 * MS, 50);
        for sync in 0..1000 {
            if gather.begin(at(sync * 10), 4 * MS, 50).is_some() {
                waits += 1;
                assert!(gather.is_over(at(sync * 10 + 2), 43));
            }
        }
        // After 1, 2, 4 .. 64 that are left out, one in 65.
        assert_eq!(waits, 7 + (1000 - 127 - 7) / 65 + 1);
        // As soon as it is worth it again, each one waits.
        while gather.begin(at(20_000), 4 * MS, 50).is_none() {}
        assert!(gather.is_over(at(20_001), 50));
        assert!(gather.begin(at(20_010), 4 * MS, 50).is_some());
    }
}
