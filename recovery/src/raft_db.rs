//! Raft's log and its few notes, in a store of its own.
//!
//! Entries and notes are opaque bytes here; who runs Raft knows what they mean. Every change but
//! one is on disk before it returns, since Raft counts on that: an entry or a vote that a node
//! has acknowledged and then forgets can elect two leaders.
//!
//! The note `extent` says which entries there are. It is written behind the entries that it
//! covers and before those are removed that it covers no more. Since a crash leaves a prefix of
//! the changes, what it covers is there, and whatever else is there was never acknowledged.
//!
//! | key | value |
//! |---|---|
//! | `l`, index (8, big-endian), piece (2, big-endian) | a piece of an entry |
//! | `n`, number of the note | a note |
//! | `r` | the generation of the redo log (8, little-endian) |
//!
//! A value is the CRC32C (4 bytes, little-endian) of its key and of what follows; in a piece of
//! an entry the number of the entry's pieces (2, little-endian); and the bytes.
//!
//! sled opens as an earlier state where its tail is damaged, and a damaged end of the redo log
//! looks like one that a crash has cut short. So that a voter does not forget by that what it has
//! promised, the store and the redo log say of each other how far they were
//! (`RedoStore::marked`), and the redo log says of itself: up to each vote, and up to where
//! [`RaftDb::mark`] was called last, which is once a second. What is left to chance is damage of
//! the last entries' one group on top of a crash within that second: whether it was torn or rotted
//! no log can tell by itself (Alagappan et al., "Protocol-Aware Recovery for Consensus-Based
//! Storage", FAST 2018).

use std::path::{Path, PathBuf};

use crate::limits::{PIECE_BYTES_MAX, RAFT_ENTRY_BYTES_MAX, READ_BYTES};
use crate::redo_store::RedoStore;
use crate::sled_store::SledStore;
use crate::store::{LogStore, StoreError};

const ENTRY: u8 = b'l';
const NOTE: u8 = b'n';
const GENERATION: &[u8] = b"r";
const SUM_BYTES: usize = 4;
const COUNT_BYTES: usize = 2;
const KEY_BYTES: usize = 11;

/// Bytes of an entry in one piece.
const PIECE_BYTES: usize = PIECE_BYTES_MAX - SUM_BYTES - COUNT_BYTES;
const _: () = assert!(RAFT_ENTRY_BYTES_MAX / PIECE_BYTES < u16::MAX as usize);

/// Pages of 4 KiB of the redo log: 1 MiB, some thousand entries.
const REDO_LOG_PAGES: u32 = 256;

/// Why Raft's store refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaftDbError {
    /// Something that was stored is unreadable or missing. Nothing was changed.
    #[error(
        "raft's log in {dir} is damaged: {reason}; put a copy of the directory back that was made \
         when the node was last stopped, or remove it: a node that is alone then goes on with its \
         keys; one of several needs an empty data directory, and \
         `distcache-node cluster remove NODE --lost` gives the old one up"
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Reading or writing failed. After a failed change nothing is accepted until a restart.
    #[error("raft's log in {dir} failed: {reason}; see to the disk and restart the node")]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// Another process has it open.
    #[error("raft's log in {dir} is in use by another process: give each node its own directory")]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// The caller left a gap, or handed over more than fits; nothing was changed.
    #[error("raft's log in {dir} refused a change: {reason}")]
    Refused {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What Raft keeps besides its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The vote.
    Vote,
    /// Up to where the log is known to be committed.
    Committed,
    /// The last entry that was purged.
    Purged,
    /// The node that the log belongs to.
    Owner,
}

impl Note {
    const fn number(self) -> u8 {
        match self {
            Note::Vote => 1,
            Note::Committed => 2,
            Note::Purged => 3,
            Note::Owner => 4,
        }
    }
}

const EXTENT_NOTE: u8 = 0;

