//! Warming the cache for the commands of a turn.
//!
//! A lookup is a chain of loads that depend on each other: slot, segment, array, entry. In a table
//! that does not fit the cache each waits for memory, about 100 ns. The lookups of several commands
//! do not depend on each other, though: done step by step for all of them, the processor waits for
//! many at a time. Measured with 100,000 keys and 16 commands a pipeline: see README.

use std::hint::black_box;

use super::entry::{Entry, prefetch};
use super::table::{Segment, SlotTable};
use super::{Keyspace, Location};

/// A key whose location is known already: the next lookup of these very bytes need not compute
/// it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    address: usize,
    length: usize,
    database: u8,
    location: Location,
}

impl Hint {
    /// Whether this is the hint of `key`: the same bytes in memory, not only equal ones.
    #[inline]
    pub(super) fn is_of(&self, key: &[u8]) -> bool {
        self.address == key.as_ptr().addr() && self.length == key.len()
    }

    #[inline]
    pub(super) fn location(&self) -> Location {
        self.location
    }
}

impl Keyspace {
    /// Returns where a key lives, to be given to [`Keyspace::warm`] and [`Keyspace::expect`].
    #[inline]
    pub fn hint(&self, database: u8, key: &[u8]) -> Hint {
        let location = self.compute_location(key);
        Hint { address: key.as_ptr().addr(), length: key.len(), database, location }
    }

    /// Tells the key that the next command names first; `None` when its bytes may go.
    #[inline]
    pub fn expect(&mut self, hint: Option<Hint>) {
        self.hint = hint;
    }

    /// Loads what lookups of these keys will need into the cache.
    pub fn warm<'a>(&self, hints: impl Iterator<Item = &'a Hint>) {
        // One step for all keys before the next step: that is the point. Each asks for what the
        // next one reads, by a prefetch: a load that is waited for would fill the processor's
        // window, and keep it from asking for more.
        let mut tables: Vec<(&SlotTable, u64)> = Vec::with_capacity(hints.size_hint().0);
        tables.extend(hints.filter_map(|hint| {
            let database = self.databases.get(hint.database)?;
            let table = &database.tables[self.shard.local(hint.location.slot)];
            prefetch(table);
            Some((table, hint.location.hash))
        }));
        for &(table, hash) in &tables {
            table.warm(hash);
        }
        let segments = tables.iter().map(|&(table, hash)| (table.segment(hash), hash));
        let segments: Vec<(&Segment, u64)> = segments.collect();
        for &(segment, hash) in &segments {
            segment.warm(hash);
        }
        let candidates = segments.iter().filter_map(|(segment, hash)| segment.warm_place(*hash));
        let entries: Vec<&Entry> = candidates.collect();
        for entry in &entries {
            entry.warm_first();
        }
        for entry in &entries {
            black_box(entry.warm_last());
        }
    }
}
