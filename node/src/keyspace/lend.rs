//! Keys that a coordinator works on: they stay where they are, and wait for its records.

use std::collections::HashSet;

use super::Keyspace;
use super::entry::{Entry, Value};
use super::partition::Totals;
use crate::records::{Operation, Record};

/// The keys of this shard that coordinators hold.
#[derive(Debug, Default)]
pub(super) struct LentKeys {
    keys: HashSet<Vec<u8>>,
    everything: bool,
}

impl LentKeys {
    #[inline]
    pub(super) fn holds(&self, key: &[u8]) -> bool {
        self.everything || (!self.keys.is_empty() && self.keys.contains(key))
    }
}

impl Keyspace {
    /// Whether a coordinator holds a key, in whatever database.
    #[inline]
    pub fn is_held(&self, key: &[u8]) -> bool {
        self.lent.holds(key)
    }

    /// Marks a key as held.
    pub fn hold(&mut self, key: &[u8]) {
        self.lent.keys.insert(key.to_vec());
    }

    /// Marks a key as free.
    pub fn release(&mut self, key: &[u8]) {
        self.lent.keys.remove(key);
    }

    /// Marks all keys as held, or as free.
    pub fn hold_everything(&mut self, held: bool) {
        self.lent.everything = held;
    }

    /// Copies a key out of every database that has it, and notes its use. Without `values` the
    /// copies say only that the key exists.
    pub fn lend(&mut self, key: &[u8], values: bool, copies: &mut Vec<(u8, Entry)>) {
        let at = self.locate(key);
        let local = self.shard.local(at.slot);
        for (database, tables) in self.databases.iter_mut() {
            let Some(entry) = tables.tables[local].find_mut(at.hash, key) else { continue };
            if entry.deadline().is_some_and(|deadline| deadline <= self.now) {
                continue;
            }
            if self.touching && database == self.selected {
                entry.set_access(self.clock.touched(entry.access()));
            }
            let copy = if values {
                entry.clone()
            } else {
                Entry::new(key, Value::String(b""), entry.deadline(), entry.access())
            };
            copies.push((database, copy));
        }
    }

    /// Takes a copy of another shard's entry in, without a record. For a coordinator's scratch
    /// keyspace.
    pub fn adopt(&mut self, database: u8, entry: Entry) {
        let at = self.locate(entry.key());
        let (shard, local) = (self.shard, self.shard.local(at.slot));
        let database = self.databases.make(database, shard);
        let now = Totals::of(&entry);
        let table = &mut database.tables[local];
        let grown = table.insert_new(at.hash, entry, |entry| self.hasher.hash(entry.key()));
        database.book(&mut self.used, local, now.and_bytes(grown), Totals::NONE);
    }

    /// Makes the change that a coordinator's record states. It is in the log already, as part of
    /// the coordinator's frame; only copies under way must still hear of it.
    pub fn apply_coordinated(&mut self, record: &Record<'_>) {
        self.apply(record);
        self.stats.writes += 1;
        let (slot, hash) = match record.operation.key() {
            Some(key) => {
                let at = self.locate(key);
                (at.slot, at.hash)
            }
            None => (0, 0),
        };
        debug_assert!(
            !matches!(record.operation, Operation::Flush | Operation::Swap { .. })
                || record.operation.key().is_none()
        );
        self.journal.copies.follow(slot, hash, record);
    }
}