/// Raft's log and notes on disk.
#[derive(Debug)]
pub struct RaftDb {
    store: Box<dyn LogStore>,
    dir: PathBuf,
    extent: Extent,
    /// Why nothing is accepted any more.
    failure: Option<RaftDbError>,
}

/// The entries that there are: `first <= index < end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    first: u64,
    end: u64,
}

impl RaftDb {
    /// Opens or creates the store in a directory and checks every entry in it.
    ///
    /// # Errors
    ///
    /// When another process has it open, on file errors, and on damage.
    pub fn open(dir: &Path) -> Result<Self, RaftDbError> {
        std::fs::create_dir_all(dir).map_err(|error| RaftDbError::Failed {
            dir: dir.to_owned(),
            reason: error.to_string().to_lowercase(),
        })?;
        Self::over(open_store(dir).map_err(|error| db_error(dir, error))?, dir)
    }

    /// Opens the store in a directory that is a copy, to look into it: entries are checked when
    /// they are read, so that what is intact can be. `source` is for messages.
    ///
    /// # Errors
    ///
    /// On file errors, and when the store or the note about its extent is damaged.
    pub(crate) fn inspect(dir: &Path, source: &Path) -> Result<Self, RaftDbError> {
        Self::unchecked(open_store(dir).map_err(|error| db_error(source, error))?, source)
    }

    /// Uses a store that is open already; `dir` is for messages.
    ///
    /// # Errors
    ///
    /// On damage, and when the store fails.
    pub fn over(store: Box<dyn LogStore>, dir: &Path) -> Result<Self, RaftDbError> {
        let mut db = Self::unchecked(store, dir)?;
        db.drop_unacknowledged()?;
        let Extent { first, end } = db.extent;
        let mut next = first;
        while next < end {
            next += db.entries(next, end, READ_BYTES)?.len() as u64;
        }
        Ok(db)
    }

    /// Like [`over`](Self::over), without a look at the entries and without any change.
    pub(crate) fn unchecked(store: Box<dyn LogStore>, dir: &Path) -> Result<Self, RaftDbError> {
        let mut db = Self { store, dir: dir.to_owned(), extent: Extent::default(), failure: None };
        if let Some(bytes) = db.read_note(EXTENT_NOTE)? {
            db.extent = Extent::decode(&bytes)
                .ok_or_else(|| db.damaged("the note about its extent makes no sense".into()))?;
        }
        Ok(db)
    }

    /// Returns the index of the first entry, and the one behind the last: equal if there is none.
    pub fn extent(&self) -> (u64, u64) {
        (self.extent.first, self.extent.end)
    }

