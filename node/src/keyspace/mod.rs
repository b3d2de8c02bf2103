//! The keys of one shard, and the single door to them.
//!
//! Commands reach data only through [`Keyspace`]: `read`, `peek` and `write` find keys and hide
//! (and remove) those whose time is over; `put`, `remove`, `set_deadline`, `append` and
//! `write_range` change them and put the effect in the journal. Replay uses `apply`, which makes
//! the same changes without the journal, so state is always the fold of its records.
//!
//! - [`location`]: slot, partition and shard of a key;
//! - [`entry`]: one key with its value in one allocation;
//! - [`table`]: the keys of one slot;
//! - [`databases`]: the numbered databases, hidden ones too;
//! - [`apply`]: the changes that records state;
//! - [`partition`]: partitions as a whole, taken out and put in;
//! - [`copy`]: copies of partitions, made in slices while they change;
//! - [`lend`]: keys that a coordinator works on;
//! - [`relocate`]: values that move to, or are copied to, other keys;
//! - [`journal`]: the records of this turn, on their way to the log;
//! - [`expiry`] and [`eviction`]: removal in bounded slices;
//! - [`sample`]: keys drawn at random;
//! - [`walk`]: cursors over all keys.

pub mod apply;
pub mod copy;
pub mod databases;
pub mod entry;
pub mod eviction;
pub mod expiry;
pub mod journal;
pub mod lend;
pub mod location;
pub mod partition;
pub mod relocate;
pub mod sample;
pub mod table;
pub mod walk;
pub mod warm;

use distcache_protocol::slot::slot_of;

use crate::config::{Config, EvictionPolicy};
use crate::records::{DeleteCause, Operation, Record, StoredValue, UnixMillis};
use databases::Databases;
use entry::{Entry, Value};
use eviction::{AccessClock, AccessMode, EvictionPool};
use journal::Journal;
pub use location::{KeyHasher, SLOTS_PER_PARTITION, ShardId, partition_of};
use partition::Totals;
pub use partition::{DetachedPartition, PartitionSize};
use sample::Sampler;
use table::SlotTable;

/// Where a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Location {
    slot: u16,
    hash: u64,
}

/// Where a key was found; it is there until a key is inserted or removed.
#[derive(Debug, Clone, Copy)]
struct Found {
    at: Location,
    place: usize,
}

/// One of the numbered databases.
struct Database {
    tables: Vec<SlotTable>,
    keys: usize,
    /// Keys with a deadline.
    volatile: usize,
    /// Totals of each partition of the shard, changed only by `book`, with those above.
    partitions: Box<[Totals]>,
    sampler: Sampler,
    /// Estimated mean time that keys with a deadline have left, in ms; 0 where none was seen.
    average_ttl_millis: u64,
    /// The table that the next estimate begins at.
    ttl_cursor: usize,
}

/// What happens to a key's deadline when its value is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// It stays as it is.
    Keep,
    /// The key lives for ever.
    Clear,
    /// The key is gone from this time on.
    At(UnixMillis),
}

/// What `INFO stats` counts of a keyspace.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct KeyspaceStats {
    /// Lookups for reading that found a key.
    pub hits: u64,
    /// Lookups for reading that found none.
    pub misses: u64,
    /// Keys removed because their time was over.
    pub expired: u64,
    /// Keys removed because memory was short.
    pub evicted: u64,
    /// Writes since the start (Redis's `dirty`, never reset).
    pub writes: u64,
}

impl KeyspaceStats {
    /// Adds the lookups that a coordinator made on copies of these keys.
    pub fn add_lookups(&mut self, other: &KeyspaceStats) {
        self.hits += other.hits;
        self.misses += other.misses;
    }
}

/// Bounds on what commands may make, which `CONFIG SET` can change.
#[derive(Debug, Clone, Copy)]
pub struct KeyspaceLimits {
    /// Longest string that `APPEND` and `SETRANGE` make, and most memory that `LCS` takes for its
    /// work, in bytes (`proto-max-bulk-len`).
    pub string_bytes_max: u64,
}

impl Default for KeyspaceLimits {
    fn default() -> Self {
        KeyspaceLimits { string_bytes_max: 512 * 1024 * 1024 }
    }
}

/// Size of one database in a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseSize {
    /// Keys, expired ones that are not removed yet included.
    pub keys: usize,
    /// Keys with a deadline.
    pub volatile: usize,
    /// Estimated mean time that they have left, in ms; 0 where there is none.
    pub average_ttl_millis: u64,
}

