//! The fold of records: a plain keyspace, for the inspector and as the model in tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{FRAME_BYTES_MAX, PARTITIONS};
use crate::record::{
    Operation, PartitionId, Record, RecordError, SequenceNumber, StoredValue, UnixMillis,
};
use crate::replay::{Block, BlockKind};

/// A value on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string of bytes.
    String(Vec<u8>),
    /// A string that is the decimal form of an integer.
    Integer(i64),
}

impl Value {
    /// Returns the bytes that a client reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::String(bytes) => bytes.clone(),
            Self::Integer(number) => number.to_string().into_bytes(),
        }
    }

    /// Returns the bytes of the value, in the form in which they can be changed.
    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        if let Self::Integer(number) = self {
            *self = Self::String(number.to_string().into_bytes());
        }
        match self {
            Self::String(bytes) => bytes,
            Self::Integer(_) => unreachable!("it was turned into a string"),
        }
    }
}

impl From<StoredValue<'_>> for Value {
    fn from(value: StoredValue<'_>) -> Self {
        match value {
            StoredValue::String(bytes) => Self::String(bytes.to_vec()),
            StoredValue::Integer(number) => Self::Integer(number),
        }
    }
}

/// A key's value and deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub value: Value,
    /// When the key expires, if it does. The fold removes no key for it: a record does.
    pub deadline: Option<UnixMillis>,
}

/// All keys of all databases, as folded from records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyspace {
    tables: BTreeMap<(u8, PartitionId), BTreeMap<Vec<u8>, Item>>,
    /// Partitions that are received from another node and not served yet.
    received: BTreeSet<PartitionId>,
}

