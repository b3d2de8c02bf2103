//! The pure part of the log actor: which frames are stored and synced when, and what that
//! releases.
//!
//! Under `always` hand-overs are collected until the mailbox is empty, then stored as few frames,
//! synced once and released together: group commit over all shards and connections; where the disk
//! is slow, a sync waits for those whom the last one released ([`super::gather`]). Under the other
//! policies a hand-over is stored at once, nothing waits for it, and a tick each second syncs
//! (`everysec`) or does not (`no`).
//!
//! While the log has failed, what is handed over is dropped. When it works again, memory is ahead
//! of it, and a record such as that of `APPEND` would build on what is not there: so no write is
//! taken until a compaction has made a snapshot of every partition.

use std::sync::Arc;
use std::time::Duration;

use distcache_recovery::{
    DiskSpace, Epoch, FrameBuilder, LogError, LogWriter, PartitionId, TrimProgress,
};

use super::LogStatus;
use super::gather::Gather;
use crate::clock::{self, Ticks};
use crate::config::FsyncPolicy;
use crate::monitor::Monitor;

/// Frames removed in one step of trimming.
const TRIM_FRAMES: usize = 64;

/// Bytes of small hand-overs that are stored as one frame.
const JOINED_FRAME_BYTES: usize = 64 * 1024;

/// Why writes are refused while memory has what the log lacks.
const BEHIND: &str = "the log failed and lacks records: writes are accepted again after a restart, \
                      or when there is a snapshot of every partition, for which it needs room";

/// What becomes of those who wait for a sync.
pub type Released<W> = (Vec<W>, Result<(), String>);

/// The log and those who wait for it. `W` is a reply that waits.
pub struct Committer<W> {
    writer: LogWriter,
    status: LogStatus,
    monitor: Arc<Monitor>,
    pending: Vec<FrameBuilder>,
    waiting: Vec<W>,
    /// Hand-overs stored, but not synced.
    unsynced: u64,
    gather: Gather,
    /// Why a chunk of a snapshot was not stored, to tell it with the snapshot that lacks it.
    chunk_error: Option<LogError>,
    /// Why the log takes no more records, until it is healed.
    failed: Option<String>,
    /// Why the free space is too small, while it is.
    full: Option<String>,
    /// Whether records that were handed over are missing in the log: what comes now may build on
    /// them, so none is taken until a snapshot of every partition is made.
    is_behind: bool,
    /// Whether the compaction under way began after the last of them was dropped.
    catches_up: bool,
}

impl<W> Committer<W> {
    /// Returns the committer of an open log, which tells `monitor` of slow syncs.
    pub fn new(writer: LogWriter, status: LogStatus, monitor: Arc<Monitor>) -> Self {
        let mut committer = Committer {
            writer,
            status,
            monitor,
            pending: Vec::new(),
            waiting: Vec::new(),
            unsynced: 0,
            gather: Gather::default(),
            chunk_error: None,
            failed: None,
            full: None,
            is_behind: false,
            catches_up: false,
        };
        let base = committer.writer.frame_bytes() + committer.writer.snapshot_bytes();
        committer.status.update_figures(|figures| figures.base_bytes = base);
        committer.publish();
        committer.note_space();
        committer
    }

    /// Takes records over, and who waits for them. Returns whether [`Committer::commit`] must
    /// follow.
    pub fn append(&mut self, frame: FrameBuilder, waiter: Option<W>) -> bool {
        let always = self.status.policy() == FsyncPolicy::Always;
        self.pending.push(frame);
        if always || waiter.is_some() {
            self.waiting.extend(waiter);
            return true;
        }
        self.store();
        false
    }

    /// Adds one who waits until everything so far survives a power cut.
    pub fn wait(&mut self, waiting: W) {
        self.waiting.push(waiting);
    }

    /// Whether what was taken over is to be committed now, not when more have come back.
    pub fn is_due(&mut self) -> bool {
        self.gather.is_over(Ticks::now(), self.status.gathered())
    }

    /// Stores and syncs all that was taken over, and releases all who wait. Also returns how long
    /// the next commit may not be due, if it waits for company.
    pub fn commit(&mut self) -> (Released<W>, Option<Duration>) {
        self.status.begin_sync();
        self.store();
        let start = Ticks::now();
        let must_sync = self.unsynced > 0;
        let result = self.sync();
        let mut company = None;
        if must_sync && result.is_ok() {
            let now = Ticks::now();
            company = self.gather.begin(now, now.since(start), self.status.waiting());
            // Before anybody is released, so that nobody who comes back is held back.
            self.status.set_gathering(company.is_some());
        }
        ((std::mem::take(&mut self.waiting), result), company)
    }

