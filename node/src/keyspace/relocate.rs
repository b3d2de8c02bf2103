//! What a key holds, put under another key or in another database of the same shard.
//!
//! The records are those of a plain put, and of a removal: so replay, owners and copies need to
//! know of no command by which a value moves.

use super::Keyspace;
use super::entry::{Entry, INLINE_BYTES_MAX, Value};
use super::partition::Totals;
use crate::records::{DeleteCause, Operation, StoredValue};

impl Keyspace {
    /// Moves the entry of `from`, which must be there, to `to` in database `target`, whatever is
    /// there, with its deadline and its access clock. Costs one copy of the value, for the log.
    pub fn relocate(&mut self, from: &[u8], to: &[u8], target: u8) {
        let at = self.locate(from);
        let Some(mut entry) = self.take_at(at, from) else { return };
        entry.set_key(to);
        self.in_database(target, |keyspace| keyspace.place(entry));
        self.record(at, Operation::Delete { key: from, cause: DeleteCause::Command });
    }

    /// Copies what `from` holds to `to` in database `target`, whatever is there. The copy is a new
    /// entry, not used yet. Costs two copies of the value, one of them for the log.
    pub fn duplicate(&mut self, from: &[u8], to: &[u8], target: u8) {
        let access = self.clock.fresh();
        let Some(copy) = self.inspect(from).map(|entry| entry.copy_as(to, access)) else { return };
        self.in_database(target, |keyspace| keyspace.place(copy));
    }

    /// Puts an entry in its place, with the records by which it is made again.
    fn place(&mut self, entry: Entry) {
        let (at, key, deadline) = (self.locate(entry.key()), entry.key(), entry.deadline());
        match entry.value() {
            Value::Integer(integer) => {
                let value = StoredValue::Integer(integer);
                self.record(at, Operation::Put { key, value, deadline });
            }
            Value::String(bytes) if entry.is_growable() && bytes.len() <= INLINE_BYTES_MAX => {
                // So that it can grow where the records are applied too.
                let value = StoredValue::String(b"");
                self.record(at, Operation::Put { key, value, deadline });
                self.record(at, Operation::Append { key, bytes });
            }
            Value::String(bytes) => {
                let value = StoredValue::String(bytes);
                self.record(at, Operation::Put { key, value, deadline });
            }
        }
        self.put_entry(entry);
    }

    /// Puts an entry in its place, without a record.
    pub(super) fn put_entry(&mut self, entry: Entry) {
        let at = self.locate(entry.key());
        let (shard, local) = (self.shard, self.shard.local(at.slot));
        let database = self.databases.make(self.selected, shard);
        let table = &mut database.tables[local];
        let now = Totals::of(&entry);
        let Some(old) = table.find_mut(at.hash, entry.key()) else {
            let grown = table.insert_new(at.hash, entry, |entry| self.hasher.hash(entry.key()));
            return database.book(&mut self.used, local, now.and_bytes(grown), Totals::NONE);
        };
        let (before, deadline) = (Totals::of(old), entry.deadline());
        old.replace_whole(entry);
        if let Some(deadline) = deadline {
            table.note_deadline(at.hash, deadline);
        }
        database.book(&mut self.used, local, now, before);
    }
}

#[cfg(test)]
mod tests {
    use distcache_recovery::{FrameBuilder, RecordCursor};

    use super::*;
    use crate::keyspace::{Deadline, KeyHasher, ShardId};
    use crate::records::UnixMillis;

    const DEADLINE: UnixMillis = UnixMillis(900);

    fn keyspace() -> Keyspace {
        let mut keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 2, KeyHasher::new(5));
        keyspace.journal.set_enabled(true);
        keyspace
    }

    /// Where the bytes of a string are in memory.
    fn buffer(keyspace: &mut Keyspace, key: &[u8], database: u8) -> *const u8 {
        keyspace.in_database(database, |keyspace| match keyspace.inspect(key).unwrap().value() {
            Value::String(bytes) => bytes.as_ptr(),
            Value::Integer(_) => panic!("no string"),
        })
    }

    #[test]
    fn a_long_value_that_moves_keeps_its_buffer() {
        let mut keyspace = keyspace();
        let long = vec![b'x'; 1 << 20];
        keyspace.put(b"to", Value::String(b"old"), Deadline::At(UnixMillis(10)));
        keyspace.put(b"from", Value::String(&long), Deadline::At(DEADLINE));
        keyspace.set_access(b"from", 77);
        let before = buffer(&mut keyspace, b"from", 0);
        keyspace.relocate(b"from", b"to", 0);
        assert_eq!(buffer(&mut keyspace, b"to", 0), before, "another name");
        keyspace.relocate(b"to", b"to", 1);
        assert_eq!(buffer(&mut keyspace, b"to", 1), before, "another database");
        let moved = keyspace.in_database(1, |keyspace| {
            let entry = keyspace.inspect(b"to").unwrap();
            (entry.deadline(), entry.access())
        });
        assert_eq!(moved, (Some(DEADLINE), 77));
        assert!(keyspace.inspect(b"from").is_none() && keyspace.inspect(b"to").is_none());
        crate::keyspace::tests::check_accounts(&keyspace).unwrap();
    }

    #[test]
    fn the_records_of_what_moves_make_the_same_keys() {
        let mut keyspace = keyspace();
        keyspace.put(b"number", Value::Integer(7), Deadline::Clear);
        keyspace.put(b"grown", Value::String(b"a"), Deadline::At(DEADLINE));
        keyspace.append(b"grown", b"b");
        keyspace.put(b"short", Value::String(b"text"), Deadline::Clear);
        keyspace.relocate(b"number", b"{n}", 1);
        keyspace.relocate(b"grown", b"{g}", 0);
        keyspace.duplicate(b"{g}", b"{c}", 1);
        keyspace.duplicate(b"short", b"{g}2", 0);
        let frame = keyspace.journal.take(FrameBuilder::default());
        let mut again = self::keyspace();
        for record in RecordCursor::new(frame.payload(), frame.count()) {
            again.apply(&record.unwrap());
        }
        let keys: [&[u8]; 7] = [b"number", b"grown", b"short", b"{n}", b"{g}", b"{c}", b"{g}2"];
        let mut found = 0;
        for (database, key) in (0..2).flat_map(|database| keys.map(|key| (database, key))) {
            let look = |keyspace: &mut Keyspace| {
                keyspace.in_database(database, |keyspace| {
                    let entry = keyspace.inspect(key)?;
                    let value = format!("{:?}", entry.value());
                    Some((value, entry.deadline(), entry.is_growable()))
                })
            };
            let (one, other) = (look(&mut keyspace), look(&mut again));
            assert_eq!(one, other, "{} of {database}", key.escape_ascii());
            found += usize::from(one.is_some());
        }
        assert_eq!(found, 5);
        crate::keyspace::tests::check_accounts(&keyspace).unwrap();
    }
}
