//! The pure part of the log actor: which frames are stored and synced when, and what that
//! releases.
//!
//! Under `always` hand-overs are collected until the mailbox is empty, then stored as few frames,
//! synced once and released together: group commit over all shards and connections; where the disk
//! is slow, a sync waits for those whom the last one released ([`super::gather`]). Under the other policies a hand-over is stored at once, nothing waits for it, and a tick each second
//! syncs (`everysec`) or does not (`no`).

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
        self.status.set_failure(Some(reason.clone()));
        self.failed = Some(reason);
    }

    /// Goes on after a full disk, once there is room again.
    fn recover(&mut self) {
        if self.failed.is_none() {
            return;
        }
        match self.writer.try_heal(clock::now()) {
            Ok(healed) => {
                self.failed = None;
                self.status.set_failure(None);
                match healed.lost {
                    None => log::warn!("the operation log works again"),
                    Some((first, end)) => {
                        log::warn!(first = first.0, end = end.0;
                            "the operation log works again; records that were not synced are \
                             missing in it until the next snapshot of every partition");
                        // Growth beyond all bounds: the next look begins a compaction.
                        self.status.update_figures(|figures| figures.base_bytes = 0);
                    }
                }
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
        if self.full.is_some() != full.is_some() {
            self.status.set_failure(full.clone());
        }
        self.full = full;
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
    pub fn commit_snapshot(&mut self, of: PartitionId, chunks: u32) -> Result<(), LogError> {
        let stored = self.writer.chunks_written(of);
        if stored != chunks {
            let error =
                self.chunk_error.take().unwrap_or(LogError::ChunksMissing { stored, chunks });
            return self.abandon_snapshot(of).and(Err(error));
        }
        // The cut must lie behind everything that was handed over before.
        self.store();
        let result = self.writer.commit_snapshot(of, Epoch(1), clock::now());
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

    /// Partitions with records that no snapshot covers.
    pub fn uncovered(&self) -> Vec<PartitionId> {
        self.writer.uncovered().collect()
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
mod tests {
    use distcache_recovery::memory_store::MemoryDisk;
    use distcache_recovery::{Operation, Record, Replay, StoredValue};

    use super::*;
    use crate::config::Config;

    fn replay(disk: &MemoryDisk) -> (LogWriter, u64) {
        let mut replay = Replay::start(Box::new(disk.store()), "DIR".to_owned(), None).unwrap();
        assert!(replay.by_ref().all(|block| block.is_ok()));
        let (writer, report) = replay.finish().unwrap();
        (writer, report.records)
    }

    fn committer(disk: &MemoryDisk, policy: FsyncPolicy) -> Committer<u32> {
        let monitor = Arc::new(Monitor::new(Arc::default(), &Config::default()));
        Committer::new(replay(disk).0, LogStatus::new(policy), monitor)
    }

    /// Hands one record over, as a shard does.
    fn append(committer: &mut Committer<u32>, waiter: Option<u32>) -> bool {
        let mut frame = FrameBuilder::new();
        let operation =
            Operation::Put { key: b"k", value: StoredValue::Integer(1), deadline: None };
        frame.push(&Record { partition: PartitionId(5), database: 0, operation });
        committer.status.queue(frame.len());
        committer.append(frame, waiter)
    }

    #[test]
    fn whoever_is_released_finds_his_records_after_a_power_cut() {
        for policy in [FsyncPolicy::Always, FsyncPolicy::EverySecond, FsyncPolicy::No] {
            let commit = |committer: &mut Committer<u32>| committer.commit().0;
            for release in [commit, Committer::tick] {
                let disk = MemoryDisk::default();
                let mut committer = committer(&disk, policy);
                assert!(append(&mut committer, Some(7)), "somebody waits");
                assert_eq!(release(&mut committer), (vec![7], Ok(())));
                let (_, records) = replay(&disk.after_power_cut(0, None));
                assert_eq!(records, 1, "{policy:?}");
                assert!(committer.status.is_settled());
            }
        }
    }

    /// Two clients' writes, in one hand-over each.
    fn two_writes(committer: &mut Committer<u32>) {
        for waiter in [1, 2] {
            committer.status.wait();
            committer.status.gather(1);
            assert!(append(committer, Some(waiter)));
        }
    }

    #[test]
    fn a_slow_sync_waits_for_those_whom_the_last_one_released() {
        let disk = MemoryDisk::default();
        disk.set_sync_time(Duration::from_millis(20));
        let mut committer = committer(&disk, FsyncPolicy::Always);
        two_writes(&mut committer);
        assert!(committer.is_due(), "nothing is known of the disk");
        assert_eq!(committer.commit(), ((vec![1, 2], Ok(())), None));
        committer.status.waited(2);

        two_writes(&mut committer);
        // A third one comes while the disk works.
        committer.status.wait();
        let (released, company) = committer.commit();
        assert_eq!(released, (vec![1, 2], Ok(())));
        assert!(company.is_some_and(|most| most >= Duration::from_millis(10)));
        assert!(committer.status.is_gathering());
        committer.status.waited(2);
        committer.status.gather(1);
        append(&mut committer, Some(3));
        two_writes(&mut committer);
        assert!(committer.is_due(), "all have come back");
        assert_eq!(committer.commit().0, (vec![3, 1, 2], Ok(())));
    }

    fn chunk(committer: &mut Committer<u32>, partition: PartitionId) {
        let mut chunk = FrameBuilder::new();
        let operation =
            Operation::Put { key: b"k", value: StoredValue::Integer(1), deadline: None };
        chunk.push(&Record { partition, database: 0, operation });
        committer.status.queue(chunk.len());
        committer.write_chunk(partition, chunk);
    }

    #[test]
    fn a_snapshot_that_lacks_a_chunk_does_not_replace_the_one_before() {
        let disk = MemoryDisk::default();
        let mut committer = committer(&disk, FsyncPolicy::EverySecond);
        let (first, second) = (PartitionId(5), PartitionId(6));
        for partition in [first, second] {
            chunk(&mut committer, partition);
            committer.commit_snapshot(partition, 1).unwrap();
        }
        // Of the next ones, as when space runs short, not all chunks are stored.
        for (partition, stored, sent) in [(first, 0, 1), (second, 1, 2)] {
            for _ in 0..stored {
                chunk(&mut committer, partition);
            }
            let ended = committer.commit_snapshot(partition, sent);
            assert!(matches!(ended, Err(LogError::ChunksMissing { .. })), "{ended:?}");
        }
        committer.close().1.unwrap();
        assert_eq!(replay(&disk).1, 0, "no frame");
        let mut replay = Replay::start(Box::new(disk.store()), "DIR".to_owned(), None).unwrap();
        let records: u32 = replay.by_ref().map(|block| block.unwrap().count).sum();
        assert_eq!(records, 2, "one of each snapshot before");
    }
}
