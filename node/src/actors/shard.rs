//! The shard actor: owns the keys of its partitions, and executes batches on them one by one.
//!
//! It must never wait: what takes long is done in slices, and what cannot go on now is set aside
//! while others are served.

mod copying;
mod handle;
mod inbox;
mod moving;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use distcache_recovery::{FrameBuilder, RecordCursor};
use tokio::sync::oneshot;

use crate::actors::oplog::LogHandle;
use crate::command::{Command, CommandError};
use crate::config::FsyncPolicy;
use crate::keyspace::KeyspaceStats;
use crate::keyspace::lend::Use;
use crate::limits::{
    EXPIRY_PAUSE, EXPIRY_PAUSE_BUSY, HAND_OVER_AFTER, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_BYTES_RESUME,
    SHARD_MAILBOX,
};
use crate::oplog::LogStatus;
use crate::oplog::load::LoadBlock;
use crate::server::slots::try_again;
use crate::shard::batch::Batch;
use crate::shard::holds::{Held, Holds, Ticket, Wanted};
pub use crate::shard::moves::GivenChunk;
use crate::shard::{Paused, ShardState};
use copying::CopyJob;
pub use handle::{ShardHandle, Stopped};
pub use inbox::{Execute, Inbox, Reply, ReplySlot};

/// Executes the batches in the inbox.
#[derive(Message)]
#[rtype(result = "()")]
struct RunTurn;

/// Holds keys for a coordinator.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Hold {
    /// Number of the hold.
    pub ticket: Ticket,
    /// The command that the keys are held for.
    pub command: Command,
    /// Selected database.
    pub database: u8,
    /// What to hold.
    pub wanted: Wanted,
    /// Where the copies go, or the refusal.
    pub reply: oneshot::Sender<Result<Held, CommandError>>,
}

/// Ends a hold, after the changes that the coordinator's records state.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Release {
    /// Number of the hold.
    pub ticket: Ticket,
    /// Records for all shards; each applies its own. They are in the log already.
    pub records: Arc<FrameBuilder>,
    /// The uses of this shard's keys.
    pub uses: Vec<Use>,
    /// What the coordinator counted, given to one of the shards.
    pub stats: Option<KeyspaceStats>,
}

/// Hands the journal over, with the replies that wait for it.
#[derive(Message)]
#[rtype(result = "()")]
struct HandOver;

/// Applies the shard's part of a block of the log, at a start.
#[derive(Message)]
#[rtype(result = "()")]
struct Load {
    block: LoadBlock,
}

/// Runs a function on the shard's state, for what concerns all shards: sizes, scans, statistics.
#[derive(Message)]
#[rtype(result = "R")]
pub struct Visit<R: Send + 'static> {
    /// What to do there. It must be quick: the shard does nothing else meanwhile.
    pub visit: Box<dyn FnOnce(&mut ShardState) -> R + Send>,
}

/// What waits for the end of a hold.
enum Parked {
    Execute(Execute),
    Hold(Hold),
}

/// One shard.
pub struct Shard {
    state: ShardState,
    log: Option<LogHandle>,
    inbox: Arc<Inbox>,
    holds: Holds<Parked>,
    /// Replies that wait for the journal to be on disk.
    waiting: Vec<Execute>,
    /// Room for the batches of a turn.
    turn: Vec<Execute>,
    hand_over_scheduled: bool,
    /// Hand-overs whose replies wait for the disk.
    commits_under_way: u32,
    copying: Option<CopyJob>,
}

impl Shard {
    /// Returns the actor of this shard; `log` is where its journal goes, and `inbox` is where its
    /// batches come from.
    pub fn new(state: ShardState, log: Option<LogHandle>, inbox: Arc<Inbox>) -> Self {
        Shard {
            state,
            log,
            inbox,
            holds: Holds::default(),
            waiting: Vec::new(),
            turn: Vec::new(),
            hand_over_scheduled: false,
            commits_under_way: 0,
            copying: None,
        }
    }

    /// Executes the batches that have come.
    fn run_turn(&mut self, context: &mut Context<Self>) {
        let mut turn = std::mem::take(&mut self.turn);
        self.inbox.take(&mut turn);
        self.execute_all(&mut turn, context);
        self.turn = turn;
    }

    /// Executes these batches, in this order.
    fn execute_all(&mut self, turn: &mut Vec<Execute>, context: &mut Context<Self>) {
        if turn.is_empty() {
            return;
        }
        self.state.begin_turn(turn.iter_mut().map(|execute| &mut *execute.batch));
        for execute in turn.drain(..) {
            self.execute(execute, context);
        }
        self.throttle();
        self.after_turn(context);
    }

    fn execute(&mut self, execute: Execute, context: &mut Context<Self>) {
        let Execute { mut batch, reply } = execute;
        if self.execute_batch(&mut batch, context) == Paused::Blocked {
            return self.holds.waiting.push_back(Parked::Execute(Execute { batch, reply }));
        }
        match &self.log {
            Some(log) if self.must_wait(log) => {
                log.status.wait();
                self.waiting.push(Execute { batch, reply });
            }
            log => {
                if let Some(log) = log {
                    fail_dropped(&mut batch, &log.status);
                }
                reply.send(batch);
            }
        }
    }

