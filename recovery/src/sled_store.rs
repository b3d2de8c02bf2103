//! The log on sled 0.34. The only file that names sled.
//!
//! What sled does not do by itself:
//! - `flush` ends in `sync_file_range`, which a power cut may undo; [`SledStore::sync`] adds
//!   `fdatasync` on sled's file.
//! - Its page cache drops pages only when a cache shard was used 64 times, which a log, whose
//!   pages are written once and left, hardly ever does: hundreds of megabytes stay. The ballast, a
//!   few hundred tiny pages spread over all 256 shards, is touched after every few megabytes, and
//!   pushes the log's pages out.
//! - It panics on some damage; every call runs under a guard.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::guard::{guarded, guarded_opening};
use crate::limits::PIECE_BYTES_MAX;
use crate::store::{Entry, LogStore, StoreError};

/// Bytes of sled's segments. A page of 17 pieces must stay below a quarter of it, or it would go
/// to a file of its own that no sync covers; larger ones cost memory.
const SEGMENT_BYTES: usize = 2 << 20;
const _: () = assert!(PIECE_BYTES_MAX * 18 < SEGMENT_BYTES / 4);

/// Bytes of sled's page cache, a 256th of it a shard: as small as it goes with pages of 128 KiB.
const CACHE_BYTES: u64 = 1 << 20;

/// Bytes read or written after which the page cache is emptied.
const EVICT_BYTES: usize = 16 << 20;

/// Keys of the ballast; sled splits pages of ordered insertions at eight.
const BALLAST_KEYS: u32 = 2600;
const BALLAST_KEYS_A_PAGE: usize = 8;

/// Accesses that make a cache shard work off its queue.
const BALLAST_TOUCHES: u32 = 66;

/// Tries to open a store whose lock a dropped one in this process has yet to give up, and the
/// pause between two.
const OPEN_TRIES: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(2);

/// A [`LogStore`] on sled.
#[derive(Debug)]
pub(crate) struct SledStore {
    // Trees before the database: dropped in this order.
    log: sled::Tree,
    ballast: sled::Tree,
    db: sled::Db,
    /// sled's own file once more, for `fdatasync`.
    file: File,
    touched_bytes: std::cell::Cell<usize>,
}

impl SledStore {
    /// Opens or creates the store in a directory. Reads the whole store's page headers: about
    /// 0.5 s a gigabyte.
    ///
    /// # Errors
    ///
    /// When another process has it open, on file errors, and when sled finds or trips over damage.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let file_path = dir.join("db");
        let is_new = !file_path.exists();
        let db = open_database(dir)?;
        let opened = guarded(|| -> Result<Self, sled::Error> {
            let (log, ballast) = (db.open_tree("log")?, db.open_tree("ballast")?);
            if ballast.is_empty() {
                for key in 0..BALLAST_KEYS {
                    ballast.insert(key.to_be_bytes(), &[])?;
                }
            }
            let file = File::open(&file_path)?;
            Ok(Self { log, ballast, db, file, touched_bytes: 0.into() })
        });
        let mut store = opened.map_err(StoreError::Damaged)?.map_err(store_error)?;
        if is_new {
            store.sync()?;
            sync_directory(dir)?;
        }
        Ok(store)
    }

    /// Counts bytes that went through the page cache, and empties it now and then.
    fn touched(&self, bytes: usize) -> Result<(), sled::Error> {
        let touched = self.touched_bytes.get() + bytes;
        if touched < EVICT_BYTES {
            self.touched_bytes.set(touched);
            return Ok(());
        }
        self.touched_bytes.set(0);
        for key in (0..BALLAST_KEYS).step_by(BALLAST_KEYS_A_PAGE) {
            for _ in 0..BALLAST_TOUCHES {
                self.ballast.get(key.to_be_bytes())?;
            }
        }
        free_garbage();
        Ok(())
    }
}