impl Keyspace {
    /// Applies one record.
    ///
    /// # Errors
    ///
    /// When a value would grow beyond all limits, which no node writes; nothing is changed then.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        let place = (record.database, record.partition);
        match record.operation {
            Operation::Put { key, value, deadline } => {
                let item = Item { value: value.into(), deadline };
                self.tables.entry(place).or_default().insert(key.to_vec(), item);
            }
            Operation::Delete { key, .. } => {
                if let Some(table) = self.tables.get_mut(&place) {
                    table.remove(key);
                    if table.is_empty() {
                        self.tables.remove(&place);
                    }
                }
            }
            Operation::SetDeadline { key, deadline } => {
                let table = self.tables.get_mut(&place);
                if let Some(item) = table.and_then(|table| table.get_mut(key)) {
                    item.deadline = deadline;
                }
            }
            Operation::Append { key, bytes } => {
                self.value_mut(place, key).extend_from_slice(bytes);
            }
            Operation::WriteRange { key, offset, bytes } => {
                self.write_range(place, key, offset, bytes)?;
            }
            Operation::Flush => {
                self.tables.remove(&place);
            }
            Operation::Swap { other } => self.swap(record.partition, record.database, other),
            Operation::MoveIn { .. } => {
                self.clear(record.partition);
                self.received.insert(record.partition);
            }
            Operation::Own { .. } => {
                self.received.remove(&record.partition);
            }
            Operation::MoveOut { .. } => {
                self.clear(record.partition);
                self.received.remove(&record.partition);
            }
        }
        Ok(())
    }

    /// Applies the records of a block that its partitions' cuts do not cover.
    ///
    /// # Errors
    ///
    /// The index of the first record that cannot be decoded or applied, and why; those before it
    /// are applied.
    pub fn apply_block(
        &mut self,
        block: &Block,
        cuts: &[SequenceNumber; PARTITIONS],
    ) -> Result<(), (u32, RecordError)> {
        for (index, record) in (0..).zip(block.records()) {
            let record = record.map_err(|error| (index, error))?;
            let is_new = match block.kind {
                BlockKind::Snapshot { .. } => true,
                BlockKind::Frame { first } => {
                    first.plus(index.into()) >= cuts[usize::from(record.partition.0)]
                }
            };
            if is_new {
                self.apply(&record).map_err(|error| (index, error))?;
            }
        }
        Ok(())
    }

    /// Returns a key's item.
    pub fn get(&self, database: u8, key: &[u8]) -> Option<&Item> {
        let tables = self.tables.range((database, PartitionId(0))..);
        tables
            .take_while(|((found, _), _)| *found == database)
            .find_map(|(_, table)| table.get(key))
    }

    /// Returns whether a partition is received from another node and not served yet: its keys
    /// are here, and no client sees them.
    pub fn is_received(&self, partition: PartitionId) -> bool {
        self.received.contains(&partition)
    }

    /// Returns the partitions that are received and not served yet, in ascending order.
    pub fn received(&self) -> impl Iterator<Item = PartitionId> {
        self.received.iter().copied()
    }

    /// Returns all keys with database and item, by database and partition; those of partitions
    /// that are not served yet as well.
    pub fn iter(&self) -> impl Iterator<Item = (u8, PartitionId, &[u8], &Item)> {
        self.tables.iter().flat_map(|(&(database, partition), table)| {
            table.iter().map(move |(key, item)| (database, partition, key.as_slice(), item))
        })
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns the bytes of a key's value, which begins empty.
    fn value_mut(&mut self, place: (u8, PartitionId), key: &[u8]) -> &mut Vec<u8> {
        let table = self.tables.entry(place).or_default();
        let empty = || Item { value: Value::String(Vec::new()), deadline: None };
        table.entry(key.to_vec()).or_insert_with(empty).value.bytes_mut()
    }

    fn write_range(
        &mut self,
        place: (u8, PartitionId),
        key: &[u8],
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), RecordError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > FRAME_BYTES_MAX as u64 {
            let reason = format!("write up to byte {end} exceeds {FRAME_BYTES_MAX}");
            return Err(RecordError::Malformed { reason });
        }
        let (offset, end) = (offset as usize, end as usize);
        let value = self.value_mut(place, key);
        if value.len() < end {
            value.resize(end, 0);
        }
        value[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Removes the keys of a partition from all databases.
    fn clear(&mut self, partition: PartitionId) {
        self.tables.retain(|&(_, found), _| found != partition);
    }

    fn swap(&mut self, partition: PartitionId, one: u8, other: u8) {
        if one == other {
            return;
        }
        let (first, second) =
            (self.tables.remove(&(one, partition)), self.tables.remove(&(other, partition)));
        if let Some(table) = first {
            self.tables.insert((other, partition), table);
        }
        if let Some(table) = second {
            self.tables.insert((one, partition), table);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::DeleteCause;

    fn folded(operations: &[(u8, Operation<'_>)]) -> Keyspace {
        let mut keyspace = Keyspace::default();
        for (database, operation) in operations {
            let record =
                Record { partition: PartitionId(1), database: *database, operation: *operation };
            keyspace.apply(&record).unwrap();
        }
        keyspace
    }

    fn bytes(keyspace: &Keyspace, database: u8, key: &[u8]) -> Option<Vec<u8>> {
        keyspace.get(database, key).map(|item| item.value.to_bytes())
    }

    #[test]
    fn integers_turn_into_strings_when_bytes_are_written() {
        let put = Operation::Put { key: b"n", value: StoredValue::Integer(-12), deadline: None };
        let keyspace = folded(&[(0, put), (0, Operation::Append { key: b"n", bytes: b"3" })]);
        assert_eq!(bytes(&keyspace, 0, b"n").unwrap(), b"-123");
    }

    #[test]
    fn a_range_beyond_the_end_leaves_zeros() {
        let write = Operation::WriteRange { key: b"k", offset: 3, bytes: b"xy" };
        assert_eq!(bytes(&folded(&[(0, write)]), 0, b"k").unwrap(), b"\0\0\0xy");
        let far = Operation::WriteRange { key: b"k", offset: u64::MAX, bytes: b"x" };
        let record = Record { partition: PartitionId(0), database: 0, operation: far };
        assert!(Keyspace::default().apply(&record).is_err());
    }

    #[test]
    fn swap_flush_and_delete_act_on_one_partition_and_database() {
        let put = |key| Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
        let mut keyspace = folded(&[
            (0, put(b"a")),
            (1, put(b"b")),
            (0, Operation::Swap { other: 1 }),
            (0, Operation::Delete { key: b"b", cause: DeleteCause::Command }),
        ]);
        assert!(keyspace.get(1, b"a").is_some() && keyspace.len() == 1);
        let mut flush =
            Record { partition: PartitionId(2), database: 1, operation: Operation::Flush };
        keyspace.apply(&flush).unwrap();
        assert_eq!(keyspace.len(), 1, "another partition");
        flush.partition = PartitionId(1);
        keyspace.apply(&flush).unwrap();
        assert!(keyspace.is_empty());
    }

    #[test]
    fn a_move_clears_one_partition_in_all_databases_and_serves_it_from_own_on() {
        let put = |key| Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
        let other = Record { partition: PartitionId(2), database: 0, operation: put(b"other") };
        let (epoch, from) = (4, 7);
        for last in [Operation::MoveIn { epoch, from }, Operation::MoveOut { epoch, to: from }] {
            let mut keyspace = folded(&[(0, put(b"a")), (5, put(b"b"))]);
            keyspace.apply(&other).unwrap();
            keyspace
                .apply(&Record { partition: PartitionId(1), database: 0, operation: last })
                .unwrap();
            assert_eq!(keyspace.iter().map(|(_, _, key, _)| key).collect::<Vec<_>>(), [b"other"]);
            let received: Vec<_> = keyspace.received().collect();
            let expected = matches!(last, Operation::MoveIn { .. }).then_some(PartitionId(1));
            assert_eq!(received, Vec::from_iter(expected));
        }
        let received = [(0, Operation::MoveIn { epoch, from }), (3, put(b"k"))];
        let keyspace = folded(&received);
        assert!(keyspace.is_received(PartitionId(1)) && !keyspace.is_received(PartitionId(2)));
        for (last, keys) in
            [(Operation::Own { epoch, from }, 1), (Operation::MoveOut { epoch, to: from }, 0)]
        {
            let keyspace = folded(&[&received[..], &[(0, last)]].concat());
            assert!(!keyspace.is_received(PartitionId(1)), "{}", last.name());
            assert_eq!(keyspace.len(), keys, "{}", last.name());
        }
    }
}
