//! The append buffer of a shard: records become a frame's payload in place.

use crate::frame::HEADER_BYTES;
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_USUAL, PARTITIONS};
use crate::record::{Operation, PartitionId, Record, RecordCursor, RecordError};

/// A set of partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionSet(pub(crate) [u64; PARTITIONS / 64]);

impl PartitionSet {
    /// Adds a partition.
    #[inline]
    pub fn insert(&mut self, partition: PartitionId) {
        self.0[usize::from(partition.0) / 64] |= 1 << (partition.0 % 64);
    }

    /// Returns whether the partition is in the set.
    pub fn contains(&self, partition: PartitionId) -> bool {
        self.0[usize::from(partition.0) / 64] & 1 << (partition.0 % 64) != 0
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// Returns the partitions in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(PartitionId((index * 64) as u16 + bit as u16))
            })
        })
    }
}

/// Records on their way to the log, or to a snapshot, in the form in which they are stored.
///
/// A shard pushes records, sends the builder to the log's owner, which appends it, clears it and
/// may send it back; the memory is used again and nothing is copied on the way.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    /// Room for the header, then the records.
    framed: Vec<u8>,
    count: u32,
    partitions: PartitionSet,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self { framed: vec![0; HEADER_BYTES], count: 0, partitions: PartitionSet::default() }
    }
}

impl FrameBuilder {
    /// Returns an empty builder with room for one frame of the usual size.
    pub fn new() -> Self {
        let mut builder = Self::default();
        builder.framed.reserve(FRAME_BYTES_USUAL);
        builder
    }

    /// Returns a builder with records that were encoded elsewhere, as by another node.
    ///
    /// Costs one pass over the bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes: among other things, records of other partitions than `only`,
    /// or of databases from `databases` on.
    pub fn from_records(
        payload: &[u8],
        count: u32,
        only: PartitionId,
        databases: u16,
    ) -> Result<Self, RecordError> {
        for record in RecordCursor::new(payload, count) {
            let Record { partition, database, operation } = record?;
            let other = if let Operation::Swap { other } = operation { other } else { 0 };
            if partition != only || u16::from(database.max(other)) >= databases {
                let reason =
                    format!("it is not of partition {only} and one of {databases} databases");
                return Err(RecordError::Malformed { reason });
            }
        }
        let mut builder = Self { count, ..Self::default() };
        builder.framed.extend_from_slice(payload);
        if count > 0 {
            builder.partitions.insert(only);
        }
        Ok(builder)
    }

    /// Appends a record and returns its index.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) -> u32 {
        record.encode(&mut self.framed);
        self.partitions.insert(record.partition);
        self.count += 1;
        self.count - 1
    }

    /// Takes the records of another builder over, behind its own, and clears the other.
    ///
    /// Returns false, and changes nothing, when the frame would be too long.
    #[must_use]
    pub fn absorb(&mut self, other: &mut Self) -> bool {
        if self.len() + other.len() > FRAME_BYTES_MAX {
            return false;
        }
        self.framed.extend_from_slice(other.payload());
        self.count += other.count;
        self.partitions.extend(&other.partitions);
        other.clear();
        true
    }

    /// Returns the bytes of the records.
    pub fn len(&self) -> usize {
        self.framed.len() - HEADER_BYTES
    }

    /// Returns whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether the builder has the usual size and should be handed over.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.framed.len() >= HEADER_BYTES + FRAME_BYTES_USUAL
    }

    /// Returns the number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the partitions that the records belong to.
    pub fn partitions(&self) -> &PartitionSet {
        &self.partitions
    }

    /// Returns the encoded records.
    pub fn payload(&self) -> &[u8] {
        &self.framed[HEADER_BYTES..]
    }

    /// Forgets the records and keeps the memory, unless one large record made it large.
    pub fn clear(&mut self) {
        self.framed.truncate(HEADER_BYTES);
        self.framed.shrink_to(HEADER_BYTES + 4 * FRAME_BYTES_USUAL);
        self.count = 0;
        self.partitions = PartitionSet::default();
    }

    /// Returns the records behind room for a header.
    pub(crate) fn framed_mut(&mut self) -> &mut [u8] {
        &mut self.framed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush(partition: u16) -> Record<'static> {
        Record { partition: PartitionId(partition), database: 0, operation: Operation::Flush }
    }

    #[test]
    fn records_from_elsewhere_are_checked() {
        let mut frame = FrameBuilder::new();
        frame.push(&flush(3));
        frame.push(&Record { operation: Operation::Swap { other: 1 }, ..flush(3) });
        let read = |partition, databases| {
            let (payload, count) = (frame.payload(), frame.count());
            FrameBuilder::from_records(payload, count, PartitionId(partition), databases)
        };
        let same = read(3, 2).unwrap();
        assert_eq!((same.payload(), same.count()), (frame.payload(), 2));
        assert!(same.partitions().contains(PartitionId(3)));
        assert!(read(4, 2).is_err() && read(3, 1).is_err());
        assert!(FrameBuilder::from_records(&frame.payload()[1..], 2, PartitionId(3), 2).is_err());
    }

    #[test]
    fn builders_keep_records_and_partitions_when_joined() {
        let (mut one, mut two) = (FrameBuilder::new(), FrameBuilder::new());
        one.push(&flush(3));
        two.push(&flush(1023));
        assert_eq!(two.push(&flush(64)), 1);
        assert!(one.absorb(&mut two));
        assert!(two.is_empty() && two.payload().is_empty());
        let found: Vec<u16> = RecordCursor::new(one.payload(), one.count())
            .map(|record| record.unwrap().partition.0)
            .collect();
        assert_eq!(found, [3, 1023, 64]);
        let partitions: Vec<u16> = one.partitions().iter().map(|partition| partition.0).collect();
        assert_eq!(partitions, [3, 64, 1023]);
        assert!(one.partitions().contains(PartitionId(64)));
    }
}