    /// Whether nothing was ever stored but the owner.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn is_blank(&self) -> Result<bool, RaftDbError> {
        let is_unset = |note| Ok::<_, RaftDbError>(self.note(note)?.is_none());
        Ok(self.extent == Extent::default() && is_unset(Note::Vote)? && is_unset(Note::Purged)?)
    }

    /// Appends entries, the first of which is number `index`, in place of those from there on if
    /// there are any. Those that were purged before are left out. They are on disk when this
    /// returns.
    ///
    /// # Errors
    ///
    /// When `index` would leave a gap, or an entry is longer than [`RAFT_ENTRY_BYTES_MAX`],
    /// nothing is stored. After any other error the store is closed to changes.
    pub fn append(&mut self, index: u64, entries: &[Vec<u8>]) -> Result<(), RaftDbError> {
        let Extent { first, end } = self.extent;
        // An empty log may begin anywhere, if nothing was purged.
        let begins = end == 0;
        if index > end && !begins {
            return Err(self.refused(format!("entry {index} was appended at {end}")));
        }
        if let Some(entry) = entries.iter().find(|entry| entry.len() > RAFT_ENTRY_BYTES_MAX) {
            let (len, limit) = (entry.len(), RAFT_ENTRY_BYTES_MAX);
            return Err(self.refused(format!("an entry of {len} bytes exceeds {limit}")));
        }
        let purged = first.saturating_sub(index).min(entries.len() as u64);
        let (index, entries) = (index + purged, &entries[purged as usize..]);
        if entries.is_empty() {
            return Ok(());
        }
        self.truncate(index)?;
        let first = if begins { index } else { first };
        let extent = Extent { first, end: index + entries.len() as u64 };
        self.change(|db| {
            for (index, entry) in (index..).zip(entries) {
                db.insert_entry(index, entry)?;
            }
            db.set_extent(extent)?;
            db.store.sync()
        })
    }

    /// Removes the entries from `index` on. They are gone from disk when this returns.
    ///
    /// # Errors
    ///
    /// The store is closed to changes.
    pub fn truncate(&mut self, index: u64) -> Result<(), RaftDbError> {
        let Extent { first, end } = self.extent;
        if index >= end {
            return Ok(());
        }
        let extent = Extent { first, end: index.max(first) };
        self.change(|db| {
            db.set_extent(extent)?;
            db.remove_entries(extent.end, end)?;
            db.store.sync()
        })
    }

    /// Removes the entries up to `index`, that one included, and stores `purged`, which says what
    /// it was. The next entry may be one behind it even if the log did not reach so far.
    ///
    /// # Errors
    ///
    /// The store is closed to changes.
    pub fn purge(&mut self, index: u64, purged: &[u8]) -> Result<(), RaftDbError> {
        let Extent { first, end } = self.extent;
        let next = (index + 1).max(first);
        let extent = Extent { first: next, end: end.max(next) };
        self.change(|db| {
            db.insert_note(Note::Purged.number(), purged)?;
            db.set_extent(extent)?;
            db.remove_entries(first, end.min(next))?;
            db.store.sync()
        })
    }

    /// Returns entries from `from` up to `to`, that one not included, clipped to what there is:
    /// at least one if there is any, then as long as they have fewer than `budget_bytes` together.
    ///
    /// # Errors
    ///
    /// On damage, and when the store cannot be read.
    pub fn entries(
        &self,
        from: u64,
        to: u64,
        budget_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, RaftDbError> {
        let (from, to) = (from.max(self.extent.first), to.min(self.extent.end));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in from..to {
            let entry = self.entry(index)?;
            bytes += entry.len();
            entries.push(entry);
            if bytes >= budget_bytes {
                break;
            }
        }
        Ok(entries)
    }

    /// Returns a note.
    ///
    /// # Errors
    ///
    /// On damage, and when the store cannot be read.
    pub fn note(&self, note: Note) -> Result<Option<Vec<u8>>, RaftDbError> {
        self.read_note(note.number())
    }

    /// Stores a note. It is on disk when this returns, except for [`Note::Committed`], which is
    /// there at the latest after the next change: it only saves time at a start.
    ///
    /// # Errors
    ///
    /// The store is closed to changes.
    pub fn set_note(&mut self, note: Note, bytes: &[u8]) -> Result<(), RaftDbError> {
        self.change(|db| {
            db.insert_note(note.number(), bytes)?;
            if note == Note::Committed {
                return Ok(());
            }
            db.store.sync()?;
            if note == Note::Vote { db.store.mark() } else { Ok(()) }
        })
    }

    /// Notes that all that was appended is on disk, so that its loss shows. Costs a sync if there
    /// is something new; to be called now and then.
    ///
    /// # Errors
    ///
    /// The store is closed to changes.
    pub fn mark(&mut self) -> Result<(), RaftDbError> {
        self.change(|db| db.store.mark())
    }

    /// Syncs for the last time.
    ///
    /// # Errors
    ///
    /// It is unknown whether the last [`Note::Committed`] is on disk; everything else is.
    pub fn close(&mut self) -> Result<(), RaftDbError> {
        self.change(|db| db.store.close())
    }

    fn change(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), RaftDbError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        change(self).map_err(|error| {
            let error = db_error(&self.dir, error);
            self.failure = Some(error.clone());
            error
        })
    }

    fn set_extent(&mut self, extent: Extent) -> Result<(), StoreError> {
        self.insert_note(EXTENT_NOTE, &extent.encode())?;
        self.extent = extent;
        Ok(())
    }

    fn insert_note(&mut self, number: u8, bytes: &[u8]) -> Result<(), StoreError> {
        let key = [NOTE, number];
        self.store.insert(&key, &sealed(&key, &[], bytes))
    }

    fn insert_entry(&mut self, index: u64, entry: &[u8]) -> Result<(), StoreError> {
        let count = entry.len().div_ceil(PIECE_BYTES).max(1) as u16;
        for number in 0..count {
            let at = usize::from(number) * PIECE_BYTES;
            let piece = &entry[at..entry.len().min(at + PIECE_BYTES)];
            let key = entry_key(index, number);
            self.store.insert(&key, &sealed(&key, &count.to_le_bytes(), piece))?;
        }
        Ok(())
    }

    /// Removes entries from the last to the first.
    fn remove_entries(&mut self, from: u64, to: u64) -> Result<(), StoreError> {
        for index in (from..to).rev() {
            let (start, end) = (entry_key(index, 0), entry_key(index + 1, 0));
            let pieces = self.store.range(&start, &end, usize::MAX)?;
            for (key, _) in pieces.iter().rev() {
                self.store.remove(key)?;
            }
        }
        Ok(())
    }

    /// Removes what the extent does not cover: the rest of a change that a crash cut short.
    fn drop_unacknowledged(&mut self) -> Result<(), RaftDbError> {
        let Extent { first, end } = self.extent;
        let (start, behind) = (vec![ENTRY], vec![ENTRY + 1]);
        let outside = [(start, entry_key(first, 0).to_vec()), (entry_key(end, 0).to_vec(), behind)];
        let mut is_changed = false;
        for (from, to) in outside {
            loop {
                let found = self.store.range(&from, &to, READ_BYTES);
                let found = found.map_err(|error| db_error(&self.dir, error))?;
                if found.is_empty() {
                    break;
                }
                is_changed = true;
                self.change(|db| found.iter().try_for_each(|(key, _)| db.store.remove(key)))?;
                // So that what is removed shows as removed, also through the redo log.
                self.change(|db| db.store.sync())?;
            }
        }
        if is_changed {
            log::debug!("removed entries of raft's log that were never acknowledged");
        }
        Ok(())
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, RaftDbError> {
        let (start, end) = (entry_key(index, 0), entry_key(index + 1, 0));
        let pieces = self.store.range(&start, &end, RAFT_ENTRY_BYTES_MAX * 2);
        let pieces = pieces.map_err(|error| db_error(&self.dir, error))?;
        let (mut entry, mut expected) = (Vec::new(), None);
        for (number, (key, value)) in pieces.iter().enumerate() {
            let body = unsealed(key, value).and_then(|body| body.split_at_checked(COUNT_BYTES));
            let count = body.map(|(count, _)| u16::from_le_bytes([count[0], count[1]]));
            let is_next = key.as_slice() == entry_key(index, number as u16)
                && expected.is_none_or(|expected| Some(expected) == count);
            let Some((_, piece)) = body.filter(|_| is_next) else {
                return Err(self.damaged(format!("entry {index} does not match its checksum")));
            };
            expected = count;
            entry.extend_from_slice(piece);
        }
        if expected.map(usize::from) != Some(pieces.len()) {
            return Err(self.damaged(format!("entry {index} is missing or not whole")));
        }
        Ok(entry)
    }

    fn read_note(&self, number: u8) -> Result<Option<Vec<u8>>, RaftDbError> {
        let found = self.store.range(&[NOTE, number], &[NOTE, number + 1], usize::MAX);
        let found = found.map_err(|error| db_error(&self.dir, error))?;
        let Some((key, value)) = found.first() else { return Ok(None) };
        match unsealed(key, value) {
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => Err(self.damaged(format!("note {number} does not match its checksum"))),
        }
    }

    fn damaged(&self, reason: String) -> RaftDbError {
        RaftDbError::Damaged { dir: self.dir.clone(), reason }
    }

    fn refused(&self, reason: String) -> RaftDbError {
        RaftDbError::Refused { dir: self.dir.clone(), reason }
    }
}