    /// Executes a batch until its replies go out, or it must wait.
    fn execute_batch(&mut self, batch: &mut Batch, context: &mut Context<Self>) -> Paused {
        loop {
            let holds = &self.holds;
            let paused = match holds.is_idle() {
                true => self.state.execute(batch, |_, _| false),
                false => self.state.execute(batch, |keyspace, batch| holds.blocks(keyspace, batch)),
            };
            if !matches!(paused, Paused::Journal | Paused::Blocked) {
                return paused;
            }
            if let Some(log) = &self.log
                && !batch.ends.is_empty()
            {
                batch.log_failures.get_or_insert(log.status.failures());
            }
            if paused == Paused::Blocked {
                return paused;
            }
            self.hand_over(context);
        }
    }

    /// Whether what was read or written now is not on disk, and must be before it is seen.
    fn must_wait(&self, log: &LogHandle) -> bool {
        log.status.policy() == FsyncPolicy::Always
            && !(self.state.keyspace.journal.is_empty() && log.status.is_settled())
    }

    /// Removes keys whose time is over, in a slice, and sees to the next one. Not while the log
    /// is read: a later record may give a key that has expired another life.
    fn expire(&mut self, context: &mut Context<Self>) {
        let mut pause = EXPIRY_PAUSE;
        if self.log.as_ref().is_none_or(|log| log.status.is_open()) {
            let slice = self.state.expire_slice();
            if slice.is_busy() {
                pause = EXPIRY_PAUSE_BUSY;
            }
            self.state.relieve();
        }
        context.run_later(pause, Shard::expire);
        self.after_turn(context);
    }

    /// Sees to it that the journal is handed over in time.
    fn after_turn(&mut self, context: &mut Context<Self>) {
        let Some(log) = &self.log else { return };
        let journal = &self.state.keyspace.journal;
        if journal.is_full() && self.waiting.is_empty() {
            self.hand_over(context);
            return self.hold_back(context);
        }
        let has_nothing = journal.is_empty() && self.waiting.is_empty();
        // What comes while the disk is busy goes together when it is done.
        let must_rest = self.commits_under_way > 0 && !log.status.is_gathering();
        if self.hand_over_scheduled || has_nothing || must_rest {
            return;
        }
        self.hand_over_scheduled = true;
        if log.status.policy() == FsyncPolicy::Always {
            // Handled when the mailbox is empty: all batches of this turn go together.
            context.notify(HandOver);
        } else {
            context.run_later(HAND_OVER_AFTER, |shard, context| {
                shard.hand_over_scheduled = false;
                shard.hand_over(context);
                shard.hold_back(context);
            });
        }
    }

    /// Hands the journal to the log. Replies that wait for it are released when it is on disk.
    fn hand_over(&mut self, context: &mut Context<Self>) {
        let Some(log) = self.log.clone() else { return };
        let journal = &mut self.state.keyspace.journal;
        let frame = (!journal.is_empty()).then(|| journal.take(log.status.pooled_frame()));
        let waiter = (!self.waiting.is_empty()).then(|| {
            let (waiter, synced) = oneshot::channel();
            let replies = std::mem::take(&mut self.waiting);
            let status = log.status.clone();
            status.gather(replies.len());
            let release = move |result: Result<_, _>, shard: &mut Self, context: &mut _| {
                shard.commits_under_way -= 1;
                status.waited(replies.len());
                // The disk first: it works while the replies are sent.
                shard.run_turn(context);
                shard.hand_over(context);
                release(replies, result.unwrap_or_else(|_| Err(Stopped.to_string())), &status);
            };
            self.commits_under_way += 1;
            context.spawn(synced.into_actor(self).map(release));
            waiter
        });
        match (frame, waiter) {
            (Some(frame), waiter) => log.append(frame, waiter),
            (None, Some(waiter)) => log.sync(waiter),
            (None, None) => {}
        }
    }

