//! Partitions as a whole: what each amounts to, and how its tables are taken out and put in.
//!
//! Every change of a key is booked in the totals of its partition, so that a partition is
//! flushed, swapped, detached or attached in a step a slot, however many keys it has.

use super::entry::Entry;
use super::table::SlotTable;
use super::{Database, Keyspace, SLOTS_PER_PARTITION};
use crate::records::PartitionId;

const SLOTS: usize = SLOTS_PER_PARTITION as usize;

/// What some keys amount to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) keys: usize,
    /// Keys with a deadline.
    pub(super) volatile: usize,
    /// Bytes of entries and tables.
    pub(super) bytes: usize,
}

impl Totals {
    pub(super) const NONE: Totals = Totals { keys: 0, volatile: 0, bytes: 0 };

    /// What one entry amounts to.
    #[inline]
    pub(super) fn of(entry: &Entry) -> Totals {
        let volatile = usize::from(entry.deadline().is_some());
        Totals { keys: 1, volatile, bytes: entry.allocated() }
    }

    /// The same with some bytes of a table.
    #[inline]
    pub(super) fn and_bytes(self, bytes: usize) -> Totals {
        Totals { bytes: self.bytes + bytes, ..self }
    }

    #[inline]
    pub(super) fn plus(self, other: Totals) -> Totals {
        Totals {
            keys: self.keys + other.keys,
            volatile: self.volatile + other.volatile,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Size of a partition, in all databases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionSize {
    /// Keys, expired ones that are not removed yet included.
    pub keys: u64,
    /// Bytes of entries and tables, as the allocator rounds them.
    pub bytes: u64,
}

impl PartitionSize {
    fn add(&mut self, totals: Totals) {
        self.keys += totals.keys as u64;
        self.bytes += totals.bytes as u64;
    }
}

/// The tables of a partition in one database.
struct Part {
    tables: [SlotTable; SLOTS],
    totals: Totals,
}

/// All keys of a partition, taken out of a keyspace. To drop them costs a step a key, so it is
/// left to another thread where there are many.
pub struct DetachedPartition {
    /// The partition.
    pub partition: PartitionId,
    /// How much it is.
    pub size: PartitionSize,
    /// What is there of it, by database.
    parts: Vec<(u8, Part)>,
    /// A hash that only keyspaces with the same hasher give.
    hasher: u64,
}

impl Database {
    /// Books a change of one slot: what is there of it now, and what was there of it before.
    #[inline]
    pub(super) fn book(&mut self, used: &mut usize, local: usize, now: Totals, before: Totals) {
        let moved =
            |total: usize, now: usize, before: usize| total.wrapping_add(now.wrapping_sub(before));
        let partition = &mut self.partitions[local / SLOTS];
        partition.keys = moved(partition.keys, now.keys, before.keys);
        partition.volatile = moved(partition.volatile, now.volatile, before.volatile);
        partition.bytes = moved(partition.bytes, now.bytes, before.bytes);
        self.keys = moved(self.keys, now.keys, before.keys);
        self.volatile = moved(self.volatile, now.volatile, before.volatile);
        *used = moved(*used, now.bytes, before.bytes);
    }

    /// Takes the tables of a partition out, whose first slot is at `first`.
    fn take_part(&mut self, used: &mut usize, first: usize) -> Part {
        let totals = self.partitions[first / SLOTS];
        self.book(used, first, Totals::NONE, totals);
        let tables = std::array::from_fn(|slot| std::mem::take(&mut self.tables[first + slot]));
        Part { tables, totals }
    }

    /// Puts the tables of a partition where there are none.
    fn put_part(&mut self, used: &mut usize, first: usize, part: Part) {
        debug_assert_eq!(self.partitions[first / SLOTS], Totals::NONE);
        self.book(used, first, part.totals, Totals::NONE);
        for (slot, table) in part.tables.into_iter().enumerate() {
            self.tables[first + slot] = table;
        }
    }
}

impl Keyspace {
    /// Whether this shard owns a partition.
    pub fn owns(&self, partition: PartitionId) -> bool {
        partition.0 % self.shard.count == self.shard.index
    }

    /// Whether any database has a key of a partition of this shard.
    pub fn holds_partition(&self, partition: PartitionId) -> bool {
        let index = self.first_slot(partition) / SLOTS;
        self.databases.iter().any(|database| database.partitions[index].keys > 0)
    }

    /// Place of a partition's first slot among the slots of this shard.
    fn first_slot(&self, partition: PartitionId) -> usize {
        debug_assert!(self.owns(partition));
        self.shard.local(partition.0 * SLOTS_PER_PARTITION)
    }

    /// Sizes of the partitions that have keys, in ascending order. Costs a step for each of the
    /// shard's partitions and databases.
    pub fn partition_sizes(&self) -> Vec<(PartitionId, PartitionSize)> {
        let size = |index: usize| {
            let mut size = PartitionSize::default();
            for database in self.databases.iter() {
                size.add(database.partitions[index]);
            }
            let partition = index as u16 * self.shard.count + self.shard.index;
            (PartitionId(partition), size)
        };
        (0..self.shard.slots() / SLOTS).map(size).filter(|(_, size)| size.keys > 0).collect()
    }

    /// Partitions of this shard that hold a key in some database that is `wanted`, each with the
    /// numbers of those.
    pub fn occupied_partitions(&self, wanted: impl Fn(u8) -> bool) -> Vec<(PartitionId, Vec<u8>)> {
        let occupied = |index: usize| {
            let holds = |&number: &u8| {
                let database = self.databases.get(number);
                database.is_some_and(|database| database.partitions[index].keys > 0)
            };
            let partition = PartitionId(index as u16 * self.shard.count + self.shard.index);
            let numbers = self.databases.numbers();
            (partition, numbers.filter(|&number| wanted(number)).filter(holds).collect())
        };
        let all = (0..self.shard.slots() / SLOTS).map(occupied);
        all.filter(|(_, numbers): &(_, Vec<u8>)| !numbers.is_empty()).collect()
    }

    /// Removes all keys of the selected database that live in `partition`. Their tables are put
    /// aside: see [`Keyspace::take_removed`].
    pub fn flush(&mut self, partition: PartitionId) {
        let first = self.first_slot(partition);
        let Some(database) = self.databases.get_mut(self.selected) else { return };
        let part = database.take_part(&mut self.used, first);
        self.removed.extend(part.tables.into_iter().filter(|table| !table.is_empty()));
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
        let first = self.first_slot(partition);
        let take = |keyspace: &mut Self, database: u8| {
            let database = keyspace.databases.get_mut(database)?;
            let part = database.take_part(&mut keyspace.used, first);
            (part.totals.keys > 0).then_some(part)
        };
        let (of_one, of_other) = (take(self, one), take(self, other));
        for (part, to) in [(of_one, other), (of_other, one)] {
            if let Some(part) = part {
                self.put_part(to, first, part);
            }
        }
    }

    /// Takes all keys of a partition out, in a step for each of its slots. This is no effect: it
    /// makes no record, and no copy hears of it, so copies of the partition must have ended.
    pub fn detach(&mut self, partition: PartitionId) -> DetachedPartition {
        let first = self.first_slot(partition);
        let mut detached = DetachedPartition {
            partition,
            size: PartitionSize::default(),
            parts: Vec::new(),
            hasher: self.hasher.fingerprint(),
        };
        for (number, database) in self.databases.iter_mut() {
            let part = database.take_part(&mut self.used, first);
            if part.totals.keys > 0 {
                detached.size.add(part.totals);
                detached.parts.push((number, part));
            }
        }
        detached
    }

    /// Puts all keys of a partition in, in place of those that are here (which are put aside: see
    /// [`Keyspace::take_removed`]). They come from a keyspace of the same shard layout and
    /// hasher. As little an effect as [`Keyspace::detach`].
    pub fn attach(&mut self, detached: DetachedPartition) {
        let DetachedPartition { partition, parts, hasher, .. } = detached;
        debug_assert_eq!(hasher, self.hasher.fingerprint());
        let first = self.first_slot(partition);
        for (_, part) in self.detach(partition).parts {
            self.removed.extend(part.tables.into_iter().filter(|table| !table.is_empty()));
        }
        for (database, part) in parts {
            self.put_part(database, first, part);
        }
    }

    fn put_part(&mut self, database: u8, first: usize, part: Part) {
        let database = self.databases.make(database, self.shard);
        database.put_part(&mut self.used, first, part);
    }
}
