//! The log actor: owns the operation log, alone on its thread, where it may block on the disk.
//!
//! It must never execute commands or look at keys: it stores what shards hand over, in the order
//! in which it arrives, and releases the replies that waited for the disk.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::SendError;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use actix_rt::ArbiterHandle;
use distcache_recovery::{Epoch, FrameBuilder, LogError, LogWriter, PartitionId};
use tokio::sync::oneshot;

use crate::limits::LOG_MAILBOX;
use crate::monitor::Monitor;
use crate::oplog::LogStatus;
use crate::oplog::commit::{Committer, Released};

/// How often the log syncs under `everysec`.
const TICK: Duration = Duration::from_secs(1);

/// One who waits until what was handed over survives a power cut: a shard with the replies of a
/// turn, a coordinator, or a command such as `WAITAOF`.
pub type Waiter = oneshot::Sender<Result<(), String>>;

/// Begins to take records: the log is read to its end.
#[derive(Message)]
#[rtype(result = "()")]
struct Open {
    writer: LogWriter,
}

/// Stores records, and then releases who waits for them.
#[derive(Message)]
#[rtype(result = "()")]
struct Append {
    frame: FrameBuilder,
    waiter: Option<Waiter>,
}

/// Releases one when all that was handed over before survives a power cut.
#[derive(Message)]
#[rtype(result = "()")]
struct Sync {
    waiter: Waiter,
}

/// Commits what the mailbox has brought.
#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

/// Stores a chunk of a partition's snapshot.
#[derive(Message)]
#[rtype(result = "()")]
struct WriteChunk {
    partition: PartitionId,
    chunk: FrameBuilder,
}

/// Ends a partition's snapshot; the answer says whether it stands.
#[derive(Message)]
#[rtype(result = "()")]
struct EndSnapshot {
    partition: PartitionId,
    end: SnapshotEnd,
    reply: oneshot::Sender<Result<(), LogError>>,
}

/// How a snapshot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotEnd {
    /// It is whole.
    Commit {
        /// How many chunks it has.
        chunks: u32,
        /// The partition's epoch.
        epoch: Epoch,
    },
    /// Its chunks are void.
    Abandon,
}

/// Begins a compaction: asks which partitions have records that no snapshot covers.
#[derive(Message)]
#[rtype(result = "Vec<PartitionId>")]
struct BeginCompaction;

/// All of them have new snapshots.
#[derive(Message)]
#[rtype(result = "()")]
struct EndCompaction;

/// Removes some frames that snapshots cover; the answer says whether there are more.
#[derive(Message)]
#[rtype(result = "Result<bool, LogError>")]
struct Trim;

/// Syncs and closes the log; nothing can be handed over afterwards.
#[derive(Message)]
#[rtype(result = "Result<(), LogError>")]
struct Close;

/// The log's owner.
pub struct OpLog {
    /// `None` before the log is read, and after it is closed.
    committer: Option<Committer<Waiter>>,
    status: LogStatus,
    monitor: Arc<Monitor>,
    commit_pending: bool,
}

impl OpLog {
    fn release((waiting, result): Released<Waiter>) {
        for waiter in waiting {
            // Whoever is gone needs no answer.
            let _ = waiter.send(result.clone());
        }
    }

    fn end_snapshot(&mut self, of: PartitionId, end: SnapshotEnd) -> Result<(), LogError> {
        let Some(committer) = &mut self.committer else { return Err(closed()) };
        match end {
            SnapshotEnd::Commit { chunks, epoch } => committer.commit_snapshot(of, chunks, epoch),
            SnapshotEnd::Abandon => committer.abandon_snapshot(of),
        }
    }

    fn commit_later(&mut self, context: &mut Context<Self>) {
        if !self.commit_pending {
            self.commit_pending = true;
            // Handled when the mailbox is empty: all that has arrived until then is one group.
            context.notify(Commit);
        }
    }
}

impl Actor for OpLog {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(LOG_MAILBOX);
        context.run_interval(TICK, |log, _| {
            if let Some(committer) = &mut log.committer {
                OpLog::release(committer.tick());
            }
        });
    }
}

impl Handler<Open> for OpLog {
    type Result = ();

    fn handle(&mut self, message: Open, _: &mut Self::Context) {
        let (status, monitor) = (self.status.clone(), self.monitor.clone());
        self.committer = Some(Committer::new(message.writer, status, monitor));
        self.status.set_open();
    }
}

impl Handler<Append> for OpLog {
    type Result = ();

    fn handle(&mut self, message: Append, context: &mut Self::Context) {
        match &mut self.committer {
            Some(committer) => {
                if committer.append(message.frame, message.waiter) {
                    self.commit_later(context);
                }
            }
            None => {
                OpLog::release((message.waiter.into_iter().collect(), Err(CLOSED.to_owned())));
            }
        }
    }
}

impl Handler<Sync> for OpLog {
    type Result = ();

    fn handle(&mut self, message: Sync, context: &mut Self::Context) {
        match &mut self.committer {
            Some(committer) => {
                committer.wait(message.waiter);
                self.commit_later(context);
            }
            None => OpLog::release((vec![message.waiter], Err(CLOSED.to_owned()))),
        }
    }
}

impl Handler<Commit> for OpLog {
    type Result = ();

    fn handle(&mut self, _: Commit, context: &mut Self::Context) {
        self.commit_pending = false;
        let Some(committer) = &mut self.committer else { return };
        if !committer.is_due() {
            // The next hand-over asks again, and so does the timer.
            return;
        }
        let (released, company) = committer.commit();
        if let Some(most) = company {
            context.run_later(most, |log, context| log.commit_later(context));
        }
        OpLog::release(released);
    }
}

