//! Raft's log and votes, as openraft wants to see them.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use distcache_recovery::raft_db::Note;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{LogId, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TypeConfig;
use super::codec::{decode, encode};
use super::disk::Disk;
use super::limits::READ_BYTES;
use super::recent::Recent;
use crate::cluster::table::NodeId;

type Entry = openraft::Entry<TypeConfig>;
type Failure = StorageError<NodeId>;

/// The log on disk, with its end in memory; clones share it.
#[derive(Clone, Debug)]
pub(super) struct LogStore {
    disk: Disk,
    recent: Arc<Mutex<Recent>>,
}

impl LogStore {
    pub(super) fn new(disk: Disk) -> Self {
        LogStore { disk, recent: Arc::default() }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, from: u64, to: u64, budget: usize) -> io::Result<Vec<Entry>> {
        if let Some(entries) = self.recent().read(from, to, budget) {
            return Ok(entries);
        }
        let stored = self.disk.run(move |raft| Ok(raft.db.entries(from, to, budget)?)).await?;
        stored.iter().map(|bytes| decode(bytes)).collect()
    }

    async fn note<T: DeserializeOwned>(&self, note: Note) -> io::Result<Option<T>> {
        let bytes = self.disk.run(move |raft| Ok(raft.db.note(note)?)).await?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    async fn set_note(&self, note: Note, value: &impl Serialize) -> io::Result<()> {
        let bytes = encode(value)?;
        self.disk.run(move |raft| Ok(raft.db.set_note(note, &bytes)?)).await
    }

    async fn state(&self) -> io::Result<LogState<TypeConfig>> {
        let purged: Option<LogId<NodeId>> = self.note(Note::Purged).await?;
        let (first, end) = self.disk.run(|raft| Ok(raft.db.extent())).await?;
        let last = match first < end {
            true => self.read(end - 1, end, READ_BYTES).await?.pop().map(|entry| entry.log_id),
            false => purged,
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }
}

fn read_failed(error: io::Error) -> Failure {
    StorageIOError::read_logs(&error).into()
}

fn write_failed(error: io::Error) -> Failure {
    StorageIOError::write_logs(&error).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, Failure> {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&to) => to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await.map_err(read_failed)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, Failure> {
        self.read(start, end, READ_BYTES).await.map_err(read_failed)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, Failure> {
        self.state().await.map_err(read_failed)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Result<(), Failure> {
        let saved = self.set_note(Note::Vote, vote).await;
        saved.map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, Failure> {
        let vote = self.note(Note::Vote).await;
        vote.map_err(|error| StorageIOError::read_vote(&error).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId<NodeId>>) -> Result<(), Failure> {
        // It only saves time at a start, so nothing waits for it. If it fails, the next change
        // fails and says why.
        let bytes = encode(&committed).map_err(write_failed)?;
        let noted = self.disk.submit(move |raft| drop(raft.db.set_note(Note::Committed, &bytes)));
        noted.await.map_err(write_failed)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<NodeId>>, Failure> {
        let committed: Option<Option<LogId<NodeId>>> =
            self.note(Note::Committed).await.map_err(read_failed)?;
        Ok(committed.flatten())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut first, mut encoded) = (None, Vec::new());
        for entry in entries {
            first = first.or(Some(entry.log_id.index));
            let bytes = encode(&entry).map_err(write_failed)?;
            self.recent().append(entry, bytes.len());
            encoded.push(bytes);
        }
        let Some(first) = first else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        // What is not in memory any more is read behind this in the queue, and so seen.
        let submitted = self.disk.submit(move |raft| {
            let appended = raft.db.append(first, &encoded);
            callback.log_io_completed(appended.map_err(io::Error::other));
        });
        submitted.await.map_err(write_failed)
    }

    async fn truncate(&mut self, log_id: LogId<NodeId>) -> Result<(), Failure> {
        self.recent().truncate(log_id.index);
        let truncated = self.disk.run(move |raft| Ok(raft.db.truncate(log_id.index)?)).await;
        truncated.map_err(write_failed)
    }

    async fn purge(&mut self, log_id: LogId<NodeId>) -> Result<(), Failure> {
        self.recent().purge(log_id.index);
        let note = encode(&log_id).map_err(write_failed)?;
        let purged = self.disk.run(move |raft| Ok(raft.db.purge(log_id.index, &note)?)).await;
        purged.map_err(write_failed)
    }
}