impl LogStore for SledStore {
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        checked(|| {
            self.log.insert(key, value)?;
            self.touched(value.len())
        })
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        checked(|| {
            let old = self.log.remove(key)?;
            self.touched(old.map_or(0, |value| value.len()))
        })
    }

    fn range(&self, from: &[u8], to: &[u8], budget_bytes: usize) -> Result<Vec<Entry>, StoreError> {
        checked(|| {
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for entry in self.log.range(from..to) {
                let (key, value) = entry?;
                bytes += value.len();
                entries.push((key.to_vec(), value.to_vec()));
                if bytes >= budget_bytes {
                    break;
                }
            }
            self.touched(bytes)?;
            Ok(entries)
        })
    }

    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        checked(|| {
            let last = self.log.range(from..to).next_back().transpose()?;
            Ok(last.map(|(key, _)| key.to_vec()))
        })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        checked(|| {
            self.db.flush()?;
            free_garbage();
            self.file.sync_data().map_err(sled::Error::Io)
        })
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        checked(|| self.db.size_on_disk())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // So that the file lock goes with the store and not some time later.
        free_garbage();
    }
}

/// Opens the database, waiting for a lock that this process is about to give up.
fn open_database(dir: &Path) -> Result<sled::Db, StoreError> {
    let mut tries = 0;
    loop {
        let config = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let opened = guarded_opening(|| config.open()).map_err(StoreError::Damaged)?;
        match opened.map_err(store_error) {
            Err(StoreError::Busy(_)) if tries < OPEN_TRIES => {
                tries += 1;
                free_garbage();
                std::thread::sleep(OPEN_PAUSE);
            }
            result => return result,
        }
    }
}

/// Runs a call of sled; a panic in it counts as damage.
fn checked<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StoreError> {
    guarded(call).map_err(StoreError::Damaged)?.map_err(store_error)
}

/// Frees the pages and buffers that sled has put aside for threads that might still read them.
fn free_garbage() {
    for _ in 0..3 {
        crossbeam_epoch::pin().flush();
    }
}

/// What an error says to people. sled passes errors on as the debugging text of the first one.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    if text.starts_with("Os {") || text.starts_with("Custom {") {
        return io::Error::from(error.kind()).to_string();
    }
    text
}

fn store_error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => {
            let text = plain(&error);
            match error.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge => StoreError::Full(text),
                _ if text.contains("could not acquire lock") => StoreError::Busy(text),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                    StoreError::Damaged(text)
                }
                _ => StoreError::Io(text),
            }
        }
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => {
            StoreError::Damaged(error.to_string())
        }
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) => {
            StoreError::Damaged(error.to_string())
        }
    }
}

fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    let paths: [PathBuf; 2] = [dir.to_owned(), dir.join("blobs")];
    for path in paths {
        File::open(&path)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| StoreError::Io(format!("sync of {}: {error}", path.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(dir.path()).unwrap();
        for number in (0..200_u32).rev() {
            store.insert(&number.to_be_bytes(), &[number as u8; PIECE_BYTES_MAX]).unwrap();
        }
        store.remove(&7_u32.to_be_bytes()).unwrap();
        store.sync().unwrap();
        drop(store);
        let store = SledStore::open(dir.path()).unwrap();
        let (from, to) = (0_u32.to_be_bytes(), 100_u32.to_be_bytes());
        let entries = store.range(&from, &to, usize::MAX).unwrap();
        assert_eq!(entries.len(), 99);
        assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(store.range(&from, &to, 1).unwrap().len(), 1);
        assert_eq!(store.last_key(&from, &to).unwrap(), Some(99_u32.to_be_bytes().to_vec()));
        let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
        assert_eq!(blobs, 0, "no page may leave the file that sync covers");
    }

    #[test]
    fn a_second_opener_is_told_that_it_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let _first = SledStore::open(dir.path()).unwrap();
        assert!(matches!(SledStore::open(dir.path()), Err(StoreError::Busy(_))));
    }
}