impl Extent {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..].copy_from_slice(&self.end.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        let u64_at =
            |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]));
        let extent = Self { first: u64_at(0), end: u64_at(8) };
        (extent.first <= extent.end).then_some(extent)
    }
}

fn open_store(dir: &Path) -> Result<Box<dyn LogStore>, StoreError> {
    let store = SledStore::open(dir)?;
    Ok(Box::new(RedoStore::marked(store, dir, REDO_LOG_PAGES, GENERATION)?))
}

fn entry_key(index: u64, piece: u16) -> [u8; KEY_BYTES] {
    let mut key = [ENTRY; KEY_BYTES];
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// Returns a value as it is stored.
fn sealed(key: &[u8], head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(SUM_BYTES + head.len() + body.len());
    value.extend_from_slice(&[0; SUM_BYTES]);
    value.extend_from_slice(head);
    value.extend_from_slice(body);
    let sum = crc32c::crc32c_append(crc32c::crc32c(key), &value[SUM_BYTES..]);
    value[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    value
}

/// Returns what a stored value holds, if it is intact and belongs to its key.
fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, rest) = value.split_at_checked(SUM_BYTES)?;
    (crc32c::crc32c_append(crc32c::crc32c(key), rest).to_le_bytes() == sum).then_some(rest)
}

