//! A store in memory that fails, tears and loses power on demand, for tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::redo_store::RedoStore;
use crate::store::{Entry, LogStore, StoreError};

/// Values up to this length, and those that replace another, are stored whole or not at all.
const SECTOR_BYTES: usize = 512;

type Image = BTreeMap<Vec<u8>, Vec<u8>>;

/// A pretended disk; outlives the stores on it, as clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What readers see.
    live: Image,
    /// What surely survives a power cut.
    durable: Image,
    /// Changes since the last sync, in order.
    journal: Vec<Change>,
    /// Changes and syncs made so far.
    operations: u64,
    failure: Option<Failure>,
    sync_time: Duration,
}

type Change = (Vec<u8>, Option<Vec<u8>>);

/// When and how a [`MemoryDisk`] fails.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Changes and syncs that still succeed, counted from the disk's first.
    pub after: u64,
    /// Of the change that fails, how many bytes of the value are stored all the same.
    pub torn_bytes: Option<usize>,
    /// Whether the failure is a lack of space.
    pub is_full: bool,
}

impl MemoryDisk {
    /// Returns a store on this disk.
    pub fn store(&self) -> MemoryStore {
        MemoryStore(self.clone())
    }

    /// Returns a store on this disk with a redo log of so many pages in `dir`.
    ///
    /// # Errors
    ///
    /// When the redo log cannot be read or is damaged, and when the disk fails.
    pub fn store_with_redo_log(
        &self,
        dir: &Path,
        pages: u32,
    ) -> Result<Box<dyn LogStore>, StoreError> {
        Ok(Box::new(RedoStore::over(self.store(), dir, pages, 0)?))
    }

    /// Sets when the disk fails, or that it does not.
    pub fn set_failure(&self, failure: Option<Failure>) {
        self.lock().failure = failure;
    }

    /// Sets how long a sync takes; at first it takes no time.
    pub fn set_sync_time(&self, time: Duration) {
        self.lock().sync_time = time;
    }

    /// Returns how many changes and syncs have been made.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Returns how many changes a power cut now could undo.
    pub fn unsynced(&self) -> usize {
        self.lock().journal.len()
    }

    /// Returns the disk as a power cut now could leave it: what was synced and the next `kept`
    /// changes, of the last of which only the first `torn_bytes` are stored, if given.
    pub fn after_power_cut(&self, kept: usize, torn_bytes: Option<usize>) -> Self {
        let state = self.lock();
        let mut image = state.durable.clone();
        let kept = kept.min(state.journal.len());
        for (index, change) in state.journal[..kept].iter().enumerate() {
            let mut change = change.clone();
            if let (Some(value), Some(torn), true) = (&mut change.1, torn_bytes, index + 1 == kept)
            {
                if image.contains_key(&change.0) || value.len() <= SECTOR_BYTES {
                    // It is not there at all.
                    break;
                }
                value.truncate(torn);
            }
            apply(&mut image, change);
        }
        let state = State { live: image.clone(), durable: image, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Changes what is stored behind the store's back, as a failing disk does.
    pub fn corrupt(&self, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
        let mut state = self.lock();
        change(&mut state.live);
        state.durable = state.live.clone();
        state.journal.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`LogStore`] on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryStore(MemoryDisk);

impl MemoryStore {
    fn change(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        let mut change = (key.to_vec(), value.map(<[u8]>::to_vec));
        let failed = state.step();
        if let Err(failure) = failed {
            let can_tear = !state.live.contains_key(key)
                && value.is_some_and(|value| value.len() > SECTOR_BYTES);
            let (Some(value), Some(torn), true) = (&mut change.1, failure.torn_bytes, can_tear)
            else {
                return Err(failure.error());
            };
            value.truncate(torn);
        }
        apply(&mut state.live, change.clone());
        state.journal.push(change);
        failed.map_err(|failure| failure.error())
    }
}

impl State {
    fn step(&mut self) -> Result<(), Failure> {
        if let Some(failure) = self.failure.filter(|failure| self.operations >= failure.after) {
            return Err(failure);
        }
        self.operations += 1;
        Ok(())
    }
}

impl Failure {
    fn error(self) -> StoreError {
        let text = "failure was asked for".to_owned();
        if self.is_full { StoreError::Full(text) } else { StoreError::Io(text) }
    }
}

fn apply(image: &mut Image, (key, value): Change) {
    match value {
        Some(value) => image.insert(key, value),
        None => image.remove(&key),
    };
}

impl LogStore for MemoryStore {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.change(key, Some(value))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.change(key, None)
    }

    fn range(&self, from: &[u8], to: &[u8], budget_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        let state = self.0.lock();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (key, value) in state.live.range(from.to_vec()..to.to_vec()) {
            bytes += value.len();
            entries.push((key.clone(), value.clone()));
            if bytes >= budget_bytes {
                break;
            }
        }
        Ok(entries)
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.0.lock();
        let mut keys = state.live.range(from.to_vec()..to.to_vec());
        Ok(keys.next_back().map(|(key, _)| key.clone()))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        state.step().map_err(Failure::error)?;
        thread::sleep(state.sync_time);
        state.durable = state.live.clone();
        state.journal.clear();
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let state = self.0.lock();
        Ok(state.live.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum())
    }
}
