//! What the log needs of a store: an ordered map of small values, and a sync.

use std::fmt::Debug;

/// Why the store refused or failed. After a failed change the store must be opened anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file system is full; what was written since the last sync may be lost.
    #[error("no space left on the device: {0}")]
    Full(String),
    /// Reading or writing failed; what was written since the last sync may be lost.
    #[error("{0}")]
    Io(String),
    /// The stored data contradicts itself.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Another process has the store open.
    #[error("another process has it open: {0}")]
    Busy(String),
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// An ordered store of frames.
///
/// Contract: changes become durable in the order in which they were made, so that a crash leaves
/// the state after some prefix of them, at least up to the last [`LogStore::sync`]; the last
/// value may be torn, but not if it fits into a sector of 512 bytes or replaces another. Values
/// are at most [`PIECE_BYTES_MAX`](crate::limits::PIECE_BYTES_MAX) long.
pub trait LogStore: Debug + Send {
    /// Stores a value under a key, in place of an older one.
    ///
    /// # Errors
    ///
    /// The store must not be used for writing any more.
    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes a key; a missing one is no error.
    ///
    /// # Errors
    ///
    /// The store must not be used for writing any more.
    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError>;

    /// Returns entries with `from <= key < to` in order: at least one if there is any, and then
    /// as long as they have fewer than `budget_bytes` together. Changes since the last sync may
    /// not show yet.
    ///
    /// # Errors
    ///
    /// When stored data cannot be read.
    fn range(&self, from: &[u8], to: &[u8], budget_bytes: usize) -> Result<Vec<Entry>, StoreError>;

    /// Returns the last key with `from <= key < to`. Changes since the last sync may not show
    /// yet.
    ///
    /// # Errors
    ///
    /// When stored data cannot be read.
    fn last_key(&self, from: &[u8], to: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns once everything written so far survives a power cut.
    ///
    /// # Errors
    ///
    /// It is unknown what survives; the store must not be used for writing any more.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Notes that everything is on disk that was synced, so that its loss is damage and not taken
    /// for the end of a write that was cut short. Where nothing passes for that, there is nothing
    /// to note.
    ///
    /// # Errors
    ///
    /// As [`LogStore::sync`].
    fn mark(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Syncs for the last time, and leaves as little as possible to do at the next opening.
    ///
    /// # Errors
    ///
    /// As [`LogStore::sync`].
    fn close(&mut self) -> Result<(), StoreError> {
        self.sync()
    }

    /// Returns the bytes that the store takes on disk.
    ///
    /// # Errors
    ///
    /// When the files cannot be looked at.
    fn disk_bytes(&self) -> Result<u64, StoreError>;
}