fn db_error(dir: &Path, error: StoreError) -> RaftDbError {
    let dir = dir.to_owned();
    match error {
        StoreError::Full(reason) | StoreError::Io(reason) => RaftDbError::Failed { dir, reason },
        StoreError::Damaged(reason) => RaftDbError::Damaged { dir, reason },
        StoreError::Busy(_) => RaftDbError::Busy { dir },
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_store::{Failure, MemoryDisk};

    fn opened(disk: &MemoryDisk) -> RaftDb {
        RaftDb::over(Box::new(disk.store()), Path::new("raft")).unwrap()
    }

    fn entry(index: u64) -> Vec<u8> {
        // Every seventh takes two pieces.
        let len = if index.is_multiple_of(7) { PIECE_BYTES + 9 } else { index as usize };
        vec![index as u8; len]
    }

    fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
        (from..to).map(entry).collect()
    }

    fn all(db: &RaftDb) -> Vec<Vec<u8>> {
        db.entries(0, u64::MAX, usize::MAX).unwrap()
    }

    #[test]
    fn entries_and_notes_come_back_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = RaftDb::open(dir.path()).unwrap();
        assert!(db.is_blank().unwrap());
        db.append(0, &entries(0, 20)).unwrap();
        db.set_note(Note::Vote, b"term 3").unwrap();
        db.truncate(15).unwrap();
        db.purge(4, b"index 4").unwrap();
        drop(db);
        let db = RaftDb::open(dir.path()).unwrap();
        assert_eq!(db.extent(), (5, 15));
        assert_eq!(all(&db), entries(5, 15));
        assert_eq!(db.entries(8, 9, 1).unwrap(), entries(8, 9));
        assert_eq!(db.entries(0, 99, 1).unwrap().len(), 1, "at least one");
        assert_eq!(db.note(Note::Vote).unwrap().unwrap(), b"term 3");
        assert_eq!(db.note(Note::Purged).unwrap().unwrap(), b"index 4");
        assert_eq!(db.note(Note::Committed).unwrap(), None);
        assert!(!db.is_blank().unwrap());
        assert!(matches!(RaftDb::open(dir.path()), Err(RaftDbError::Busy { .. })));
    }

    #[test]
    fn gaps_are_refused_except_behind_what_was_purged() {
        let disk = MemoryDisk::default();
        let mut db = opened(&disk);
        db.append(1, &entries(1, 4)).unwrap();
        let error = db.append(5, &entries(5, 6)).unwrap_err();
        assert!(matches!(error, RaftDbError::Refused { .. }), "{error}");
        db.append(3, &entries(3, 5)).unwrap();
        assert_eq!(all(&db), entries(1, 5), "in place of an older one");
        db.purge(10, b"").unwrap();
        assert_eq!(db.extent(), (11, 11));
        db.append(9, &entries(9, 13)).unwrap();
        assert_eq!(all(&db), entries(11, 13), "what was purged is left out");
        db.truncate(2).unwrap();
        assert_eq!(db.extent(), (11, 11), "what was purged stays so");
        let long = vec![0; RAFT_ENTRY_BYTES_MAX + 1];
        assert!(matches!(db.append(11, &[long]), Err(RaftDbError::Refused { .. })));
        assert_eq!(all(&opened(&disk)), Vec::<Vec<u8>>::new());
    }

    /// Runs changes on a disk, and returns what the log must hold after each of them.
    fn script(db: &mut RaftDb) -> Vec<(u64, Vec<Vec<u8>>)> {
        let mut states = vec![(0, vec![])];
        let mut step = |db: &mut RaftDb, result: Result<(), RaftDbError>| {
            if result.is_ok() {
                states.push((db.extent().0, all(db)));
            }
            result.is_ok()
        };
        let _ = (|| {
            let result = db.append(1, &entries(1, 9));
            step(db, result).then_some(())?;
            let result = db.truncate(6);
            step(db, result).then_some(())?;
            let result = db.append(6, &entries(6, 15));
            step(db, result).then_some(())?;
            let result = db.purge(7, b"7");
            step(db, result).then_some(())?;
            let result = db.append(15, &entries(15, 16));
            step(db, result).then_some(())
        })();
        states
    }

    #[test]
    fn a_power_cut_at_any_change_leaves_what_was_acknowledged_or_the_next_state() {
        let disk = MemoryDisk::default();
        let whole = script(&mut opened(&disk));
        for after in 0..disk.operations() {
            let disk = MemoryDisk::default();
            let mut db = opened(&disk);
            disk.set_failure(Some(Failure { after, torn_bytes: None, is_full: false }));
            let done = script(&mut db).len();
            assert!(matches!(db.truncate(0), Err(RaftDbError::Failed { .. }) | Ok(())));
            for (kept, torn) in (0..=disk.unsynced()).flat_map(|k| [(k, None), (k, Some(600))]) {
                let db = opened(&disk.after_power_cut(kept, torn));
                let found = all(&db);
                let allowed = &whole[done - 1..whole.len().min(done + 1)];
                let is_allowed = allowed.iter().any(|(_, entries)| *entries == found);
                assert!(is_allowed, "{after} {kept}: {:?}", db.extent());
            }
        }
    }

    #[test]
    fn damage_is_named_and_says_what_to_do() {
        let disk = MemoryDisk::default();
        opened(&disk).append(1, &entries(1, 9)).unwrap();
        type Image = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;
        let damages: [fn(&mut Image); 4] = [
            |image| image.get_mut(entry_key(3, 0).as_slice()).unwrap()[7] ^= 1,
            |image| drop(image.remove(entry_key(7, 1).as_slice())),
            |image| drop(image.remove(entry_key(8, 0).as_slice())),
            |image| image.get_mut([NOTE, EXTENT_NOTE].as_slice()).unwrap()[5] ^= 1,
        ];
        for damage in damages {
            let copy = disk.after_power_cut(0, None);
            copy.corrupt(damage);
            let error = RaftDb::over(Box::new(copy.store()), Path::new("/data/raft")).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("/data/raft is damaged") && text.contains("remove it"), "{text}");
        }
    }
}