    /// The tick of each second: syncs what is not synced, notes it in the durable mark, and looks
    /// whether a failed log has recovered.
    pub fn tick(&mut self) -> Released<W> {
        // A commit may be due: who waits for it is released here, and must not be before it.
        self.store();
        let result = match self.status.policy() {
            FsyncPolicy::No if self.waiting.is_empty() => Ok(()),
            _ => self.sync(),
        };
        if result.is_ok() && self.failed.is_none() && self.writer.synced_sequence() != self.marked()
        {
            self.write_mark();
        }
        self.recover();
        self.note_space();
        self.publish();
        (std::mem::take(&mut self.waiting), result)
    }

    fn marked(&self) -> distcache_recovery::SequenceNumber {
        distcache_recovery::SequenceNumber(self.status.figures().synced_sequence)
    }

    fn write_mark(&mut self) {
        if let Err(error) = self.writer.write_mark() {
            log::warn!(error = error.to_string().as_str(); "durable mark not written");
        }
        let synced = self.writer.synced_sequence().0;
        self.status.update_figures(|figures| figures.synced_sequence = synced);
    }

    /// Stores all pending hand-overs, small ones joined.
    fn store(&mut self) {
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        let mut next = pending.next();
        while let Some(mut frame) = next {
            next = None;
            let mut joined = 1;
            let mut bytes = frame.len();
            for mut other in pending.by_ref() {
                if frame.len() + other.len() > JOINED_FRAME_BYTES || !frame.absorb(&mut other) {
                    next = Some(other);
                    break;
                }
                bytes = frame.len();
                joined += 1;
                self.status.recycle(other);
            }
            if self.failed.is_none()
                && let Err(error) = self.writer.append(&mut frame, clock::now())
            {
                self.fail(&error);
            }
            if self.failed.is_some() {
                self.fall_behind();
            }
            self.unsynced += joined;
            self.status.unqueue(bytes);
            self.status.recycle(frame);
        }
    }

