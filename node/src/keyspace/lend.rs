//! Keys that a coordinator works on: they stay where they are, and wait for its records.

use std::collections::HashSet;

use super::Keyspace;
use super::entry::{Entry, Value};
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

/// The access clock of a key that a coordinator has worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    database: u8,
    key: Vec<u8>,
    access: u32,
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

    /// Copies a key out of every database that has it. Without `values` the copies say only that
    /// the key exists. Uses are noted on the copies, and come back with [`Keyspace::note_uses`].
    pub fn lend(&self, key: &[u8], values: bool, copies: &mut Vec<(u8, Entry)>) {
        let at = self.locate(key);
        let local = self.shard.local(at.slot);
        for (database, tables) in self.databases.numbered() {
            let Some(entry) = tables.tables[local].find(at.hash, key) else { continue };
            if entry.deadline().is_some_and(|deadline| deadline <= self.now) {
                continue;
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
        self.in_database(database, |keyspace| keyspace.put_entry(entry));
    }

    /// Returns the access clocks of these keys, in every database that has them.
    pub fn uses_of(&self, keys: &[&[u8]]) -> Vec<Use> {
        let mut uses = Vec::with_capacity(keys.len());
        for key in keys {
            let at = self.locate(key);
            let local = self.shard.local(at.slot);
            for (database, tables) in self.databases.numbered() {
                if let Some(entry) = tables.tables[local].find(at.hash, key) {
                    uses.push(Use { database, key: key.to_vec(), access: entry.access() });
                }
            }
        }
        uses
    }

    /// Takes over the uses that a coordinator has noted on its copies. No record, as uses of keys
    /// are not effects.
    pub fn note_uses(&mut self, uses: &[Use]) {
        for Use { database, key, access } in uses {
            self.in_database(*database, |keyspace| keyspace.set_access(key, *access));
        }
    }

    /// Makes the change that a coordinator's record states. It is in the log already, as part of
    /// the coordinator's frame; only copies under way must still hear of it.
    pub fn apply_coordinated(&mut self, record: &Record<'_>) {
        // The coordinator has noted the uses, for the client that it works for.
        self.with_touching(false, |keyspace| keyspace.apply(record));
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
