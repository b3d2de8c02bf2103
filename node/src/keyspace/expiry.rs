//! Removal of keys whose time is over and that nobody asks for.
//!
//! Costs no memory a key: each segment of a table has a lower bound of its keys' deadlines, and a
//! cursor goes round the tables in bounded slices, looking into those segments where something
//! may be due.

use super::partition::Totals;
use super::{Database, Keyspace, Location};
use crate::limits::{EXPIRY_SLICE_STEPS, EXPIRY_STEPS_PER_REMOVAL};
use crate::records::{DeleteCause, Operation, UnixMillis};

/// Keys of a segment that an estimate of the mean time left looks at.
const TTL_SAMPLES: usize = 16;
/// Tables that an estimate searches for such a segment.
const TTL_TABLES: usize = 1024;
/// Weight of older estimates against a new one, as in Redis.
const TTL_WEIGHT: u64 = 49;

/// Where the next slice begins.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    disabled: bool,
    database: u8,
    local: usize,
    /// First hash of the table that has not been looked at.
    hash: u64,
}

/// What a slice achieved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpirySlice {
    /// Keys looked at.
    pub examined: usize,
    /// Keys removed.
    pub removed: usize,
    /// Whether the slice ended for its length alone.
    pub cut: bool,
}

impl ExpirySlice {
    /// Whether a next slice should follow soon: much of what was looked at was due, and there is
    /// more to look at.
    pub fn is_busy(self) -> bool {
        self.cut && self.removed * 10 >= self.examined && self.removed > 0
    }
}

impl Keyspace {
    /// Switches the removal of keys that nobody asks for on or off (`DEBUG SET-ACTIVE-EXPIRE`).
    pub fn set_active_expiry(&mut self, enabled: bool) {
        self.expiry.disabled = !enabled;
    }

    /// Removes keys that have expired by `now`, for [`EXPIRY_SLICE_STEPS`] steps (about 1 ms) or
    /// once through all databases. Effects are in the journal.
    pub fn expire_slice(&mut self, now: UnixMillis) -> ExpirySlice {
        let mut slice = ExpirySlice::default();
        if self.expiry.disabled {
            return slice;
        }
        self.now = now;
        let (selected, mut steps) = (self.selected, EXPIRY_SLICE_STEPS);
        for _ in 0..self.databases.len() {
            self.selected = self.expiry.database;
            self.sample_ttl();
            if !self.expire_database(&mut slice, &mut steps) {
                slice.cut = true;
                break;
            }
            let next = self.databases.next(self.expiry.database);
            self.expiry = Cursor { database: next, ..Cursor::default() };
        }
        self.selected = selected;
        slice
    }

    /// Goes on in the selected database. Returns whether its end was reached.
    fn expire_database(&mut self, slice: &mut ExpirySlice, steps: &mut usize) -> bool {
        loop {
            let Cursor { local, hash, .. } = self.expiry;
            let volatile = self.databases.get(self.selected);
            if volatile.is_none_or(|database| database.volatile == 0) || local >= self.shard.slots()
            {
                return true;
            }
            if *steps == 0 {
                return false;
            }
            let (examined, removed, next) = self.expire_segment(local, hash);
            slice.examined += examined;
            slice.removed += removed;
            *steps = steps.saturating_sub(1 + examined + removed * EXPIRY_STEPS_PER_REMOVAL);
            match next {
                Some(hash) => self.expiry.hash = hash,
                None => (self.expiry.local, self.expiry.hash) = (local + 1, 0),
            }
        }
    }

    /// Removes what is due in one segment of the selected database. Returns the keys looked at,
    /// those removed, and the first hash behind the segment.
    fn expire_segment(&mut self, local: usize, hash: u64) -> (usize, usize, Option<u64>) {
        let (now, lent) = (self.now, &self.lent);
        let Some(database) = self.databases.get_mut(self.selected) else {
            return (0, 0, None);
        };
        let table = &mut database.tables[local];
        let (segment, next) = table.segment_at(hash);
        if !segment.is_due(now) {
            return (0, 0, next);
        }
        let examined = segment.keys();
        let is_due = |deadline: Option<UnixMillis>| deadline.is_some_and(|at| at <= now);
        let (removed, _) =
            table.extract(hash, |entry| is_due(entry.deadline()) && !lent.holds(entry.key()));
        let before = removed.iter().map(Totals::of).fold(Totals::NONE, Totals::plus);
        let before = before.and_bytes(table.shrink(hash));
        database.book(&mut self.used, local, Totals::NONE, before);
        self.stats.expired += removed.len() as u64;
        let slot = self.shard.slot_at(local);
        for entry in &removed {
            let key = entry.key();
            let at = Location { slot, hash: self.hasher.hash(key) };
            self.record(at, Operation::Delete { key, cause: DeleteCause::Expired });
        }
        (examined, removed.len(), next)
    }

    /// Estimates the mean time left from some keys.
    fn sample_ttl(&mut self) {
        let now = self.now.0;
        if let Some(database) = self.databases.get_mut(self.selected) {
            database.sample_ttl(now);
        }
    }
}

impl Database {
    fn sample_ttl(&mut self, now: u64) {
        if self.volatile == 0 {
            return;
        }
        // A cursor of its own: where there are few keys, that of expiry begins anew each time.
        let begin = self.ttl_cursor % self.tables.len();
        let mut tables = self.tables[begin..].iter().take(TTL_TABLES).enumerate();
        let found = tables.find_map(|(passed, table)| {
            let segment = table.segment_at(0).0;
            segment.may_be_volatile().then_some((passed, segment))
        });
        let Some((passed, segment)) = found else {
            self.ttl_cursor = (begin + TTL_TABLES).min(self.tables.len());
            return;
        };
        self.ttl_cursor = begin + passed + 1;
        let left = segment
            .iter()
            .filter_map(|entry| Some(entry.deadline()?.0.saturating_sub(now)))
            .filter(|&left| left > 0)
            .take(TTL_SAMPLES);
        let (sum, count) =
            left.fold((0_u64, 0), |(sum, count), left| (sum.saturating_add(left), count + 1));
        let Some(mean) = sum.checked_div(count) else { return };
        self.average_ttl_millis = match self.average_ttl_millis {
            0 => mean,
            old => old / (TTL_WEIGHT + 1) * TTL_WEIGHT + mean / (TTL_WEIGHT + 1),
        };
    }
}

#[cfg(test)]
mod tests;