/// The keys of one shard, in all databases.
pub struct Keyspace {
    shard: ShardId,
    hasher: KeyHasher,
    databases: Databases,
    selected: u8,
    now: UnixMillis,
    /// Bytes of entries and tables.
    used: usize,
    /// Whether lookups may update access clocks (`CLIENT NO-TOUCH`).
    touching: bool,
    /// How entries remember their last use.
    pub clock: AccessClock,
    /// Counters.
    pub stats: KeyspaceStats,
    /// Bounds.
    pub limits: KeyspaceLimits,
    /// Effects of this turn.
    pub journal: Journal,
    expiry: expiry::Cursor,
    pool: EvictionPool,
    lent: lend::LentKeys,
    /// Tables that were removed as a whole, until somebody drops them.
    removed: Vec<SlotTable>,
    /// The key that the command under way names first.
    hint: Option<warm::Hint>,
}

impl Keyspace {
    /// Returns an empty keyspace of which commands reach `databases` databases.
    pub fn new(shard: ShardId, databases: u16, hasher: KeyHasher) -> Self {
        Keyspace {
            shard,
            hasher,
            databases: Databases::new(databases),
            selected: 0,
            now: UnixMillis(0),
            used: 0,
            touching: true,
            clock: AccessClock::default(),
            stats: KeyspaceStats::default(),
            limits: KeyspaceLimits::default(),
            journal: Journal::default(),
            expiry: expiry::Cursor::default(),
            pool: EvictionPool::default(),
            lent: lend::LentKeys::default(),
            removed: Vec::new(),
            hint: None,
        }
    }

    /// Returns an empty keyspace of the same shard: keys can be moved between the two.
    pub fn twin(&self) -> Self {
        Keyspace::new(self.shard, self.databases.reached(), self.hasher.clone())
    }

    /// The shard whose keys these are.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Follows the configuration.
    pub fn configure(&mut self, config: &Config) {
        self.clock.mode = match config.maxmemory_policy {
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => AccessMode::Lfu,
            _ => AccessMode::Lru,
        };
        self.clock.lfu_log_factor = config.lfu_log_factor;
        self.clock.lfu_decay_minutes = config.lfu_decay_minutes;
        self.limits.string_bytes_max = config.proto_bulk_max_bytes;
    }

    /// Sets time and database for the commands that follow.
    #[inline]
    pub fn begin(&mut self, now: UnixMillis, database: u8) {
        self.now = now;
        self.selected = database;
        self.clock.set_now(now);
    }

    /// Time of this turn.
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// The selected database.
    pub fn database(&self) -> u8 {
        self.selected
    }

    /// Number of databases that commands reach.
    pub fn databases(&self) -> u16 {
        self.databases.reached()
    }

