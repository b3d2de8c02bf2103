//! A store whose syncs go to the redo log while they are small.
//!
//! While the redo log is empty, changes go to the store at once, which writes them when it likes.
//! A sync appends what has changed since the last one to the redo log. From then on changes are
//! held back and reach the store behind the sync that makes them durable: so the store never has
//! a change that the redo log lacks, and making the redo log's changes once more, in order, ends
//! in the state of the last sync whatever the store had of them.
//!
//! When the redo log is full, and when there are more changes than it is worth writing twice, it
//! is retired: the store is synced, the redo log begins anew, and nothing is held back.
//!
//! A store that must not come back as it was earlier ([`RedoStore::marked`]) has the generation
//! of the redo log under a key of its own, written as the last change before each sync that the
//! redo log relies on. sled drops its tail without a word when it meets damage there; then its
//! generation is below the redo log's, which shows the loss and costs no sync.

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
    /// Salt of a new redo log.
    salt: u32,
    /// `None` until the first sync that could use it.
    redo_log: Option<RedoLog>,
    /// Whether the redo log's file could not be created; every sync is the store's then.
    is_refused: bool,
    /// Changes since the last sync; held back from the store while the redo log is not empty.
    group: Group,
    /// What was left out at the opening although all counts as intact, in words.
    warning: Option<String>,
    /// Where the store has the redo log's generation, if it does.
    generation_key: Option<&'static [u8]>,
}

impl RedoStore<SledStore> {
    /// Opens or creates the store in a directory, and brings it up to date with the redo log,
    /// which has this salt from then on; with 0 it keeps the one it has.
    ///
    /// # Errors
    ///
    /// As [`SledStore::open`]; also when the redo log cannot be read or is damaged.
    pub(crate) fn open(dir: &Path, salt: u32) -> Result<Self, StoreError> {
        Self::over(SledStore::open(dir)?, dir, REDO_LOG_PAGES, salt)
    }
}

impl<S: LogStore> RedoStore<S> {
    /// Puts the redo log in `dir`, of so many pages if it is new, in front of a store.
    pub(crate) fn over(
        mut store: S,
        dir: &Path,
        pages: u32,
        salt: u32,
    ) -> Result<Self, StoreError> {
        let (mut redo_log, mut warning) = (None, None);
        if let Some((found, contents)) = RedoLog::open(dir)? {
            warning = contents.warning();
            for change in contents.changes() {
                apply(&mut store, change)?;
            }
            redo_log = Some(found);
        }
        // Also without a redo log: what is read back counts as being on disk from now on.
        store.sync()?;
        if let Some(found) = &mut redo_log {
            let reset = if salt == 0 { found.reset() } else { found.reset_with_salt(salt) };
            reset.map_err(redo_error)?;
        }
        Ok(Self { salt, warning, ..Self::new(store, dir, pages, redo_log, None) })
    }

    /// Like [`over`](Self::over), and refuses to go on from less than was on disk: with the redo
    /// log's generation under `key`, which nobody else uses.
    ///
    /// # Errors
    ///
    /// Also when the store or the redo log has lost something that was on disk, when the redo log
    /// is missing, and when there is no room for it.
    pub(crate) fn marked(
        store: S,
        dir: &Path,
        pages: u32,
        key: &'static [u8],
    ) -> Result<Self, StoreError> {
        let Some((redo_log, contents)) = RedoLog::open(dir)? else {
            // It is there before the store has anything.
            if store.last_key(&[], &[u8::MAX])?.is_some() {
                return Err(StoreError::Damaged("the redo log is missing".to_owned()));
            }
            // No client's value comes here, so there is nothing to be told apart by a salt.
            let redo_log = RedoLog::create(dir, pages, 0).map_err(redo_error)?;
            return Ok(Self::new(store, dir, pages, Some(redo_log), Some(key)));
        };
        let (found, expected) = (generation_in(&store, key)?, redo_log.generation());
        let is_empty = redo_log.is_empty();
        let mut opened = Self::new(store, dir, pages, Some(redo_log), Some(key));
        if let Some(warning) = contents.warning() {
            log::warn!(reason = warning.as_str(); "a write was cut short");
        }
        if found == expected + 1 {
            // It was cut short when the store had all and the redo log was to begin anew.
            opened.settle(found)?;
        } else if found != expected {
            return Err(StoreError::Damaged(format!(
                "the store is of generation {found} and the redo log of {expected}: a part of what \
                 was on disk is lost, or an earlier version wrote it"
            )));
        } else if is_empty {
            opened.store.sync()?;
        } else {
            contents.changes().try_for_each(|change| apply(&mut opened.store, change))?;
            opened.settle(expected + 1)?;
        }
        Ok(opened)
    }