    fn sync(&mut self) -> Result<(), String> {
        if let Some(reason) = &self.failed {
            let result = Err(reason.clone());
            self.settle();
            return result;
        }
        if self.unsynced > 0 {
            let start = Ticks::now();
            if let Err(error) = self.writer.sync() {
                self.fail(&error);
                self.settle();
                return Err(error.to_string());
            }
            let took = Ticks::now().since(start);
            let event = match self.status.policy() {
                FsyncPolicy::Always => "aof-fsync-always",
                FsyncPolicy::EverySecond | FsyncPolicy::No => "aof-fsync",
            };
            self.monitor.note_event(event, took);
            let (took, now) = (took.as_micros() as u64, clock::now().0);
            self.status.update_figures(|figures| {
                figures.synced_at = now;
                figures.sync_last_us = took;
                figures.sync_longest_us = figures.sync_longest_us.max(took);
            });
            self.settle();
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.status.settle(std::mem::take(&mut self.unsynced));
    }

    fn fail(&mut self, error: &LogError) {
        let reason = error.to_string();
        log::error!(error = reason.as_str(); "the operation log failed: writes are refused");
        self.failed = Some(reason);
        self.status.count_failure();
        self.publish_failure();
    }

    /// Notes that records are missing in the log.
    fn fall_behind(&mut self) {
        self.catches_up = false;
        if !self.is_behind {
            self.is_behind = true;
            self.publish_failure();
        }
    }

    /// Tells everybody why writes are refused, if they are.
    fn publish_failure(&self) {
        let works = self.failed.is_none() && self.full.is_none();
        let reason = self.failed.clone().or_else(|| self.full.clone());
        let behind = self.is_behind.then(|| BEHIND.to_owned());
        self.status.set_failure(reason.or(behind));
        self.status.update_figures(|figures| {
            figures.is_behind = self.is_behind;
            figures.can_catch_up = self.is_behind && works;
        });
    }

    /// Goes on after a full disk, once there is room again.
    fn recover(&mut self) {
        if self.failed.is_none() {
            return;
        }
        // Frames before the one that failed may be stored, and nobody has synced them.
        let healed = self.writer.try_heal(clock::now());
        match healed.and_then(|healed| self.writer.sync().map(|()| healed)) {
            Ok(healed) => {
                self.failed = None;
                self.status.count_failure();
                if healed.lost.is_some() {
                    self.fall_behind();
                }
                if self.is_behind {
                    self.writer.uncover_all();
                    log::warn!(
                        "the operation log works again; it lacks records, so writes are \
                                refused until a snapshot of every partition is made"
                    );
                } else {
                    log::warn!("the operation log works again");
                }
                self.publish_failure();
            }
            Err(error) => log::debug!(error = error.to_string().as_str(); "log not healed yet"),
        }
    }

    /// Refuses writes before the disk is full, while what is under way still finds room.
    fn note_space(&mut self) {
        if self.failed.is_some() {
            return;
        }
        let full = match self.writer.check_space() {
            DiskSpace::Ample => None,
            DiskSpace::Low { free, reserve } => Some(format!(
                "no space left on the device: {free} bytes free, {reserve} must stay free"
            )),
        };
        match (&self.full, &full) {
            (None, Some(reason)) => log::error!(reason = reason.as_str(); "writes are refused"),
            (Some(_), None) => log::warn!("there is space on the device again"),
            _ => {}
        }
        let has_turned = self.full.is_some() != full.is_some();
        self.full = full;
        if has_turned {
            self.publish_failure();
        }
    }

    /// Publishes what `INFO` says.
    pub fn publish(&self) {
        let (frames, snapshots) = (self.writer.frame_bytes(), self.writer.snapshot_bytes());
        let (counters, next) = (self.writer.counters(), self.writer.next_sequence().0);
        self.status.update_figures(|figures| {
            figures.counters = counters;
            figures.frame_bytes = frames;
            figures.snapshot_bytes = snapshots;
            figures.next_sequence = next;
        });
    }

    /// Stores a chunk of a partition's snapshot. Whether all were stored shows when it ends.
    pub fn write_chunk(&mut self, of: PartitionId, mut chunk: FrameBuilder) {
        let bytes = chunk.len();
        let result = self.writer.write_chunk(of, &mut chunk, clock::now());
        self.status.unqueue(bytes);
        // A chunk is settled with its snapshot, which nobody waits for.
        self.status.settle(1);
        self.status.recycle(chunk);
        self.chunk_error = self.poisoned(result).err().or(self.chunk_error.take());
    }

    /// Makes the chunks of a partition its snapshot, if so many are stored: one may have been
    /// refused, and a log that healed has dropped those that it had.
    ///
    /// # Errors
    /// Why there is none; the one before stands.
    pub fn commit_snapshot(
        &mut self,
        of: PartitionId,
        chunks: u32,
        epoch: Epoch,
    ) -> Result<(), LogError> {
        let stored = self.writer.chunks_written(of);
        if stored != chunks {
            let error =
                self.chunk_error.take().unwrap_or(LogError::ChunksMissing { stored, chunks });
            return self.abandon_snapshot(of).and(Err(error));
        }
        // The cut must lie behind everything that was handed over before.
        self.store();
        let result = self.writer.commit_snapshot(of, epoch, clock::now());
        self.unsynced += 1;
        self.status.queue(0);
        self.poisoned(result.map(|_| ()))
    }

    /// Drops the chunks of a partition's unfinished snapshot.
    ///
    /// # Errors
    /// What the store reported.
    pub fn abandon_snapshot(&mut self, of: PartitionId) -> Result<(), LogError> {
        let result = self.writer.abandon_snapshot(of);
        self.poisoned(result)
    }

    /// Removes some of the frames that snapshots cover. Returns whether there are more.
    ///
    /// # Errors
    /// What the store reported.
    pub fn trim(&mut self) -> Result<bool, LogError> {
        let result = self.writer.trim(TRIM_FRAMES, clock::now());
        self.poisoned(result.map(|progress| progress == TrimProgress::More))
    }

    /// Begins a compaction: returns the partitions with records that no snapshot covers.
    pub fn begin_compaction(&mut self) -> Vec<PartitionId> {
        self.catches_up = self.failed.is_none();
        self.writer.uncovered().collect()
    }

    /// Notes that those partitions have new snapshots: if nothing was dropped meanwhile, the log
    /// lacks nothing any more.
    pub fn end_compaction(&mut self) {
        if self.is_behind && self.catches_up {
            self.is_behind = false;
            self.publish_failure();
            log::warn!("the operation log lacks nothing any more: writes are accepted again");
        }
    }

    /// Syncs and closes the log in order.
    ///
    /// # Errors
    /// What is not on disk for certain.
    pub fn close(mut self) -> (Vec<W>, Result<(), LogError>) {
        self.store();
        let waiting = std::mem::take(&mut self.waiting);
        self.settle();
        (waiting, self.writer.close())
    }

    fn poisoned<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let (Err(_), Some(poison), None) = (&result, self.writer.poison(), &self.failed) {
            let poison = poison.clone();
            self.fail(&poison);
        }
        result
    }
}

#[cfg(test)]
mod tests;
