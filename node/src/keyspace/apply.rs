//! Changes that records state, and changes of whole partitions.

use super::entry::Value;
use super::table::SlotTable;
use super::{Database, Deadline, Keyspace, SLOTS_PER_PARTITION, partition_of};
use crate::records::{Operation, PartitionId, Record, StoredValue};

impl Keyspace {
    /// Removes all keys of the selected database that live in `partition`, or in the whole shard.
    /// The tables of a partition are put aside: see [`Keyspace::take_removed`].
    pub fn flush(&mut self, only: Option<PartitionId>) {
        let shard = self.shard;
        let Some(database) = self.databases[self.selected as usize].as_mut() else { return };
        let Some(partition) = only else {
            self.used -= database.used();
            self.databases[self.selected as usize] = None;
            return;
        };
        let first = shard.local(partition.0 * SLOTS_PER_PARTITION);
        for local in first..first + SLOTS_PER_PARTITION as usize {
            let table = std::mem::take(&mut database.tables[local]);
            let (keys, volatile, bytes) = table_totals(&table);
            database.keys -= keys;
            database.volatile -= volatile;
            self.used -= bytes;
            if keys > 0 {
                self.removed.push(table);
            }
        }
    }

    /// Takes the tables that were removed as a whole: to drop them costs a step a key.
    pub fn take_removed(&mut self) -> Vec<SlotTable> {
        std::mem::take(&mut self.removed)
    }

    /// Lets the keys of two databases that live in `partition` change places.
    pub fn swap(&mut self, partition: PartitionId, one: u8, other: u8) {
        if one == other {
            return;
        }
        let shard = self.shard;
        let (low, high) = (one.min(other) as usize, one.max(other) as usize);
        let (left, right) = self.databases.split_at_mut(high);
        if left[low].is_none() && right[0].is_none() {
            return;
        }
        let a = left[low].get_or_insert_with(|| Box::new(Database::new(shard)));
        let b = right[0].get_or_insert_with(|| Box::new(Database::new(shard)));
        let first = shard.local(partition.0 * SLOTS_PER_PARTITION);
        for local in first..first + SLOTS_PER_PARTITION as usize {
            std::mem::swap(&mut a.tables[local], &mut b.tables[local]);
            let (keys_b, volatile_b, _) = table_totals(&b.tables[local]);
            let (keys_a, volatile_a, _) = table_totals(&a.tables[local]);
            a.keys = a.keys + keys_a - keys_b;
            b.keys = b.keys + keys_b - keys_a;
            a.volatile = a.volatile + volatile_a - volatile_b;
            b.volatile = b.volatile + volatile_b - volatile_a;
        }
    }

    /// Partitions of this shard that hold a key in some database of `databases`.
    pub fn occupied_partitions(&self, databases: &[u8]) -> Vec<PartitionId> {
        let holds = |local: usize| {
            databases.iter().any(|&database| {
                let database = self.databases.get(database as usize).and_then(Option::as_ref);
                database.is_some_and(|database| !database.tables[local].is_empty())
            })
        };
        let mut occupied: Vec<PartitionId> = (0..self.shard.slots())
            .filter(|&local| holds(local))
            .map(|local| partition_of(self.shard.slot_at(local)))
            .collect();
        occupied.dedup();
        occupied
    }

    /// Whether this shard owns a partition.
    pub fn owns(&self, partition: PartitionId) -> bool {
        partition.0 % self.shard.count == self.shard.index
    }

    /// Makes the change that a record states, without the journal. Records are effects, so this
    /// needs no clock: what has expired since stays until somebody looks.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.selected = record.database;
        match record.operation {
            Operation::Put { key, value, deadline } => {
                let value = match value {
                    StoredValue::Integer(integer) => Value::Integer(integer),
                    StoredValue::String(bytes) => Value::String(bytes),
                };
                let deadline = deadline.map_or(Deadline::Clear, Deadline::At);
                self.put_at(self.locate(key), key, value, deadline);
            }
            Operation::Delete { key, .. } => {
                self.take_at(self.locate(key), key);
            }
            Operation::SetDeadline { key, deadline } => {
                self.change_at(self.locate(key), key, |entry| entry.set_deadline(deadline));
            }
            Operation::Append { key, bytes } => {
                self.append_at(self.locate(key), key, bytes);
            }
            Operation::WriteRange { key, offset, bytes } => {
                let at = self.locate(key);
                if self.entry_at(at, key).is_none() {
                    self.put_at(at, key, Value::String(b""), Deadline::Clear);
                }
                self.write_range_at(at, key, offset as usize, bytes);
            }
            Operation::Flush => self.flush(Some(record.partition)),
            Operation::Swap { other } => self.swap(record.partition, record.database, other),
            Operation::MoveIn { .. } | Operation::MoveOut { .. } => {
                for database in 0..self.databases.len() {
                    self.selected = database as u8;
                    self.flush(Some(record.partition));
                }
                self.selected = record.database;
            }
            Operation::Own { .. } => {}
        }
    }
}

impl Database {
    /// Bytes of entries and tables, counted one by one.
    pub(super) fn used(&self) -> usize {
        self.tables.iter().map(|table| table_totals(table).2).sum()
    }
}

/// Keys, keys with a deadline, and bytes of a table.
fn table_totals(table: &SlotTable) -> (usize, usize, usize) {
    let mut totals = (0, 0, table.allocated());
    for entry in table.iter() {
        totals.0 += 1;
        totals.1 += usize::from(entry.deadline().is_some());
        totals.2 += entry.allocated();
    }
    totals
}
