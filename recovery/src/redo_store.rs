//! A store whose syncs go to the redo log while they are small.
//!
//! Changes reach the store at once, where they may be written or not, and the redo log at a sync.
//! When the redo log is full, or a group too large for it, the store itself is synced and the
//! redo log begins anew. After a crash the redo log's changes are made once more, in order.
//!
//! Making a change again must do no harm although later ones may be in the store. That holds for
//! insertions: a crash then leaves all that was synced, and of the rest some newer insertions.
//! It does not hold for an insertion whose key was removed later. So a removal waits while the
//! redo log holds anything, and reaches the store only when the redo log has it too.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::redo_log::{Change, Group, REDO_LOG_PAGES, RedoLog};
use crate::sled_store::SledStore;
use crate::store::{Entry, LogStore, StoreError};

/// A [`LogStore`] with a redo log in front.
#[derive(Debug)]
pub(crate) struct RedoStore<S> {
    store: S,
    dir: PathBuf,
    /// Pages of a new redo log.
    pages: u32,
    /// `None` until the first sync that could use it.
    redo_log: Option<RedoLog>,
    /// Whether the redo log's file could not be created; every sync is the store's then.
    is_refused: bool,
    /// Changes since the last sync.
    group: Group,
    /// Removals that the store has yet to see.
    waiting: BTreeSet<Vec<u8>>,
}

impl RedoStore<SledStore> {
    /// Opens or creates the store in a directory, and brings it up to date with the redo log.
    ///
    /// # Errors
    ///
    /// As [`SledStore::open`]; also when the redo log cannot be read or is damaged.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::over(SledStore::open(dir)?, dir, REDO_LOG_PAGES)
    }
}

impl<S: LogStore> RedoStore<S> {
    /// Puts the redo log in `dir`, of so many pages if it is new, in front of a store.
    pub(crate) fn over(mut store: S, dir: &Path, pages: u32) -> Result<Self, StoreError> {
        let mut redo_log = None;
        if let Some((mut found, contents)) = RedoLog::open(dir)? {
            for change in contents.changes() {
                match change {
                    Change::Insert(key, value) => store.insert(key, value)?,
                    Change::Remove(key) => store.remove(key)?,
                }
            }
            store.sync()?;
            found.reset().map_err(redo_error)?;
            redo_log = Some(found);
        }
        let (group, waiting) = (Group::default(), BTreeSet::new());
        let dir = dir.to_owned();
        Ok(Self { store, dir, pages, redo_log, is_refused: false, group, waiting })
    }

    /// Returns the redo log if it has room for the group.
    fn redo_log(&mut self) -> Option<&mut RedoLog> {
        if self.redo_log.is_none() && !self.is_refused && !self.group.is_over() {
            match RedoLog::create(&self.dir, self.pages) {
                Ok(redo_log) => self.redo_log = Some(redo_log),
                Err(error) => {
                    log::warn!(error = error.to_string().as_str();
                        "no redo log: policy always is slower until the next start");
                    self.is_refused = true;
                }
            }
        }
        self.redo_log.as_mut().filter(|redo_log| redo_log.has_room(&self.group))
    }

    /// Shows the store the removals that waited; returns whether there were any.
    fn remove_waiting(&mut self) -> Result<bool, StoreError> {
        for key in &self.waiting {
            self.store.remove(key)?;
        }
        let any = !self.waiting.is_empty();
        self.waiting.clear();
        Ok(any)
    }

    /// Syncs the store itself, after which the redo log is void.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.store.sync()?;
        if let Some(redo_log) = &mut self.redo_log {
            redo_log.reset().map_err(redo_error)?;
        }
        self.group.clear();
        if self.remove_waiting()? {
            self.store.sync()?;
        }
        Ok(())
    }
}