    fn new(
        store: S,
        dir: &Path,
        pages: u32,
        redo_log: Option<RedoLog>,
        generation_key: Option<&'static [u8]>,
    ) -> Self {
        let (dir, group) = (dir.to_owned(), Group::default());
        let (salt, is_refused, warning) = (0, false, None);
        Self { store, dir, pages, salt, redo_log, is_refused, group, warning, generation_key }
    }

    /// Says what was left out at the opening although all counts as intact, if anything.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Whether changes wait for a sync.
    fn is_holding(&self) -> bool {
        self.redo_log.as_ref().is_some_and(|redo_log| !redo_log.is_empty())
    }

    fn change(&mut self, change: Change<'_>) -> Result<(), StoreError> {
        let fits = self.group.push(change);
        if self.is_holding() {
            if fits {
                return Ok(());
            }
            self.retire()?;
        }
        apply(&mut self.store, change)
    }

    /// Brings the store up to date, after which the redo log is empty and nothing is held back.
    fn retire(&mut self) -> Result<(), StoreError> {
        self.sync_store()?;
        self.apply_group()
    }

    /// Syncs the store, and lets the redo log begin anew.
    fn sync_store(&mut self) -> Result<(), StoreError> {
        match (&mut self.redo_log, self.generation_key) {
            (Some(redo_log), Some(_)) => {
                let next = redo_log.generation() + 1;
                self.settle(next)
            }
            (Some(redo_log), None) => {
                self.store.sync()?;
                redo_log.reset().map_err(redo_error)
            }
            (None, _) => self.store.sync(),
        }
    }

    /// Brings the store and the redo log to a generation: the store first, so that it is never
    /// behind. If a crash comes between the two, the store is ahead by one.
    fn settle(&mut self, generation: u64) -> Result<(), StoreError> {
        if let Some(key) = self.generation_key {
            self.store.insert(key, &generation.to_le_bytes())?;
        }
        self.store.sync()?;
        match &mut self.redo_log {
            Some(redo_log) => redo_log.begin_generation(generation).map_err(redo_error),
            None => Ok(()),
        }
    }

    fn apply_group(&mut self) -> Result<(), StoreError> {
        self.group.changes().try_for_each(|change| apply(&mut self.store, change))
    }