    /// Runs `body` with another database selected.
    pub fn in_database<T>(&mut self, database: u8, body: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.selected, database);
        let result = body(self);
        self.selected = before;
        result
    }

    /// Whether lookups update access clocks.
    pub fn set_touching(&mut self, touching: bool) {
        self.touching = touching;
    }

    /// Runs `body` so that lookups update access clocks, or not, whatever the client wants.
    pub fn with_touching<T>(&mut self, touching: bool, body: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.touching, touching);
        let result = body(self);
        self.touching = before;
        result
    }

    /// Bytes of entries and tables, as the allocator rounds them.
    #[inline]
    pub fn used_bytes(&self) -> usize {
        self.used
    }

    /// Size of each database, behind those that commands reach also hidden ones.
    pub fn sizes(&self) -> Vec<DatabaseSize> {
        let size = |database: Option<&Database>| {
            database.map_or(DatabaseSize::default(), |database| DatabaseSize {
                keys: database.keys,
                volatile: database.volatile,
                average_ttl_millis: match database.volatile {
                    0 => 0,
                    _ => database.average_ttl_millis,
                },
            })
        };
        self.databases.slots().map(size).collect()
    }

    #[inline]
    fn locate(&self, key: &[u8]) -> Location {
        match &self.hint {
            Some(hint) if hint.is_of(key) => hint.location(),
            _ => self.compute_location(key),
        }
    }

    #[inline]
    fn compute_location(&self, key: &[u8]) -> Location {
        Location { slot: slot_of(key), hash: self.hasher.hash(key) }
    }

    #[inline]
    fn table(&self, slot: u16) -> Option<&SlotTable> {
        let database = self.databases.get(self.selected)?;
        Some(&database.tables[self.shard.local(slot)])
    }

    /// Finds a key for a command that reads its value: counts hit or miss, and notes the use.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        let found = self.find_live(key, true);
        // Counted apart, as the borrow of the entry must be the last thing that happens.
        match found {
            Some(found) => {
                self.stats.hits += 1;
                self.entry_found(found)
            }
            None => {
                self.stats.misses += 1;
                None
            }
        }
    }

    /// Finds a key for a command that reads only about it: counts, but does not note a use.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        let found = self.find_live(key, false);
        if found.is_some() {
            self.stats.hits += 1;
        } else {
            self.stats.misses += 1;
        }
        found.and_then(|found| self.entry_found(found))
    }

    /// Finds a key for a command that will change it: notes the use, counts nothing.
    #[inline]
    pub fn write(&mut self, key: &[u8]) -> Option<&Entry> {
        let found = self.find_live(key, true)?;
        self.entry_found(found)
    }

    /// Finds a key without any trace: no counter, no use, no removal of an expired key.
    pub fn inspect(&self, key: &[u8]) -> Option<&Entry> {
        let at = self.locate(key);
        self.entry_at(at, key).filter(|entry| entry.deadline().is_none_or(|at| at > self.now))
    }

    fn entry_at(&self, at: Location, key: &[u8]) -> Option<&Entry> {
        self.table(at.slot)?.find(at.hash, key)
    }

    /// The entry that [`Keyspace::find_live`] has found, without another search.
    #[inline]
    fn entry_found(&self, found: Found) -> Option<&Entry> {
        self.table(found.at.slot)?.entry_at(found.at.hash, found.place)
    }

    /// Finds a key that has not expired; removes it if it has.
    #[inline]
    fn find_live(&mut self, key: &[u8], touch: bool) -> Option<Found> {
        let at = self.locate(key);
        let (now, touching) = (self.now, self.touching && touch);
        let local = self.shard.local(at.slot);
        let database = self.databases.get_mut(self.selected)?;
        let (place, entry) = database.tables[local].find_place_mut(at.hash, key)?;
        if entry.deadline().is_some_and(|deadline| deadline <= now) {
            self.remove_at(at, key, DeleteCause::Expired);
            return None;
        }
        if touching {
            let access = self.clock.touched(entry.access());
            entry.set_access(access);
        }
        Some(Found { at, place })
    }

    /// Puts a value under a key, whatever was there.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: Value<'_>, deadline: Deadline) {
        let at = self.locate(key);
        let deadline = self.put_at(at, key, value, deadline);
        let value = match value {
            Value::Integer(integer) => StoredValue::Integer(integer),
            Value::String(bytes) => StoredValue::String(bytes),
        };
        self.record(at, Operation::Put { key, value, deadline });
    }

    /// Puts a value under a key that this command has looked up with [`Keyspace::write`], which has
    /// noted the use: a command is one use.
    pub fn put_found(&mut self, key: &[u8], value: Value<'_>, deadline: Deadline) {
        self.with_touching(false, |keyspace| keyspace.put(key, value, deadline));
    }

    fn put_at(
        &mut self,
        at: Location,
        key: &[u8],
        value: Value<'_>,
        deadline: Deadline,
    ) -> Option<UnixMillis> {
        let (shard, local) = (self.shard, self.shard.local(at.slot));
        let database = self.databases.make(self.selected, shard);
        let table = &mut database.tables[local];
        if let Some(entry) = table.find_mut(at.hash, key) {
            let before = Totals::of(entry);
            let old = entry.deadline();
            let new = match deadline {
                // A deadline that has passed belongs to a key that is gone already.
                Deadline::Keep => old.filter(|&old| old > self.now),
                Deadline::Clear => None,
                Deadline::At(at) => Some(at),
            };
            entry.replace(value, new);
            if self.touching {
                let access = self.clock.touched(entry.access());
                entry.set_access(access);
            }
            let now = Totals::of(entry);
            if let Some(new) = new {
                table.note_deadline(at.hash, new);
            }
            database.book(&mut self.used, local, now, before);
            return new;
        }
        let new = match deadline {
            Deadline::Keep | Deadline::Clear => None,
            Deadline::At(at) => Some(at),
        };
        let entry = Entry::new(key, value, new, self.clock.fresh());
        let now = Totals::of(&entry);
        let grown = table.insert_new(at.hash, entry, |entry| self.hasher.hash(entry.key()));
        database.book(&mut self.used, local, now.and_bytes(grown), Totals::NONE);
        new
    }

    /// Removes a key. Returns whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        match self.find_live(key, false) {
            Some(found) => self.remove_at(found.at, key, DeleteCause::Command),
            None => false,
        }
    }

    fn remove_at(&mut self, at: Location, key: &[u8], cause: DeleteCause) -> bool {
        // What a coordinator works on neither expires nor is evicted under its hands.
        if cause != DeleteCause::Command && self.is_held(key) || self.take_at(at, key).is_none() {
            return false;
        }
        match cause {
            DeleteCause::Command => {}
            DeleteCause::Expired => self.stats.expired += 1,
            DeleteCause::Evicted => self.stats.evicted += 1,
        }
        self.record(at, Operation::Delete { key, cause });
        true
    }

    /// Takes an entry out of its table, without a record.
    fn take_at(&mut self, at: Location, key: &[u8]) -> Option<Entry> {
        let local = self.shard.local(at.slot);
        let database = self.databases.get_mut(self.selected)?;
        let table = &mut database.tables[local];
        let entry = table.remove(at.hash, key)?;
        let before = Totals::of(&entry).and_bytes(table.shrink(at.hash));
        database.book(&mut self.used, local, Totals::NONE, before);
        Some(entry)
    }

    /// Sets or clears the deadline of a key. Returns whether the key is there.
    pub fn set_deadline(&mut self, key: &[u8], deadline: Option<UnixMillis>) -> bool {
        let Some(Found { at, .. }) = self.find_live(key, false) else { return false };
        self.change_at(at, key, |entry| entry.set_deadline(deadline));
        self.record(at, Operation::SetDeadline { key, deadline });
        true
    }

    /// Sets a key's access clock: it moves with a value that is renamed or copied. No record, as
    /// uses of keys are not effects.
    pub fn set_access(&mut self, key: &[u8], access: u32) {
        self.change_at(self.locate(key), key, |entry| entry.set_access(access));
    }

    /// Appends to a string, which is made if it is not there. Returns its new length.
    pub fn append(&mut self, key: &[u8], bytes: &[u8]) -> usize {
        let Some(Found { at, .. }) = self.find_live(key, false) else {
            self.put(key, Value::String(bytes), Deadline::Clear);
            return bytes.len();
        };
        let length = self.append_at(at, key, bytes);
        self.record(at, Operation::Append { key, bytes });
        length
    }

    fn append_at(&mut self, at: Location, key: &[u8], bytes: &[u8]) -> usize {
        self.change_at(at, key, |entry| {
            let string = entry.growable();
            string.extend_from_slice(bytes);
            string.len()
        })
        .unwrap_or_default()
    }

    /// Overwrites part of a string, which is made, or lengthened with zeros, as needed. Returns
    /// its new length.
    pub fn write_range(&mut self, key: &[u8], offset: usize, bytes: &[u8]) -> usize {
        let at = match self.find_live(key, false) {
            Some(found) => found.at,
            None => {
                // With a record: where a coordinator writes to a copy, the owner of the key may
                // have one that has expired still.
                self.put(key, Value::String(b""), Deadline::Clear);
                self.locate(key)
            }
        };
        let length = self.write_range_at(at, key, offset, bytes);
        self.record(at, Operation::WriteRange { key, offset: offset as u64, bytes });
        length
    }

    fn write_range_at(&mut self, at: Location, key: &[u8], offset: usize, bytes: &[u8]) -> usize {
        self.change_at(at, key, |entry| {
            let string = entry.growable();
            let end = offset + bytes.len();
            lengthen(string, end);
            string[offset..end].copy_from_slice(bytes);
            string.len()
        })
        .unwrap_or_default()
    }

    /// Changes an entry in place and keeps the accounts.
    fn change_at<T>(
        &mut self,
        at: Location,
        key: &[u8],
        change: impl FnOnce(&mut Entry) -> T,
    ) -> Option<T> {
        let local = self.shard.local(at.slot);
        let database = self.databases.get_mut(self.selected)?;
        let table = &mut database.tables[local];
        let entry = table.find_mut(at.hash, key)?;
        let before = Totals::of(entry);
        let result = change(entry);
        let (now, deadline) = (Totals::of(entry), entry.deadline());
        if let Some(deadline) = deadline {
            table.note_deadline(at.hash, deadline);
        }
        database.book(&mut self.used, local, now, before);
        Some(result)
    }

    #[inline]
    fn record(&mut self, at: Location, operation: Operation<'_>) {
        self.stats.writes += 1;
        let partition = partition_of(at.slot);
        let record = Record { partition, database: self.selected, operation };
        self.journal.push(at.slot, at.hash, &record);
    }
}

impl Database {
    fn new(shard: ShardId) -> Self {
        let tables = (0..shard.slots()).map(|_| SlotTable::default()).collect();
        let partitions = shard.slots() / SLOTS_PER_PARTITION as usize;
        Database {
            tables,
            keys: 0,
            volatile: 0,
            partitions: vec![Totals::NONE; partitions].into(),
            sampler: Sampler::default(),
            average_ttl_millis: 0,
            ttl_cursor: 0,
        }
    }
}

/// Lengthens a string with zeros, unless it is long enough. Where it becomes much longer, the zeros
/// are memory that nobody has touched, so that this costs little until they are overwritten.
fn lengthen(string: &mut Vec<u8>, length: usize) {
    if length > 2 * string.capacity() {
        let mut longer = vec![0; length];
        longer[..string.len()].copy_from_slice(string);
        *string = longer;
    } else if length > string.len() {
        string.resize(length, 0);
    }
}

#[cfg(test)]
mod tests;
