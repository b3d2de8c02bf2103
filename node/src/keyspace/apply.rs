//! Changes that records state.

use super::entry::Value;
use super::{Deadline, Keyspace};
use crate::records::{Operation, Record, StoredValue};

impl Keyspace {
    /// Makes the change that a record states, without the journal. Records are effects, so this
    /// needs no clock: what has expired since stays until somebody looks. The selected database
    /// stays selected.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.in_database(record.database, |keyspace| keyspace.apply_here(record));
    }

    /// The same in the selected database.
    fn apply_here(&mut self, record: &Record<'_>) {
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
            Operation::Flush => self.flush(record.partition),
            Operation::Swap { other } => self.swap(record.partition, record.database, other),
            Operation::MoveIn { .. } | Operation::MoveOut { .. } => {
                for database in self.databases.numbers() {
                    self.selected = database;
                    self.flush(record.partition);
                }
                self.selected = record.database;
            }
            Operation::Own { .. } => {}
        }
    }
}
