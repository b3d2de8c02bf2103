//! Partitions that this shard receives and does not serve yet.
//!
//! Their keys are in a keyspace of their own, so that nobody sees, counts, expires or evicts them.
//! When the table says that a partition is this node's, its tables are moved into the keyspace
//! that is served, which costs a step a slot.

use std::collections::BTreeMap;

use distcache_recovery::{FrameBuilder, RecordCursor};

use crate::cluster::table::{MoveId, NodeId, PartitionId};
use crate::keyspace::{DetachedPartition, Keyspace};

/// A chunk of a partition that moves to this node.
#[derive(Debug)]
pub struct Received {
    /// The partition.
    pub partition: PartitionId,
    /// The move.
    pub move_id: MoveId,
    /// Number of the chunk in the stream; the one with 0 begins the move.
    pub index: u64,
    /// Who sent it.
    pub from: NodeId,
    /// [`LogStatus::failures`](crate::oplog::LogStatus::failures) before it goes to the log.
    pub log_failures: u64,
    /// Its records, of this partition only.
    pub frame: FrameBuilder,
}

/// Why a chunk is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreceivable {
    /// The table, as far as this node knows, has no such move to it.
    #[error("no move {0} to this node is known here")]
    UnknownMove(MoveId),
    /// The log has dropped chunks of it, or may have.
    #[error("the log failed during move {0}")]
    LogFailed(MoveId),
    /// Chunks are missing: the connection was lost meanwhile.
    #[error("chunk {found} of move {move_id} does not follow: {expected} would")]
    Gap {
        /// The move.
        move_id: MoveId,
        /// The chunk that would follow.
        expected: u64,
        /// The one that came.
        found: u64,
    },
}

/// A chunk that was not taken.
#[derive(Debug)]
pub struct Unreceived {
    /// Why.
    pub why: Unreceivable,
    /// The chunk.
    pub received: Received,
}

#[derive(Debug)]
struct Receiving {
    move_id: MoveId,
    from: NodeId,
    next_index: u64,
    /// As it was at the first chunk.
    log_failures: u64,
}

/// What this shard has received.
#[derive(Default)]
pub struct Staging {
    /// `None` while nothing is received: it has a table for each slot.
    keyspace: Option<Box<Keyspace>>,
    receiving: BTreeMap<PartitionId, Receiving>,
}

impl Staging {
    /// Bytes of keys and tables.
    pub fn used_bytes(&self) -> usize {
        self.keyspace.as_ref().map_or(0, |keyspace| keyspace.used_bytes())
    }

    /// The move by which a partition is being received.
    pub fn move_of(&self, partition: PartitionId) -> Option<MoveId> {
        self.receiving.get(&partition).map(|receiving| receiving.move_id)
    }

    /// Who sends a partition that is being received.
    pub fn source_of(&self, partition: PartitionId) -> Option<NodeId> {
        self.receiving.get(&partition).map(|receiving| receiving.from)
    }

    /// How many chunks of a partition were received.
    pub fn chunks_of(&self, partition: PartitionId) -> u64 {
        self.receiving.get(&partition).map_or(0, |receiving| receiving.next_index)
    }

    /// Checks that a chunk is the next one of its move, or the first.
    ///
    /// # Errors
    /// [`Unreceivable::Gap`] and [`Unreceivable::LogFailed`]; nothing has changed.
    pub fn check(&self, received: &Received) -> Result<(), Unreceivable> {
        let Received { partition, move_id, index: found, .. } = *received;
        let known = self.receiving.get(&partition).filter(|known| known.move_id == move_id);
        let expected = known.map_or(0, |receiving| receiving.next_index);
        if found != expected {
            return Err(Unreceivable::Gap { move_id, expected, found });
        }
        let log_failures = known.map_or(received.log_failures, |known| known.log_failures);
        match log_failures == received.log_failures && log_failures.is_multiple_of(2) {
            true => Ok(()),
            false => Err(Unreceivable::LogFailed(move_id)),
        }
    }

    /// Applies a chunk that [`Staging::check`] has accepted. The first one of a move begins with
    /// nothing. Its keys count as used now, by the clock of the keyspace that is `served`.
    pub fn apply(&mut self, received: &Received, served: &Keyspace) {
        let Received { partition, move_id, index, from, ref frame, log_failures } = *received;
        let keyspace = self.keyspace.get_or_insert_with(|| Box::new(served.twin()));
        keyspace.clock.follow(&served.clock);
        if index == 0 {
            drop(keyspace.detach(partition));
        }
        for record in RecordCursor::new(frame.payload(), frame.count()) {
            keyspace.apply(&record.expect("the records were checked when they came"));
        }
        let receiving = Receiving { move_id, from, next_index: index + 1, log_failures };
        self.receiving.insert(partition, receiving);
    }

    /// Takes a partition out, with what was received of it; `None` if nothing was.
    pub fn take(&mut self, partition: PartitionId) -> Option<DetachedPartition> {
        self.receiving.remove(&partition)?;
        let taken = self.keyspace.as_mut().map(|keyspace| keyspace.detach(partition));
        if self.receiving.is_empty() {
            self.keyspace = None;
        }
        taken
    }
}
