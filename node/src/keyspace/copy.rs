//! Copying partitions in bounded slices while they change.
//!
//! A cursor walks the partition's keys in the order (database, slot, hash). What it passes is
//! written to a stream as `Put` records; a change to a key that it has passed is appended to the
//! same stream, and a change to any other key needs nothing, as the key will be copied. So the
//! stream, replayed from its start, gives the partition as it is when the cursor ends. The
//! snapshot on disk is one sink of that stream, a move is another; several go on at a time.
//!
//! A value longer than [`COPY_PIECE_BYTES`] is written in `WriteRange` pieces: the last one first,
//! so that the sink makes room for all once, then the others in order, then the deadline. The
//! cursor stands before the key meanwhile. A change to that very key deletes it from the stream,
//! and its copy begins again.

use std::cmp::Ordering;

use distcache_recovery::{
    DeleteCause, FrameBuilder, Operation, PartitionId, PartitionSet, Record, StoredValue,
};

use super::entry::{Entry, Value};
use super::{Keyspace, SLOTS_PER_PARTITION};
use crate::limits::COPY_PIECE_BYTES;

/// Which of the copies under way in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CopyId(pub u64);

impl CopyId {
    /// The copy for the snapshot on disk.
    pub const SNAPSHOT: CopyId = CopyId(0);
}

/// What a slice of copying achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyProgress {
    /// There are more keys.
    More,
    /// All keys are copied, and nothing makes that void any more. Changes keep coming until
    /// [`Keyspace::end_copy`].
    Passed,
    /// What was copied is void: the sink forgets it, and the copy has begun anew.
    Restarted,
}

/// The copies under way in a shard.
#[derive(Default)]
pub(super) struct Copies {
    copies: Vec<CopyCursor>,
    /// The partitions they are of.
    partitions: PartitionSet,
}

/// Where a copy is, and what it has to say so far.
struct CopyCursor {
    id: CopyId,
    partition: PartitionId,
    /// The first key not passed yet: database, slot, hash.
    next: (u8, u16, u64),
    /// What is copied of the keys at `next`.
    here: Here,
    chunk: FrameBuilder,
    /// Some of the partition's databases changed places: what was copied is void.
    restart: bool,
    /// Longest piece of a value.
    piece: usize,
}

/// What is copied of the keys that share the cursor's place, where it was not done at once.
#[derive(Default)]
struct Here {
    /// Keys that are copied; almost always none, as hashes are hardly ever equal.
    done: Vec<Vec<u8>>,
    partial: Option<Partial>,
    /// How often the copy of a value began again.
    restarts: u32,
}

/// A value of which the last piece is copied, and some from its begin on.
struct Partial {
    key: Vec<u8>,
    copied: usize,
}

impl Copies {
    /// Appends a change to the copies that have passed the key.
    #[inline]
    pub(super) fn follow(&mut self, slot: u16, hash: u64, record: &Record<'_>) {
        if !self.copies.is_empty() && self.partitions.contains(record.partition) {
            self.follow_each(slot, hash, record);
        }
    }

    #[cold]
    fn follow_each(&mut self, slot: u16, hash: u64, record: &Record<'_>) {
        for copy in &mut self.copies {
            if copy.partition == record.partition {
                copy.follow(slot, hash, record);
            }
        }
    }

    fn find(&self, id: CopyId) -> Option<&CopyCursor> {
        self.copies.iter().find(|copy| copy.id == id)
    }

    fn find_mut(&mut self, id: CopyId) -> Option<&mut CopyCursor> {
        self.copies.iter_mut().find(|copy| copy.id == id)
    }

    fn end(&mut self, id: CopyId) {
        self.copies.retain(|copy| copy.id != id);
        self.partitions = PartitionSet::default();
        for copy in &self.copies {
            self.partitions.insert(copy.partition);
        }
    }
}

impl CopyCursor {
    fn new(id: CopyId, partition: PartitionId, piece: usize) -> Self {
        CopyCursor {
            id,
            partition,
            next: (0, partition.0 * SLOTS_PER_PARTITION, 0),
            here: Here::default(),
            chunk: FrameBuilder::new(),
            restart: false,
            piece,
        }
    }

