//! The shard's part in moves: chunks out, chunks in, and what the table says.

use actix::{Context, Handler, Message, MessageResult};

use super::Shard;
use crate::actors::oplog::Waiter;
use crate::cluster::fault;
use crate::cluster::moves::Assignment;
use crate::cluster::table::{MoveId, PartitionId};
use crate::limits::MOVE_BACKLOG_BYTES_MAX;
use crate::shard::moves::{Freeze, GivenChunk, Ungivable};
use crate::shard::staging::{Received, Unreceived};

/// Takes over what the table says of some of the shard's partitions.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Follow {
    pub(super) changes: Vec<(PartitionId, Assignment)>,
}

/// Looks again at commands that wait: what they wait for may be another node's now.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Wake;

/// Begins to give a partition.
#[derive(Message)]
#[rtype(result = "Result<(), Ungivable>")]
pub(super) struct Give {
    pub(super) partition: PartitionId,
    pub(super) move_id: MoveId,
}

/// Asks for the next chunk of a partition that is given.
#[derive(Message)]
#[rtype(result = "Result<GivenChunk, Ungivable>")]
pub(super) struct NextChunk {
    pub(super) partition: PartitionId,
    pub(super) move_id: MoveId,
    pub(super) freeze: Freeze,
}

/// Takes a chunk of a partition that this node gets.
#[derive(Message)]
#[rtype(result = "Result<(), Box<Unreceived>>")]
pub(super) struct Receive {
    pub(super) received: Received,
    /// Who waits until this chunk and all before it are on disk.
    pub(super) synced: Option<Waiter>,
}

impl Shard {
    /// Lets the commands on partitions wait whose streams have become too long: they go on when the
    /// next chunk is taken.
    pub(super) fn throttle(&mut self) {
        if !self.state.moves.gives() {
            return;
        }
        for (partition, bytes) in self.state.moves.backlogs(&self.state.keyspace) {
            if bytes > MOVE_BACKLOG_BYTES_MAX {
                self.holds.slow(partition);
            }
        }
    }

    fn receive(
        &mut self,
        message: Receive,
        context: &mut Context<Self>,
    ) -> Result<(), Box<Unreceived>> {
        let Receive { received, synced } = message;
        if let Err(why) = self.state.moves.check(&received) {
            return Err(Box::new(Unreceived { why, received }));
        }
        self.void_copy(received.partition);
        let begins = self.state.moves.begins(&received);
        self.state.stage(&received);
        if begins.is_some() {
            // The journal may say still that the partition has gone from here.
            self.hand_over(context);
        }
        if let Some(log) = &self.log {
            if let Some(frame) = begins {
                log.append(frame, None);
            }
            match (received.frame, synced) {
                (frame, Some(synced)) if frame.is_empty() => log.sync(synced),
                (frame, None) if frame.is_empty() => {}
                (frame, synced) => log.append(frame, synced),
            }
        }
        Ok(())
    }

    fn next_chunk(&mut self, message: &NextChunk) -> Result<GivenChunk, Ungivable> {
        let NextChunk { partition, move_id, freeze } = *message;
        let holds = &mut self.holds;
        // Not if the move has ended meanwhile: nothing would thaw the partition.
        let is_frozen = || {
            if freeze == Freeze::Yes && !fault::is_off("freeze") {
                holds.freeze(partition);
            }
            // A coordinator's records may be in the log and not here yet.
            freeze == Freeze::Yes && !holds.touches(partition)
        };
        let empty = match &self.log {
            Some(log) => log.status.pooled_frame(),
            None => Default::default(),
        };
        let (state, keyspace) = (&mut self.state.moves, &mut self.state.keyspace);
        let chunk = state.next_chunk(keyspace, partition, move_id, is_frozen, empty)?;
        if state.is_chased(keyspace, partition) {
            self.holds.slow(partition);
        }
        Ok(chunk)
    }
}

impl Handler<Follow> for Shard {
    type Result = ();

    fn handle(&mut self, message: Follow, context: &mut Context<Self>) {
        self.run_turn(context);
        for partition in self.state.follow(&message.changes) {
            self.holds.thaw(partition);
        }
        for (partition, _) in &message.changes {
            self.void_copy(*partition);
        }
        self.after_turn(context);
    }
}

impl Handler<Wake> for Shard {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        self.wake(context);
        self.after_turn(context);
    }
}

impl Handler<Give> for Shard {
    type Result = MessageResult<Give>;

    fn handle(&mut self, message: Give, context: &mut Context<Self>) -> Self::Result {
        self.run_turn(context);
        let Give { partition, move_id } = message;
        MessageResult(self.state.moves.give(&mut self.state.keyspace, partition, move_id))
    }
}

impl Handler<NextChunk> for Shard {
    type Result = MessageResult<NextChunk>;

    fn handle(&mut self, message: NextChunk, context: &mut Context<Self>) -> Self::Result {
        self.run_turn(context);
        let chunk = self.next_chunk(&message);
        let partition = message.partition;
        // A chunk has all of the stream that waited here.
        let is_chased = self.state.moves.is_chased(&self.state.keyspace, partition);
        if !is_chased && self.holds.unslow(partition) {
            self.wake(context);
        }
        self.after_turn(context);
        MessageResult(chunk)
    }
}

impl Handler<Receive> for Shard {
    type Result = MessageResult<Receive>;

    fn handle(&mut self, message: Receive, context: &mut Context<Self>) -> Self::Result {
        self.run_turn(context);
        let received = self.receive(message, context);
        self.hold_back(context);
        MessageResult(received)
    }
}
