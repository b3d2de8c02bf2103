//! Log records: effects of commands, with final values and absolute times.
//!
//! Replaying records needs no clock and no randomness. A record has no sequence number of its
//! own: it is its frame's first sequence plus its index in the frame.
//! The binary form is bincode 2's standard configuration (little-endian varints).

use std::fmt;

use bincode::error::DecodeError;
use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

/// A partition: 16 consecutive hash slots, `0..1024`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
pub struct PartitionId(pub u16);

/// The number of a record in the log of one node; the first record has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// Returns the sequence number `count` records later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize,
)]
pub struct UnixMillis(pub u64);

/// The ownership epoch of a partition: it grows with each change of who has it, and with each
/// restart of that node.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(PartitionId, SequenceNumber, UnixMillis, Epoch);

/// One change of one partition of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Record<'a> {
    /// The partition that the key belongs to.
    pub partition: PartitionId,
    /// The database (`SELECT`), from 0.
    pub database: u8,
    /// What changed.
    pub operation: Operation<'a>,
}

/// The effect of a command on the keyspace.
///
/// New kinds are appended at the end and need a new format version only when old readers must
/// not skip them, which is always: a reader refuses kinds that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Operation<'a> {
    /// The key holds this value from now on, with this deadline or none.
    Put {
        /// The key.
        key: &'a [u8],
        /// The whole new value.
        value: StoredValue<'a>,
        /// When the key expires, if it does.
        deadline: Option<UnixMillis>,
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Why it is gone.
        cause: DeleteCause,
    },
    /// The key's deadline is this from now on; its value is unchanged.
    SetDeadline {
        /// The key.
        key: &'a [u8],
        /// When the key expires, if it does.
        deadline: Option<UnixMillis>,
    },
    /// These bytes follow the string value; a missing key counts as an empty string.
    Append {
        /// The key.
        key: &'a [u8],
        /// What was appended.
        bytes: &'a [u8],
    },
    /// These bytes overwrite the string value at an offset; a gap is filled with zeros.
    WriteRange {
        /// The key.
        key: &'a [u8],
        /// Where the bytes go, counted from the value's begin.
        offset: u64,
        /// What was written.
        bytes: &'a [u8],
    },
    /// All keys of this partition in this database are gone.
    Flush,
    /// This partition's keys of the record's database and of this one change places.
    Swap {
        /// The other database.
        other: u8,
    },
    /// A copy of this partition begins to come from another node: all keys of the partition in
    /// all databases are gone, and those that follow are received, but not served yet.
    MoveIn {
        /// The epoch in which the partition is copied.
        epoch: u64,
        /// The node that sends the copy.
        from: u64,
    },
    /// This node serves the partition from now on; the keys stay as they are.
    Own {
        /// The epoch that begins with this.
        epoch: u64,
        /// The node that served it before.
        from: u64,
    },
    /// The partition is another node's, or a copy was cancelled before it was served: all keys of
    /// the partition in all databases are gone.
    MoveOut {
        /// The epoch in which this node has the partition no more.
        epoch: u64,
        /// The node that serves it.
        to: u64,
    },
}

/// A stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum StoredValue<'a> {
    /// A string of bytes.
    String(&'a [u8]),
    /// A string that is the decimal form of an integer.
    Integer(i64),
}

/// Why a key was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DeleteCause {
    /// A command deleted it.
    Command,
    /// Its deadline passed.
    Expired,
    /// It made room under the memory limit.
    Evicted,
}

/// Why bytes are not a record. The record and all after it in the same frame are unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside the record.
    #[error("record ends early: {missing} more bytes are needed")]
    Truncated {
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// A kind that this version does not know; a newer version wrote it.
    #[error("{what} kind {found} was written by a newer format: use a newer distcache")]
    NewerFormat {
        /// The enum that has the unknown variant.
        what: &'static str,
        /// The unknown variant's number.
        found: u32,
    },
    /// The partition is outside `0..1024`.
    #[error("partition {found} is outside 0..1024")]
    Partition {
        /// The partition found.
        found: u16,
    },
    /// The bytes have no meaning.
    #[error("record is malformed: {reason}")]
    Malformed {
        /// What the decoder said.
        reason: String,
    },
    /// The payload holds more or fewer records than its frame's header says.
    #[error("frame announces {announced} records but {found}")]
    Count {
        /// The count of the header.
        announced: u32,
        /// What was found instead.
        found: &'static str,
    },
}