    fn follow(&mut self, slot: u16, hash: u64, record: &Record<'_>) {
        match record.operation {
            Operation::Swap { other } => self.follow_swap(record, other),
            Operation::Flush => {
                if record.database == self.next.0 {
                    self.here.partial = None;
                }
                self.chunk.push(record);
            }
            _ => match (record.database, slot, hash).cmp(&self.next) {
                Ordering::Less => {
                    self.chunk.push(record);
                }
                Ordering::Equal => self.follow_here(record),
                Ordering::Greater => {}
            },
        }
    }

    /// Follows a swap if both databases are passed; forgets it if neither is.
    fn follow_swap(&mut self, record: &Record<'_>, other: u8) {
        let place_of = |database: u8| database.cmp(&self.next.0);
        match (place_of(record.database), place_of(other)) {
            (Ordering::Less, Ordering::Less) => {
                self.chunk.push(record);
            }
            (Ordering::Greater, Ordering::Greater) => {}
            _ => self.restart = true,
        }
    }

    /// Follows a change to a key at the cursor's place: it may be copied already, or half.
    fn follow_here(&mut self, record: &Record<'_>) {
        let Some(key) = record.operation.key() else { return };
        if self.here.done.iter().any(|done| done == key) {
            self.chunk.push(record);
        } else if self.here.partial.take_if(|partial| partial.key == key).is_some() {
            self.here.restarts += 1;
            let cause = DeleteCause::Command;
            self.push(record.database, Operation::Delete { key, cause });
        }
    }

    fn push(&mut self, database: u8, operation: Operation<'_>) {
        self.chunk.push(&Record { partition: self.partition, database, operation });
    }

    /// Puts the cursor before the keys of a place.
    fn move_to(&mut self, next: (u8, u16, u64)) {
        if next != self.next {
            self.next = next;
            self.here = Here::default();
        }
    }

    /// Copies the keys of equal hashes at the cursor's place. Returns whether all are copied: it
    /// ends early, behind a full chunk, only where there is a long value among them.
    fn copy_group(&mut self, group: &[(u64, &Entry)]) -> bool {
        if group.iter().all(|(_, entry)| self.is_short(entry)) {
            group.iter().for_each(|(_, entry)| self.put(entry));
            return true;
        }
        // What is half copied comes first, so that there is one such key at most.
        let is_partial = |here: &Here, entry: &Entry| {
            here.partial.as_ref().is_some_and(|partial| partial.key == entry.key())
        };
        let mut order: Vec<&Entry> = group.iter().map(|&(_, entry)| entry).collect();
        order.sort_by_key(|entry| !is_partial(&self.here, entry));
        for entry in order {
            if self.here.done.iter().any(|done| done == entry.key()) {
                continue;
            }
            if self.chunk.is_full() {
                return false;
            }
            if is_partial(&self.here, entry) || !self.is_short(entry) {
                while !self.copy_piece(entry) {
                    if self.chunk.is_full() {
                        return false;
                    }
                }
            } else {
                self.put(entry);
            }
            self.here.done.push(entry.key().to_vec());
        }
        true
    }

    fn is_short(&self, entry: &Entry) -> bool {
        match entry.value() {
            Value::Integer(_) => true,
            Value::String(bytes) => bytes.len() <= self.piece,
        }
    }

    fn put(&mut self, entry: &Entry) {
        let value = match entry.value() {
            Value::Integer(integer) => StoredValue::Integer(integer),
            Value::String(bytes) => StoredValue::String(bytes),
        };
        let (key, deadline) = (entry.key(), entry.deadline());
        self.push(self.next.0, Operation::Put { key, value, deadline });
    }

    /// Copies the next piece of a long string. Returns whether all is copied.
    fn copy_piece(&mut self, entry: &Entry) -> bool {
        let Value::String(value) = entry.value() else { return true };
        let (key, last) = (entry.key(), (value.len() - 1) / self.piece * self.piece);
        let partial = self.here.partial.take();
        let (begin, end, copied) = match partial.map(|partial| partial.copied) {
            None => (last, value.len(), 0),
            Some(copied) => (copied, copied + self.piece, copied + self.piece),
        };
        let bytes = &value[begin..end];
        self.push(self.next.0, Operation::WriteRange { key, offset: begin as u64, bytes });
        if copied < last {
            self.here.partial = Some(Partial { key: key.to_vec(), copied });
            return false;
        }
        if let deadline @ Some(_) = entry.deadline() {
            self.push(self.next.0, Operation::SetDeadline { key, deadline });
        }
        true
    }
}