impl Handler<WriteChunk> for OpLog {
    type Result = ();

    fn handle(&mut self, message: WriteChunk, _: &mut Self::Context) {
        if let Some(committer) = &mut self.committer {
            committer.write_chunk(message.partition, message.chunk);
        }
    }
}

impl Handler<EndSnapshot> for OpLog {
    type Result = ();

    fn handle(&mut self, message: EndSnapshot, _: &mut Self::Context) {
        let result = self.end_snapshot(message.partition, message.end);
        let _ = message.reply.send(result);
    }
}

impl Handler<BeginCompaction> for OpLog {
    type Result = actix::MessageResult<BeginCompaction>;

    fn handle(&mut self, _: BeginCompaction, _: &mut Self::Context) -> Self::Result {
        let uncovered = self.committer.as_mut().map(Committer::begin_compaction);
        actix::MessageResult(uncovered.unwrap_or_default())
    }
}

impl Handler<EndCompaction> for OpLog {
    type Result = ();

    fn handle(&mut self, _: EndCompaction, _: &mut Self::Context) {
        if let Some(committer) = &mut self.committer {
            committer.end_compaction();
        }
    }
}

impl Handler<Trim> for OpLog {
    type Result = Result<bool, LogError>;

    fn handle(&mut self, _: Trim, _: &mut Self::Context) -> Self::Result {
        let Some(committer) = &mut self.committer else { return Err(closed()) };
        let more = committer.trim()?;
        committer.publish();
        Ok(more)
    }
}

impl Handler<Close> for OpLog {
    type Result = Result<(), LogError>;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        let Some(committer) = self.committer.take() else { return Err(closed()) };
        let (waiting, result) = committer.close();
        let released = result.as_ref().map(|_| ()).map_err(ToString::to_string);
        OpLog::release((waiting, released));
        result
    }
}

const CLOSED: &str = "the operation log is closed";

pub(super) fn closed() -> LogError {
    LogError::Poisoned { cause: CLOSED.to_owned() }
}

/// The way to the log from any thread.
#[derive(Clone)]
pub struct LogHandle {
    address: Addr<OpLog>,
    /// State that needs no message.
    pub status: LogStatus,
}

impl LogHandle {
    /// Starts the log actor on an arbiter of its own; it takes records once it is opened.
    pub fn start(arbiter: &ArbiterHandle, status: LogStatus, monitor: Arc<Monitor>) -> Self {
        let shared = status.clone();
        let address = OpLog::start_in_arbiter(arbiter, move |_| OpLog {
            committer: None,
            status: shared,
            monitor,
            commit_pending: false,
        });
        LogHandle { address, status }
    }

    /// Gives the actor the log, once that is read to its end.
    ///
    /// # Errors
    /// When the actor has stopped.
    pub async fn open(&self, writer: LogWriter) -> Result<(), LogError> {
        self.address.send(Open { writer }).await.map_err(|_| closed())
    }

    /// Hands records over, and who waits for them. The queue's bytes, not its messages, are
    /// bounded: who hands over watches [`LogStatus::queued_bytes`].
    pub fn append(&self, frame: FrameBuilder, waiter: Option<Waiter>) {
        self.status.queue(frame.len());
        self.push(Append { frame, waiter });
    }

    /// Hands a chunk of a snapshot over.
    pub fn write_chunk(&self, partition: PartitionId, chunk: FrameBuilder) {
        self.status.queue(chunk.len());
        self.push(WriteChunk { partition, chunk });
    }

    /// Releases `waiter` when all that was handed over before survives a power cut.
    pub fn sync(&self, waiter: Waiter) {
        self.push(Sync { waiter });
    }

    /// A full mailbox is no reason to lose records: the message waits behind the others.
    #[expect(clippy::disallowed_methods, reason = "order must hold, and bytes are bounded")]
    fn push<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        OpLog: Handler<M>,
    {
        match self.address.try_send(message) {
            Ok(()) | Err(SendError::Closed(_)) => {}
            Err(SendError::Full(message)) => self.address.do_send(message),
        }
    }

    /// Ends a partition's snapshot. The message is on its way when this returns, so what is
    /// handed over afterwards comes behind the snapshot's cut; the receiver gets the outcome.
    pub fn end_snapshot(
        &self,
        partition: PartitionId,
        end: SnapshotEnd,
    ) -> oneshot::Receiver<Result<(), LogError>> {
        let (reply, receiver) = oneshot::channel();
        self.push(EndSnapshot { partition, end, reply });
        receiver
    }

    /// Begins a compaction: returns the partitions with records that no snapshot covers.
    pub async fn begin_compaction(&self) -> Vec<PartitionId> {
        self.address.send(BeginCompaction).await.unwrap_or_default()
    }

    /// Notes that all of them have new snapshots.
    pub fn end_compaction(&self) {
        self.push(EndCompaction);
    }

    /// Removes some frames that snapshots cover; returns whether there are more.
    ///
    /// # Errors
    /// What the log reported.
    pub async fn trim(&self) -> Result<bool, LogError> {
        self.address.send(Trim).await.unwrap_or_else(|_| Err(closed()))
    }

    /// Syncs and closes the log in order.
    ///
    /// # Errors
    /// What is not on disk for certain.
    pub async fn close(&self) -> Result<(), LogError> {
        self.address.send(Close).await.unwrap_or_else(|_| Err(closed()))
    }
}