impl Record<'_> {
    /// Appends the record's binary form to `out`, which is the only thing that may allocate.
    ///
    /// Costs one pass over the bytes; 20 to 40 ns for a key of 16 and a value of 64 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // Into a slice, because a Vec would look for room at each of the eight small fields.
        let begin = out.len();
        out.resize(begin + self.encoded_len_max(), 0);
        let written = bincode::encode_into_slice(self, &mut out[begin..], CONFIG)
            .expect("the slice is long enough for the longest varints");
        out.truncate(begin + written);
    }

    /// Decodes the record at the start of `bytes`; returns it and the number of bytes it takes.
    ///
    /// # Errors
    ///
    /// See [`RecordError`]; nothing is allocated but the error.
    pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), RecordError> {
        let (record, used): (Record<'_>, usize) =
            bincode::borrow_decode_from_slice(bytes, CONFIG).map_err(RecordError::from)?;
        if usize::from(record.partition.0) >= crate::limits::PARTITIONS {
            return Err(RecordError::Partition { found: record.partition.0 });
        }
        Ok((record, used))
    }
}

impl Record<'_> {
    /// Returns a bound on the length of the binary form.
    #[inline]
    fn encoded_len_max(&self) -> usize {
        let bytes = match self.operation {
            Operation::Put { key, value: StoredValue::String(value), .. } => {
                key.len() + value.len()
            }
            Operation::Append { key, bytes } | Operation::WriteRange { key, bytes, .. } => {
                key.len() + bytes.len()
            }
            Operation::Put { key, value: StoredValue::Integer(_), .. }
            | Operation::Delete { key, .. }
            | Operation::SetDeadline { key, .. } => key.len(),
            Operation::Flush
            | Operation::Swap { .. }
            | Operation::MoveIn { .. }
            | Operation::Own { .. }
            | Operation::MoveOut { .. } => 0,
        };
        bytes + FIELDS_LEN_MAX
    }
}

impl<'a> Operation<'a> {
    /// Returns the key that the operation names; none for whole partitions.
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::SetDeadline { key, .. }
            | Self::Append { key, .. }
            | Self::WriteRange { key, .. } => Some(key),
            Self::Flush
            | Self::Swap { .. }
            | Self::MoveIn { .. }
            | Self::Own { .. }
            | Self::MoveOut { .. } => None,
        }
    }

    /// Returns whether this is a step of a move, which concerns the partition in all databases;
    /// the record's own database is 0.
    pub fn is_move(&self) -> bool {
        matches!(self, Self::MoveIn { .. } | Self::Own { .. } | Self::MoveOut { .. })
    }

    /// Returns the operation's name, as the inspector prints it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete { cause: DeleteCause::Command, .. } => "delete",
            Self::Delete { cause: DeleteCause::Expired, .. } => "expire",
            Self::Delete { cause: DeleteCause::Evicted, .. } => "evict",
            Self::SetDeadline { .. } => "set-deadline",
            Self::Append { .. } => "append",
            Self::WriteRange { .. } => "write-range",
            Self::Flush => "flush",
            Self::Swap { .. } => "swap",
            Self::MoveIn { .. } => "move-in",
            Self::Own { .. } => "own",
            Self::MoveOut { .. } => "move-out",
        }
    }
}

/// Decodes the records of one payload, one after another, without copying.
///
/// Ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordCursor<'a> {
    rest: &'a [u8],
    announced: u32,
    left: u32,
    done: bool,
}

impl<'a> RecordCursor<'a> {
    /// Returns a cursor over `payload`, which must hold exactly `count` records.
    pub fn new(payload: &'a [u8], count: u32) -> Self {
        Self { rest: payload, announced: count, left: count, done: false }
    }
}

impl<'a> Iterator for RecordCursor<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            let found = "has bytes after the last";
            return (!self.rest.is_empty())
                .then_some(Err(RecordError::Count { announced: self.announced, found }));
        }
        if self.rest.is_empty() {
            self.done = true;
            let found = "ends before the last";
            return Some(Err(RecordError::Count { announced: self.announced, found }));
        }
        match Record::decode(self.rest) {
            Ok((record, used)) => {
                self.rest = &self.rest[used..];
                self.left -= 1;
                Some(Ok(record))
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::UnexpectedEnd { additional } => Self::Truncated { missing: additional },
            DecodeError::UnexpectedVariant { type_name, found, .. } => {
                let what = match type_name {
                    "Operation" => "operation",
                    "StoredValue" => "value",
                    _ => "field",
                };
                Self::NewerFormat { what, found }
            }
            other => Self::Malformed { reason: other.to_string().to_lowercase() },
        }
    }
}

