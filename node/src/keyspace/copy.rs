//! Copying a partition in bounded slices while it changes.
//!
//! A cursor walks the partition's keys in the order (database, slot, hash). What it passes is
//! written to a stream as `Put` records; a change to a key that it has passed is appended to the
//! same stream, and a change to any other key needs nothing, as the key will be copied. So the
//! stream, replayed from its start, gives the partition as it is when the cursor ends. The
//! snapshot on disk is one sink of that stream; a replica and a move will be others.

use distcache_recovery::{FrameBuilder, Operation, PartitionId, Record, StoredValue};

use super::entry::{Entry, Value};
use super::{Keyspace, SLOTS_PER_PARTITION};

/// Where a copy is, and what it has to say so far.
pub(super) struct CopyCursor {
    partition: PartitionId,
    /// The first key not passed yet: database, slot, hash.
    next: (u8, u16, u64),
    chunk: FrameBuilder,
    /// The partition's databases changed places: what was copied is void.
    restart: bool,
}

/// What a slice of copying achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyProgress {
    /// There are more keys.
    More,
    /// All keys are copied. Changes keep coming until [`Keyspace::end_copy`].
    Passed,
    /// What was copied is void: the sink forgets it, and the copy has begun anew.
    Restarted,
}

impl CopyCursor {
    fn new(partition: PartitionId) -> Self {
        let next = (0, partition.0 * SLOTS_PER_PARTITION, 0);
        CopyCursor { partition, next, chunk: FrameBuilder::new(), restart: false }
    }

    /// Appends a change to a key that the cursor has passed.
    pub(super) fn follow(&mut self, slot: u16, hash: u64, record: &Record<'_>) {
        if record.partition != self.partition {
            return;
        }
        match record.operation {
            Operation::Swap { .. } => self.restart = true,
            Operation::Flush
            | Operation::MoveIn { .. }
            | Operation::Own { .. }
            | Operation::MoveOut { .. } => {
                self.chunk.push(record);
            }
            _ if (record.database, slot, hash) < self.next => {
                self.chunk.push(record);
            }
            _ => {}
        }
    }

    fn put(&mut self, database: u8, entry: &Entry) {
        let value = match entry.value() {
            Value::Integer(integer) => StoredValue::Integer(integer),
            Value::String(bytes) => StoredValue::String(bytes),
        };
        let (key, deadline) = (entry.key(), entry.deadline());
        let operation = Operation::Put { key, value, deadline };
        self.chunk.push(&Record { partition: self.partition, database, operation });
    }
}

impl Keyspace {
    /// Begins the copy of a partition, in place of any other.
    pub fn begin_copy(&mut self, partition: PartitionId) {
        self.journal.copy = Some(CopyCursor::new(partition));
    }

    /// Copies keys until the chunk is full or the partition ends. Costs at most one segment of
    /// keys and one chunk of bytes (or one value, if that is larger).
    pub fn copy_slice(&mut self) -> CopyProgress {
        let Some(mut copy) = self.journal.copy.take() else { return CopyProgress::Passed };
        let progress = self.advance(&mut copy);
        self.journal.copy = Some(copy);
        progress
    }

    fn advance(&self, copy: &mut CopyCursor) -> CopyProgress {
        if std::mem::take(&mut copy.restart) {
            *copy = CopyCursor::new(copy.partition);
            return CopyProgress::Restarted;
        }
        let first_slot = copy.partition.0 * SLOTS_PER_PARTITION;
        while !copy.chunk.is_full() {
            let (database, slot, hash) = copy.next;
            if database as usize >= self.databases.len() {
                return CopyProgress::Passed;
            }
            copy.next = match self.copy_segment(copy, database, slot, hash) {
                Some(hash) => (database, slot, hash),
                None if slot + 1 < first_slot + SLOTS_PER_PARTITION => (database, slot + 1, 0),
                None => (database + 1, first_slot, 0),
            };
        }
        CopyProgress::More
    }

    /// Copies the keys of a segment from `hash` on, in the order of their hashes, until the chunk
    /// is full. Returns the first hash not copied, or `None` at the slot's end.
    fn copy_segment(
        &self,
        copy: &mut CopyCursor,
        database: u8,
        slot: u16,
        hash: u64,
    ) -> Option<u64> {
        let tables = &self.databases[database as usize].as_ref()?.tables;
        let (segment, next) = tables[self.shard.local(slot)].segment_at(hash);
        let mut entries: Vec<(u64, &Entry)> = segment
            .iter()
            .map(|entry| (self.hasher.hash(entry.key()), entry))
            .filter(|&(of_entry, _)| of_entry >= hash)
            .collect();
        entries.sort_unstable_by_key(|&(of_entry, _)| of_entry);
        let mut last = None;
        for (of_entry, entry) in entries {
            // Keys of equal hashes belong together: the cursor cannot stand between them.
            if copy.chunk.is_full() && last.is_some_and(|last| last != of_entry) {
                return Some(of_entry);
            }
            copy.put(database, entry);
            last = Some(of_entry);
        }
        next
    }

    /// Takes what the copy has to say so far, in order.
    pub fn take_chunk(&mut self, empty: FrameBuilder) -> FrameBuilder {
        match &mut self.journal.copy {
            Some(copy) => std::mem::replace(&mut copy.chunk, empty),
            None => empty,
        }
    }

    /// Ends the copy: changes are not followed any more.
    pub fn end_copy(&mut self) {
        self.journal.copy = None;
    }
}
