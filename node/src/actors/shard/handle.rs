//! The way to a shard from any thread.

use std::collections::VecDeque;
use std::sync::Arc;

use actix::dev::SendError;
use actix::{Actor, Addr, Handler, Message};
use actix_rt::ArbiterHandle;
use distcache_recovery::{FrameBuilder, PartitionId};
use tokio::sync::oneshot;

use super::copying::CopyPartitions;
use super::inbox::{Execute, Inbox, Notice};
use super::moving::{Follow, Give, NextChunk, Receive, Wake};
use super::{HandOver, Hold, Load, Release, RunTurn, Shard, Visit};
use crate::actors::oplog::Waiter;
use crate::cluster::moves::Assignment;
use crate::cluster::table::MoveId;
use crate::command::{Command, CommandError};
use crate::keyspace::KeyspaceStats;
use crate::keyspace::lend::Use;
use crate::oplog::load::LoadBlock;
use crate::shard::ShardState;
use crate::shard::holds::{Held, Ticket, Wanted};
use crate::shard::moves::{Freeze, GivenChunk, Ungivable};
use crate::shard::staging::{Received, Unreceived};

/// The shard has stopped, and the node with it.
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// Why a partition is not given.
#[derive(Debug, thiserror::Error)]
pub enum GiveError {
    /// The node is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The shard refuses.
    #[error(transparent)]
    Ungivable(#[from] Ungivable),
}

impl From<Stopped> for std::io::Error {
    fn from(stopped: Stopped) -> Self {
        std::io::Error::other(stopped)
    }
}

/// The way to a shard from any thread.
#[derive(Clone)]
pub struct ShardHandle {
    address: Addr<Shard>,
    inbox: Arc<Inbox>,
}

impl ShardHandle {
    /// Starts a shard on an arbiter; `make` runs there.
    pub fn start(
        arbiter: &ArbiterHandle,
        make: impl FnOnce(Arc<Inbox>) -> Shard + Send + 'static,
    ) -> Self {
        let inbox = Arc::new(Inbox::open());
        let of_shard = inbox.clone();
        let address = Shard::start_in_arbiter(arbiter, move |_| make(of_shard));
        ShardHandle { address, inbox }
    }

    /// Sends a batch; it comes back in the slot of its reply.
    ///
    /// # Errors
    /// [`Stopped`].
    #[inline]
    pub fn execute(&self, execute: Execute) -> Result<(), Stopped> {
        if self.inbox.put(execute)? == Notice::Needed {
            #[expect(clippy::disallowed_methods, reason = "one each time the inbox is emptied")]
            self.address.do_send(RunTurn);
        }
        Ok(())
    }

    async fn send<M>(&self, message: M) -> Result<(), Stopped>
    where
        M: Message<Result = ()> + Send + 'static,
        Shard: Handler<M>,
    {
        match self.address.try_send(message) {
            Ok(()) => Ok(()),
            Err(SendError::Full(message)) => self.address.send(message).await.map_err(|_| Stopped),
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
        uses: Vec<Use>,
        stats: Option<KeyspaceStats>,
    ) -> Result<(), Stopped> {
        self.send(Release { ticket, records, uses, stats }).await
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
        self.address.send(Visit { visit: Box::new(visit) }).await.map_err(|_| Stopped)
    }

    /// Applies the shard's part of a block of the log. The loader bounds the blocks under way.
    #[expect(clippy::disallowed_methods, reason = "the loader's gate bounds the queue")]
    pub fn load(&self, block: LoadBlock) {
        self.address.do_send(Load { block });
    }

    /// Takes over what the table says of some of the shard's partitions.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn follow(&self, changes: Vec<(PartitionId, Assignment)>) -> Result<(), Stopped> {
        self.address.send(Follow { changes }).await.map_err(|_| Stopped)
    }

    /// Lets commands that wait be looked at again.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn wake(&self) -> Result<(), Stopped> {
        self.send(Wake).await
    }

    /// Begins to give a partition to another node.
    ///
    /// # Errors
    /// Why it cannot be given.
    pub async fn give(&self, partition: PartitionId, by: MoveId) -> Result<(), GiveError> {
        Ok(self.address.send(Give { partition, move_id: by }).await.map_err(|_| Stopped)??)
    }

    /// Returns the next chunk of a partition that is given, and freezes it if that is wanted.
    ///
    /// # Errors
    /// Why it cannot be given any more.
    pub async fn next_chunk(
        &self,
        partition: PartitionId,
        move_id: MoveId,
        freeze: Freeze,
    ) -> Result<GivenChunk, GiveError> {
        let message = NextChunk { partition, move_id, freeze };
        Ok(self.address.send(message).await.map_err(|_| Stopped)??)
    }

    /// Takes a chunk of a partition that this node gets. `synced` hears when it is on disk with
    /// all before it, where there is a log.
    ///
    /// # Errors
    /// [`Stopped`]; the inner error gives the chunk back, which was not taken.
    pub async fn receive(
        &self,
        received: Received,
        synced: Option<Waiter>,
    ) -> Result<Result<(), Box<Unreceived>>, Stopped> {
        self.address.send(Receive { received, synced }).await.map_err(|_| Stopped)
    }

    /// Hands the journal over to the log, so that what follows in the log comes behind it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn hand_over(&self) -> Result<(), Stopped> {
        self.address.send(HandOver).await.map_err(|_| Stopped)
    }
}