const CONFIG: bincode::config::Configuration = bincode::config::standard();

/// Most bytes of a record besides its key and its value: six varints of up to nine bytes, four
/// single bytes, and some to spare.
const FIELDS_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(operation: Operation<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Record { partition: PartitionId(700), database: 3, operation }.encode(&mut out);
        out
    }

    #[test]
    fn every_operation_survives_encoding() {
        let deadline = Some(UnixMillis(1_800_000_000_000));
        let operations = [
            Operation::Put { key: b"k", value: StoredValue::String(b"v\0\xff"), deadline },
            Operation::Put { key: b"", value: StoredValue::Integer(i64::MIN), deadline: None },
            Operation::Delete { key: b"k", cause: DeleteCause::Evicted },
            Operation::SetDeadline { key: b"k", deadline: None },
            Operation::Append { key: b"k", bytes: b"more" },
            Operation::WriteRange { key: b"k", offset: u64::MAX, bytes: b"x" },
            Operation::Flush,
            Operation::Swap { other: 15 },
            Operation::MoveIn { epoch: u64::MAX, from: u64::MAX },
            Operation::Own { epoch: 0, from: 1 },
            Operation::MoveOut { epoch: 1 << 40, to: 250 },
        ];
        for operation in operations {
            let bytes = encoded(operation);
            let (record, used) = Record::decode(&bytes).unwrap();
            assert_eq!(record.operation, operation);
            assert_eq!((record.partition.0, record.database, used), (700, 3, bytes.len()));
            for cut in 0..bytes.len() {
                assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_small_put_takes_ten_bytes_more_than_key_and_value() {
        let put = Operation::Put {
            key: &[b'k'; 16],
            value: StoredValue::String(&[b'v'; 64]),
            deadline: None,
        };
        assert_eq!(encoded(put).len(), 16 + 64 + 10 - 1);
    }

    #[test]
    fn kinds_keep_their_numbers() {
        let steps = [
            (5, Operation::Flush),
            (6, Operation::Swap { other: 1 }),
            (7, Operation::MoveIn { epoch: 2, from: 3 }),
            (8, Operation::Own { epoch: 2, from: 3 }),
            (9, Operation::MoveOut { epoch: 2, to: 3 }),
        ];
        for (number, operation) in steps {
            // Before it: the partition, three bytes, and the database.
            assert_eq!(encoded(operation)[4], number, "{}", operation.name());
        }
        assert_eq!(encoded(Operation::MoveOut { epoch: 2, to: 3 })[4..], [9, 2, 3]);
    }

    #[test]
    fn unknown_kinds_are_called_newer() {
        let mut bytes = encoded(Operation::Flush);
        let last = bytes.len() - 1;
        bytes[last] = 99;
        let error = Record::decode(&bytes).unwrap_err();
        assert_eq!(error, RecordError::NewerFormat { what: "operation", found: 99 });
        assert!(error.to_string().contains("newer"));
    }

    #[test]
    fn a_partition_outside_the_range_is_refused() {
        let mut bytes = Vec::new();
        let record =
            Record { partition: PartitionId(1024), database: 0, operation: Operation::Flush };
        record.encode(&mut bytes);
        assert_eq!(Record::decode(&bytes), Err(RecordError::Partition { found: 1024 }));
    }

    #[test]
    fn a_cursor_notices_missing_and_surplus_records() {
        let mut bytes = encoded(Operation::Flush);
        bytes.extend(encoded(Operation::Swap { other: 1 }));
        let all: Result<Vec<_>, _> = RecordCursor::new(&bytes, 2).collect();
        assert_eq!(all.unwrap().len(), 2);
        for count in [1, 3] {
            let found: Vec<_> = RecordCursor::new(&bytes, count).collect();
            assert!(matches!(found.last(), Some(Err(RecordError::Count { .. }))));
        }
    }
}
