//! Copying partitions into snapshots, in slices between the shard's other messages.

use std::collections::VecDeque;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Handler, Message, WrapFuture};
use distcache_recovery::{LogError, PartitionId};
use tokio::sync::oneshot;

use super::Shard;
use crate::actors::oplog::{LogHandle, SnapshotEnd, closed};
use crate::clock::Ticks;
use crate::keyspace::copy::{CopyId, CopyProgress};
use crate::limits::{COPY_RESTARTS_MAX, COPY_SLICE, LOG_QUEUE_BYTES_RESUME};

/// Copies partitions to the log as snapshots, one after the other.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CopyPartitions {
    pub(super) partitions: VecDeque<PartitionId>,
    pub(super) reply: oneshot::Sender<Result<(), String>>,
}

/// Copies for one slice of time.
#[derive(Message)]
#[rtype(result = "()")]
struct CopySlice;

/// The copying of partitions under way.
pub(super) struct CopyJob {
    partitions: VecDeque<PartitionId>,
    reply: oneshot::Sender<Result<(), String>>,
    /// Chunks of the current partition that were handed over.
    chunks: u32,
    /// The partition came, went, or is on its way here since its copy began.
    is_void: bool,
}

impl Shard {
    /// Says that a partition came, went, or is on its way here: a copy of it that is being made is
    /// none of it, and must not become its snapshot.
    pub(super) fn void_copy(&mut self, partition: PartitionId) {
        if let Some(job) = &mut self.copying
            && job.partitions.front() == Some(&partition)
        {
            job.is_void = true;
        }
    }

    fn is_void(&self, partition: PartitionId) -> bool {
        self.copying.as_ref().is_some_and(|job| job.is_void)
            || self.state.moves.staging.move_of(partition).is_some()
    }

    /// Goes on with the next partition after one is committed, or gives up.
    fn next_partition(&mut self, committed: Result<(), LogError>) {
        let Some(mut job) = self.copying.take() else { return };
        if let Err(error) = committed {
            let _ = job.reply.send(Err(error.to_string()));
            return;
        }
        job.partitions.pop_front();
        job.is_void = false;
        job.chunks = 0;
        if let Some(&next) = job.partitions.front() {
            self.state.keyspace.begin_copy(CopyId::SNAPSHOT, next);
        }
        self.copying = Some(job);
    }

    /// Chunks of the current partition that were handed over.
    fn chunks(&self) -> u32 {
        self.copying.as_ref().map_or(0, |job| job.chunks)
    }

    fn set_chunks(&mut self, chunks: u32) {
        if let Some(job) = &mut self.copying {
            job.chunks = chunks;
        }
    }

    /// Whether the copy stands at a long value that is written so often that only a pause of
    /// everybody else lets it go on.
    fn is_copy_hindered(&self) -> bool {
        self.state.keyspace.copy_restarts(CopyId::SNAPSHOT) >= COPY_RESTARTS_MAX
    }

    /// Copies for a slice of time, or to the end of a value that is written too often. Returns
    /// whether the current partition is whole.
    fn copy_slice(&mut self, log: &LogHandle, partition: PartitionId) -> bool {
        let start = Ticks::now();
        while log.status.queued_bytes() < LOG_QUEUE_BYTES_RESUME || self.is_copy_hindered() {
            let progress = self.state.keyspace.copy_slice(CopyId::SNAPSHOT);
            let empty = log.status.pooled_frame();
            let chunk = self.state.keyspace.take_chunk(CopyId::SNAPSHOT, empty);
            match progress {
                CopyProgress::Restarted => {
                    // Its outcome is of no interest: the chunks that follow begin anew.
                    drop(log.end_snapshot(partition, SnapshotEnd::Abandon));
                    log.status.recycle(chunk);
                    self.set_chunks(0);
                    return false;
                }
                CopyProgress::More | CopyProgress::Passed if !chunk.is_empty() => {
                    log.write_chunk(partition, chunk);
                    self.set_chunks(self.chunks() + 1);
                }
                CopyProgress::More | CopyProgress::Passed => log.status.recycle(chunk),
            }
            // A coordinator's records may be in the log and not here yet.
            if progress == CopyProgress::Passed && !self.holds.touches(partition) {
                return true;
            }
            let is_over = Ticks::now().since(start) >= COPY_SLICE && !self.is_copy_hindered();
            if progress == CopyProgress::Passed || is_over {
                break;
            }
        }
        false
    }
}

impl Handler<CopyPartitions> for Shard {
    type Result = ();

    fn handle(&mut self, message: CopyPartitions, context: &mut Self::Context) {
        let CopyPartitions { partitions, reply } = message;
        if self.copying.is_some() {
            let _ = reply.send(Err("partitions are being copied already".to_owned()));
            return;
        }
        if let Some(&first) = partitions.front() {
            self.state.keyspace.begin_copy(CopyId::SNAPSHOT, first);
        }
        self.copying = Some(CopyJob { partitions, reply, chunks: 0, is_void: false });
        context.notify(CopySlice);
    }
}

impl Handler<CopySlice> for Shard {
    type Result = ();

    fn handle(&mut self, _: CopySlice, context: &mut Self::Context) {
        let (Some(job), Some(log)) = (&self.copying, self.log.clone()) else { return };
        let Some(&partition) = job.partitions.front() else {
            if let Some(job) = self.copying.take() {
                let _ = job.reply.send(Ok(()));
            }
            return;
        };
        if !self.copy_slice(&log, partition) {
            context.run_later(Duration::from_millis(1), |_, context| context.notify(CopySlice));
            return;
        }
        // The partition's records so far must be in the log before its cut.
        self.hand_over(context);
        self.state.keyspace.end_copy(CopyId::SNAPSHOT);
        // Its frames stay in the log then, and are the partition until the next compaction.
        let end = match self.is_void(partition) {
            true => SnapshotEnd::Abandon,
            false => {
                let (chunks, epoch) = (self.chunks(), self.state.moves.snapshot_epoch(partition));
                SnapshotEnd::Commit { chunks, epoch }
            }
        };
        let committed = log.end_snapshot(partition, end).into_actor(self);
        context.spawn(committed.map(|result, shard, context| {
            shard.next_partition(result.unwrap_or_else(|_| Err(closed())));
            context.notify(CopySlice);
        }));
    }
}