    /// Takes no more messages while the log is too far behind.
    fn hold_back(&mut self, context: &mut Context<Self>) {
        let Some(log) = &self.log else { return };
        if log.status.queued_bytes() < LOG_QUEUE_BYTES_MAX {
            return;
        }
        let status = log.status.clone();
        let caught_up = async move {
            while status.queued_bytes() > LOG_QUEUE_BYTES_RESUME {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        context.wait(caught_up.into_actor(self).map(|(), _, _| ()));
    }

    fn hold(&mut self, message: Hold, context: &mut Context<Self>) {
        let Hold { ticket, command, database, wanted, reply } = message;
        self.state.begin(database, true);
        if let Some(refusal) = self.state.refusal(command) {
            let _ = reply.send(Err(refusal));
            return;
        }
        if let Wanted::Keys { keys, .. } = &wanted
            && !self.state.serves(keys.iter().map(Vec::as_slice))
        {
            let _ = reply.send(Err(try_again()));
            return;
        }
        // The coordinator's records must come behind those of these keys in the log.
        self.hand_over(context);
        let held = self.holds.begin(&mut self.state.keyspace, ticket, wanted);
        if reply.send(Ok(held)).is_err() {
            self.holds.end(&mut self.state.keyspace, ticket);
        }
    }

    /// Lets those go on who waited for a hold that has ended.
    fn wake(&mut self, context: &mut Context<Self>) {
        let parked = std::mem::take(&mut self.holds.waiting);
        self.holds.waiting_holds = 0;
        let mut turn = Vec::new();
        for waiting in parked {
            match waiting {
                Parked::Execute(execute) => turn.push(execute),
                Parked::Hold(hold) => {
                    self.execute_all(&mut turn, context);
                    self.hold_or_park(hold, context);
                }
            }
        }
        self.execute_all(&mut turn, context);
    }

    fn hold_or_park(&mut self, message: Hold, context: &mut Context<Self>) {
        if self.holds.is_free(&self.state.keyspace, &message.wanted) {
            self.hold(message, context);
        } else {
            self.holds.waiting_holds += 1;
            self.holds.waiting.push_back(Parked::Hold(message));
        }
    }
}

/// Sends replies whose effects are on disk; if they are not, writes are answered with the error.
fn release(replies: Vec<Execute>, result: Result<(), String>, status: &LogStatus) {
    for Execute { mut batch, reply } in replies {
        match &result {
            Ok(()) => fail_dropped(&mut batch, status),
            Err(reason) => batch.fail_writes(&crate::oplog::misconf(reason)),
        }
        reply.send(batch);
    }
}

/// Answers a batch's writes with an error under `always` if their records went to the log ahead
/// of the replies, and it may have dropped them.
fn fail_dropped(batch: &mut Batch, status: &LogStatus) {
    let Some(failures) = batch.log_failures.take() else { return };
    if failures != status.failures() && status.policy() == FsyncPolicy::Always {
        batch.fail_writes(&crate::oplog::misconf("the log failed meanwhile"));
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(SHARD_MAILBOX);
        context.run_later(EXPIRY_PAUSE, Shard::expire);
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

impl Handler<RunTurn> for Shard {
    type Result = ();

    fn handle(&mut self, _: RunTurn, context: &mut Self::Context) {
        self.run_turn(context);
    }
}

impl Handler<Hold> for Shard {
    type Result = ();

    fn handle(&mut self, message: Hold, context: &mut Self::Context) {
        self.run_turn(context);
        self.hold_or_park(message, context);
        self.after_turn(context);
    }
}

impl Handler<Release> for Shard {
    type Result = ();

    fn handle(&mut self, message: Release, context: &mut Self::Context) {
        self.run_turn(context);
        let Release { ticket, records, uses, stats } = message;
        if let Some(stats) = stats {
            self.state.keyspace.stats.add_lookups(&stats);
        }
        self.state.apply_coordinated(RecordCursor::new(records.payload(), records.count()));
        self.state.keyspace.note_uses(&uses);
        self.holds.end(&mut self.state.keyspace, ticket);
        self.wake(context);
        self.after_turn(context);
    }
}

impl Handler<HandOver> for Shard {
    type Result = ();

    fn handle(&mut self, _: HandOver, context: &mut Self::Context) {
        self.run_turn(context);
        self.hand_over_scheduled = false;
        self.hand_over(context);
        self.hold_back(context);
    }
}

impl Handler<Load> for Shard {
    type Result = ();

    fn handle(&mut self, message: Load, _: &mut Self::Context) {
        self.state.load(message.block);
    }
}

impl<R: Send + 'static> Handler<Visit<R>> for Shard {
    type Result = actix::MessageResult<Visit<R>>;

    fn handle(&mut self, message: Visit<R>, context: &mut Self::Context) -> Self::Result {
        self.run_turn(context);
        let result = (message.visit)(&mut self.state);
        self.after_turn(context);
        actix::MessageResult(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::TABLE;

    /// A batch with a write that is executed, and whose record went to the log ahead of it.
    fn parked(status: &LogStatus) -> Batch {
        let mut batch = Batch::default();
        batch.push(TABLE.find(b"set").unwrap(), 0..3);
        batch.replies.raw(b"+OK\r\n");
        batch.ends.push(batch.replies.len());
        batch.executed = 1;
        batch.log_failures = Some(status.failures());
        batch
    }

    #[test]
    fn a_write_whose_record_may_be_dropped_is_not_acknowledged() {
        let status = LogStatus::new(FsyncPolicy::Always);
        let mut kept = parked(&status);
        fail_dropped(&mut kept, &status);
        assert_eq!(kept.replies.as_bytes(), b"+OK\r\n");

        let mut dropped = parked(&status);
        status.count_failure();
        fail_dropped(&mut dropped, &status);
        assert!(dropped.replies.as_bytes().starts_with(b"-MISCONF"));
    }
}