impl Keyspace {
    /// Begins the copy of a partition of this shard, in place of any other of this id.
    pub fn begin_copy(&mut self, id: CopyId, partition: PartitionId) {
        self.begin_copy_in_pieces(id, partition, COPY_PIECE_BYTES);
    }

    fn begin_copy_in_pieces(&mut self, id: CopyId, partition: PartitionId, piece: usize) {
        debug_assert!(self.owns(partition));
        self.end_copy(id);
        let copies = &mut self.journal.copies;
        copies.copies.push(CopyCursor::new(id, partition, piece));
        copies.partitions.insert(partition);
    }

    /// Copies keys until the chunk is full or the partition ends. Costs at most one segment of
    /// keys, and one chunk and one piece of a value in bytes. There is nothing to do for an id
    /// without a copy.
    pub fn copy_slice(&mut self, id: CopyId) -> CopyProgress {
        // Put aside for the moment, as the cursor reads the keyspace it belongs to.
        let mut copies = std::mem::take(&mut self.journal.copies);
        let progress = copies.find_mut(id).map_or(CopyProgress::Passed, |copy| self.advance(copy));
        self.journal.copies = copies;
        progress
    }

    fn advance(&self, copy: &mut CopyCursor) -> CopyProgress {
        if copy.restart {
            *copy = CopyCursor::new(copy.id, copy.partition, copy.piece);
            return CopyProgress::Restarted;
        }
        let first_slot = copy.partition.0 * SLOTS_PER_PARTITION;
        while !copy.chunk.is_full() {
            let (database, slot, _) = copy.next;
            if database as usize >= self.databases.len() {
                return CopyProgress::Passed;
            }
            let next = match self.copy_segment(copy) {
                Some(hash) => (database, slot, hash),
                None if slot + 1 < first_slot + SLOTS_PER_PARTITION => (database, slot + 1, 0),
                None => (database + 1, first_slot, 0),
            };
            copy.move_to(next);
        }
        CopyProgress::More
    }

    /// Copies the keys of a segment from the cursor on, in the order of their hashes, until the
    /// chunk is full. Returns the first hash not copied, or `None` at the slot's end.
    fn copy_segment(&self, copy: &mut CopyCursor) -> Option<u64> {
        let (database, slot, hash) = copy.next;
        let tables = &self.databases.get(database)?.tables;
        let (segment, next) = tables[self.shard.local(slot)].segment_at(hash);
        let mut entries: Vec<(u64, &Entry)> = segment
            .iter()
            .map(|entry| (self.hasher.hash(entry.key()), entry))
            .filter(|&(of_entry, _)| of_entry >= hash)
            .collect();
        entries.sort_unstable_by_key(|&(of_entry, _)| of_entry);
        // Keys of equal hashes belong together: the cursor cannot stand between them.
        for group in entries.chunk_by(|(one, _), (other, _)| one == other) {
            let of_group = group[0].0;
            copy.move_to((database, slot, of_group));
            if copy.chunk.is_full() || !copy.copy_group(group) {
                return Some(of_group);
            }
        }
        next
    }

    /// Takes what a copy has to say so far, in order. `empty` takes its place.
    pub fn take_chunk(&mut self, id: CopyId, empty: FrameBuilder) -> FrameBuilder {
        match self.journal.copies.find_mut(id) {
            Some(copy) => std::mem::replace(&mut copy.chunk, empty),
            None => empty,
        }
    }

    /// Bytes that wait to be taken.
    pub fn chunk_bytes(&self, id: CopyId) -> usize {
        self.journal.copies.find(id).map_or(0, |copy| copy.chunk.len())
    }

    /// How often the copy of the long value that the cursor stands at began again, as the value
    /// changed. Where this grows, nothing but a pause of its writers lets the copy go on.
    pub fn copy_restarts(&self, id: CopyId) -> u32 {
        self.journal.copies.find(id).map_or(0, |copy| copy.here.restarts)
    }

    /// Ends a copy: changes are not followed any more.
    pub fn end_copy(&mut self, id: CopyId) {
        self.journal.copies.end(id);
    }
}

#[cfg(test)]
mod tests;