    /// Returns the redo log if it has room for the group.
    fn redo_log_with_room(&mut self) -> Option<&mut RedoLog> {
        if self.redo_log.is_none() && !self.is_refused && !self.group.is_over() {
            match RedoLog::create(&self.dir, self.pages, self.salt) {
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
}

impl<S: LogStore> LogStore for RedoStore<S> {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.change(Change::Insert(key, value))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.change(Change::Remove(key))
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
        if self.redo_log_with_room().is_none() && self.is_holding() {
            self.retire()?;
        }
        let is_held = self.is_holding();
        if self.redo_log_with_room().is_none() {
            self.sync_store()?;
        } else if let Some(redo_log) = &mut self.redo_log {
            redo_log.append(&mut self.group).map_err(redo_error)?;
            if is_held {
                self.apply_group()?;
            }
        }
        self.group.clear();
        Ok(())
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.redo_log.as_mut().map_or(Ok(()), |redo_log| redo_log.mark().map_err(redo_error))
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        if self.is_holding() { self.retire() } else { self.store.sync() }
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let redo_log = self.redo_log.as_ref().map_or(0, RedoLog::file_bytes);
        Ok(self.store.disk_bytes()? + redo_log)
    }
}

/// Returns the generation that a store has under a key; that of a new redo log if it has none.
fn generation_in(store: &impl LogStore, key: &[u8]) -> Result<u64, StoreError> {
    let found = store.range(key, &[key, &[0]].concat(), usize::MAX)?;
    let Some((_, value)) = found.first() else { return Ok(1) };
    let bytes = value.as_slice().try_into().map_err(|_| {
        StoreError::Damaged("the generation of the redo log is not readable".to_owned())
    })?;
    Ok(u64::from_le_bytes(bytes))
}

fn apply(store: &mut impl LogStore, change: Change<'_>) -> Result<(), StoreError> {
    match change {
        Change::Insert(key, value) => store.insert(key, value),
        Change::Remove(key) => store.remove(key),
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
    use crate::memory_store::{Failure, MemoryDisk, MemoryStore};

    fn opened(disk: &MemoryDisk, dir: &Path) -> RedoStore<MemoryStore> {
        RedoStore::over(disk.store(), dir, 3, 9).unwrap()
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
        assert_eq!(disk.unsynced(), 1, "the sync went to the redo log");
        let cut = disk.after_power_cut(0, None);
        assert_eq!(keys(&opened(&cut, dir.path())), [pair("a", "1")]);
        // With the store up to date the redo log is void.
        assert_eq!(keys(&opened(&MemoryDisk::default(), dir.path())), []);
    }

    #[test]
    fn the_store_has_nothing_that_the_redo_log_lacks() {
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
        // The next syncs have both, here with a redo log that is full.
        store.sync().unwrap();
        store.insert(b"other", b"y").unwrap();
        store.sync().unwrap();
        let expected = [pair("note", "frame removed"), pair("other", "y")];
        assert_eq!(keys(&store), expected);
        let cut = disk.after_power_cut(0, None);
        assert_eq!(keys(&opened(&cut, dir.path())), expected);
    }

    #[test]
    fn more_than_a_group_holds_goes_to_the_store() {
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let mut store = RedoStore::over(disk.store(), dir.path(), 256, 9).unwrap();
        store.insert(b"small", b"1").unwrap();
        store.sync().unwrap();
        let value = vec![b'v'; 15_000];
        for number in 0..20 {
            store.insert(format!("large {number:02}").as_bytes(), &value).unwrap();
        }
        assert_eq!(keys(&store).len(), 21, "nothing is held back any more");
        store.sync().unwrap();
        assert_eq!(disk.unsynced(), 0);
        let cut = disk.after_power_cut(0, None);
        assert_eq!(keys(&opened(&cut, dir.path())).len(), 21);
    }

    const KEY: &[u8] = b"~";

    fn marked(disk: &MemoryDisk, dir: &Path) -> Result<RedoStore<MemoryStore>, StoreError> {
        RedoStore::marked(disk.store(), dir, 5, KEY)
    }

    /// Returns a folder with the redo log as it is in another one.
    fn copy_of(dir: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        if dir.join("redo").exists() {
            std::fs::copy(dir.join("redo"), copy.path().join("redo")).unwrap();
        }
        copy
    }

    /// Writes, syncs, marks, closes, until something fails. Returns how many syncs succeeded: the
    /// value of `key` says of how many changes one knows.
    fn script(disk: &MemoryDisk, dir: &Path) -> (usize, Result<(), StoreError>) {
        let mut synced = 0;
        let run = |synced: &mut usize| -> Result<(), StoreError> {
            for round in 0..3 {
                let mut store = marked(disk, dir)?;
                for step in 0..9 {
                    store.insert(b"key", format!("{}", *synced + 1).as_bytes())?;
                    if step == 4 && round != 1 {
                        // More than goes to the redo log.
                        (0..20).try_for_each(|n| store.insert(&[b'l', n], &[n; 15_000]))?;
                    }
                    store.sync()?;
                    *synced += 1;
                    if step % 4 == round {
                        store.mark()?;
                    }
                }
                if round != 1 {
                    store.close()?;
                }
            }
            Ok(())
        };
        let result = run(&mut synced);
        (synced, result)
    }

    fn syncs_in(store: &impl LogStore) -> usize {
        keys(store).iter().find(|(key, _)| key == "key").map_or(0, |(_, n)| n.parse().unwrap())
    }

    #[test]
    fn a_power_cut_at_any_change_leaves_a_marked_store_that_opens_with_what_was_synced() {
        let (whole, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let (all, result) = script(&whole, dir.path());
        assert_eq!((all, result), (27, Ok(())));
        for after in 0..whole.operations() {
            let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
            disk.set_failure(Some(Failure { after, torn_bytes: None, is_full: false }));
            let (synced, result) = script(&disk, dir.path());
            assert!(result.is_err());
            for kept in (0..=disk.unsynced()).rev().take(3).chain([0]) {
                // The start behind it is cut short as well, at any of its changes.
                for cut_after in 0..4 {
                    let (cut, dir) = (disk.after_power_cut(kept, None), copy_of(dir.path()));
                    let after = cut_after;
                    cut.set_failure(Some(Failure { after, torn_bytes: None, is_full: false }));
                    let _ = marked(&cut, dir.path());
                    for kept in [0, usize::MAX] {
                        let (cut, dir) = (cut.after_power_cut(kept, None), copy_of(dir.path()));
                        let store = marked(&cut, dir.path()).unwrap();
                        let found = syncs_in(&store);
                        assert!((synced..=synced + 1).contains(&found), "{found} of {synced}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_crash_before_the_redo_log_begins_anew_does_no_harm_and_lost_syncs_show() {
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let mut store = marked(&disk, dir.path()).unwrap();
        store.insert(b"a", b"1").unwrap();
        store.sync().unwrap();
        let earlier = copy_of(dir.path());
        let image = disk.after_power_cut(0, None);
        store.close().unwrap();
        // The redo log as it was when the store had synced, or just before.
        for _ in 0..2 {
            let store = marked(&disk.after_power_cut(0, None), earlier.path()).unwrap();
            assert_eq!(keys(&store)[0], pair("a", "1"));
        }
        // The store as it was before, which nothing says where the redo log has no generation.
        let lost = opened(&image, copy_of(dir.path()).path());
        assert_eq!(keys(&lost), []);
        let error = marked(&image, dir.path()).unwrap_err().to_string();
        assert!(error.contains("the store is of generation 1 and the redo log of 2"), "{error}");
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