impl<S: LogStore> LogStore for RedoStore<S> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.waiting.remove(key);
        self.store.insert(key, value)?;
        self.group.push(Change::Insert(key, value));
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.group.push(Change::Remove(key));
        if self.redo_log.as_ref().is_some_and(|redo_log| !redo_log.is_empty()) {
            self.waiting.insert(key.to_vec());
            return Ok(());
        }
        self.store.remove(key)
    }

    fn range(&self, from: &[u8], to: &[u8], budget_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        self.store.range(from, to, budget_bytes)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.last_key(from, to)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.group.is_empty() {
            return Ok(());
        }
        if self.redo_log().is_none() {
            return self.checkpoint();
        }
        let Self { redo_log: Some(redo_log), group, .. } = self else { return Ok(()) };
        redo_log.append(group).map_err(redo_error)?;
        group.clear();
        self.remove_waiting()?;
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.checkpoint()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let redo_log = self.redo_log.as_ref().map_or(0, RedoLog::file_bytes);
        Ok(self.store.disk_bytes()? + redo_log)
    }
}

fn redo_error(error: io::Error) -> StoreError {
    let text = format!("redo log: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(text),
        _ => StoreError::Io(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_store::{MemoryDisk, MemoryStore};

    fn opened(disk: &MemoryDisk, dir: &Path) -> RedoStore<MemoryStore> {
        RedoStore::over(disk.store(), dir, 3).unwrap()
    }

    fn keys(store: &impl LogStore) -> Vec<(String, String)> {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let entries = store.range(&[], &[0xff], usize::MAX).unwrap();
        entries.into_iter().map(|(key, value)| (text(key), text(value))).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn what_the_redo_log_holds_is_done_again() {
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let mut store = opened(&disk, dir.path());
        store.insert(b"a", b"1").unwrap();
        store.sync().unwrap();
        store.insert(b"b", b"2").unwrap();
        assert_eq!(disk.unsynced(), 2, "the sync went to the redo log");
        let cut = disk.after_power_cut(0, None);
        assert_eq!(keys(&opened(&cut, dir.path())), [pair("a", "1")]);
        // With the store up to date the redo log is void.
        assert_eq!(keys(&opened(&MemoryDisk::default(), dir.path())), []);
    }

    #[test]
    fn a_removal_reaches_the_store_only_with_what_it_stands_on() {
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let mut store = opened(&disk, dir.path());
        store.insert(b"frame", b"x").unwrap();
        store.close().unwrap();
        store.insert(b"note", b"none removed").unwrap();
        store.sync().unwrap();
        store.insert(b"note", b"frame removed").unwrap();
        store.remove(b"frame").unwrap();
        // A crash now brings the older note back: the frame must still be there.
        let crashed = disk.after_power_cut(usize::MAX, None);
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("redo"), copy.path().join("redo")).unwrap();
        let expected = [pair("frame", "x"), pair("note", "none removed")];
        assert_eq!(keys(&opened(&crashed, copy.path())), expected);
        // The next sync has both, here through the store, as the redo log is full.
        store.sync().unwrap();
        store.insert(b"other", b"y").unwrap();
        store.sync().unwrap();
        let expected = [pair("note", "frame removed"), pair("other", "y")];
        assert_eq!(keys(&store), expected);
        let cut = disk.after_power_cut(0, None);
        assert_eq!(keys(&opened(&cut, dir.path())), expected);
    }

    #[test]
    fn a_key_stored_again_is_not_removed_late() {
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let mut store = opened(&disk, dir.path());
        store.insert(b"a", b"1").unwrap();
        store.sync().unwrap();
        store.remove(b"a").unwrap();
        store.insert(b"a", b"2").unwrap();
        store.sync().unwrap();
        assert_eq!(keys(&store), [pair("a", "2")]);
    }

    #[test]
    fn without_a_place_for_the_redo_log_the_store_syncs() {
        let disk = MemoryDisk::default();
        let dir = tempfile::tempdir().unwrap();
        let mut store = opened(&disk, &dir.path().join("missing"));
        store.insert(b"a", b"1").unwrap();
        store.sync().unwrap();
        assert_eq!(disk.unsynced(), 0);
    }
}
