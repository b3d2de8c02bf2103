//! The way to a shard from any thread.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::dev::SendError;
use actix::{Actor, Addr, Handler, Message};
use actix_rt::ArbiterHandle;
use distcache_recovery::{FrameBuilder, PartitionId};
use tokio::sync::oneshot;

use super::copying::CopyPartitions;
use super::{Execute, HandOver, Hold, Load, Release, Shard, Visit};
use crate::command::{Command, CommandError};
use crate::keyspace::KeyspaceStats;
use crate::oplog::load::LoadBlock;
use crate::shard::ShardState;
use crate::shard::batch::Batch;
use crate::shard::holds::{Held, Ticket, Wanted};

/// The shard has stopped, and the node with it.
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

impl From<Stopped> for std::io::Error {
    fn from(stopped: Stopped) -> Self {
        std::io::Error::other(stopped)
    }
}

/// The way to a shard from any thread.
#[derive(Clone)]
pub struct ShardHandle(Addr<Shard>);

impl ShardHandle {
    /// Starts a shard on an arbiter; `make` runs there.
    pub fn start(arbiter: &ArbiterHandle, make: impl FnOnce() -> Shard + Send + 'static) -> Self {
        ShardHandle(Shard::start_in_arbiter(arbiter, move |_| make()))
    }

    /// Sends a batch, waiting for a place in the mailbox. Returns where it will come back.
    ///
    /// # Errors
    /// [`Stopped`].
    #[inline]
    pub async fn execute(
        &self,
        batch: Box<Batch>,
    ) -> Result<oneshot::Receiver<Box<Batch>>, Stopped> {
        let (reply, receiver) = oneshot::channel();
        self.send(Execute { batch, reply }).await?;
        Ok(receiver)
    }

    #[inline]
    async fn send<M>(&self, message: M) -> Result<(), Stopped>
    where
        M: Message<Result = ()> + Send + 'static,
        Shard: Handler<M>,
    {
        match self.0.try_send(message) {
            Ok(()) => Ok(()),
            Err(SendError::Full(message)) => self.0.send(message).await.map_err(|_| Stopped),
            Err(SendError::Closed(_)) => Err(Stopped),
        }
    }

    /// Holds keys for a coordinator, once they are free.
    ///
    /// # Errors
    /// The shard's refusal of the command.
    pub async fn hold(
        &self,
        ticket: Ticket,
        command: Command,
        database: u8,
        wanted: Wanted,
    ) -> Result<Held, CommandError> {
        let (reply, receiver) = oneshot::channel();
        let stopped = |_| CommandError::err(Stopped);
        self.send(Hold { ticket, command, database, wanted, reply }).await.map_err(stopped)?;
        receiver.await.unwrap_or_else(|_| Err(CommandError::err(Stopped)))
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn release(
        &self,
        ticket: Ticket,
        records: Arc<FrameBuilder>,
        stats: Option<KeyspaceStats>,
    ) -> Result<(), Stopped> {
        self.send(Release { ticket, records, stats }).await
    }

    /// Copies partitions to the log as snapshots; returns when all are committed.
    ///
    /// # Errors
    /// Why some are not.
    pub async fn copy_partitions(&self, partitions: VecDeque<PartitionId>) -> Result<(), String> {
        let (reply, receiver) = oneshot::channel();
        let stopped = || Stopped.to_string();
        self.send(CopyPartitions { partitions, reply }).await.map_err(|_| stopped())?;
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Runs a function on the shard's state and returns its result.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn visit<R: Send + 'static>(
        &self,
        visit: impl FnOnce(&mut ShardState) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        self.0.send(Visit { visit: Box::new(visit) }).await.map_err(|_| Stopped)
    }

    /// Applies the shard's part of a block of the log. The loader bounds the blocks under way.
    #[expect(clippy::disallowed_methods, reason = "the loader's gate bounds the queue")]
    pub fn load(&self, block: LoadBlock) {
        self.0.do_send(Load { block });
    }

    /// Hands the journal over to the log, so that what follows in the log comes behind it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn hand_over(&self) -> Result<(), Stopped> {
        self.0.send(HandOver).await.map_err(|_| Stopped)
    }
}
