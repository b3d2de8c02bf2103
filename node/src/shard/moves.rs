//! What a shard has to do with each of its partitions, and the moves that it takes part in.

use std::collections::BTreeMap;

use distcache_recovery::FrameBuilder;

use super::staging::{Received, Staging, Unreceivable};
use crate::cluster::moves::{Assignment, Part};
use crate::cluster::table::{Epoch, MoveId, PartitionId};
use crate::keyspace::copy::{CopyId, CopyProgress};
use crate::keyspace::{DetachedPartition, Keyspace, ShardId};
use crate::limits::MOVE_RESTARTS_MAX;
use crate::records::{Operation, Record};

/// Number of the copies that moves make; smaller ones are others'.
const FIRST_COPY: u64 = 1 << 32;

/// Whether commands on the partition wait from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freeze {
    /// They go on.
    No,
    /// They wait until the table says how the move ended.
    Yes,
}

/// The next piece of the stream of a move.
#[derive(Debug)]
pub struct GivenChunk {
    /// Records.
    pub frame: FrameBuilder,
    /// All keys are copied: only changes follow.
    pub is_through: bool,
    /// Nothing follows: the partition is frozen, and this is the end of the stream.
    pub is_drained: bool,
}

/// Why a partition cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ungivable {
    /// The table, as far as this shard has heard, has no such move.
    #[error("move {0} has ended, or has not begun")]
    NoSuchMove(MoveId),
    /// What was sent is void, as two databases have changed places.
    #[error("databases were swapped during move {0}")]
    Void(MoveId),
}

/// What [`ShardMoves::follow`] leaves to be done.
#[derive(Default)]
pub struct Followed {
    /// Partitions whose commands need not wait any more.
    pub thawed: Vec<PartitionId>,
    /// Keys that are this node's no more, to be freed where nobody waits for it.
    pub dropped: Vec<DetachedPartition>,
}

#[derive(Debug)]
struct Giving {
    move_id: MoveId,
    copy: CopyId,
    is_through: bool,
}

/// A shard's part in the cluster.
pub struct ShardMoves {
    shard: ShardId,
    /// By place among the shard's partitions.
    assignments: Vec<Assignment>,
    giving: BTreeMap<PartitionId, Giving>,
    /// What is received.
    pub staging: Staging,
    next_copy: u64,
}

impl ShardMoves {
    /// Begins as a shard that serves all its partitions.
    pub fn new(shard: ShardId) -> Self {
        let partitions = crate::cluster::table::PARTITIONS.div_ceil(shard.count);
        ShardMoves {
            shard,
            assignments: vec![Assignment::default(); partitions.into()],
            giving: BTreeMap::new(),
            staging: Staging::default(),
            next_copy: FIRST_COPY,
        }
    }

    fn place(&self, partition: PartitionId) -> usize {
        usize::from(partition.0 / self.shard.count)
    }

    /// Whether a partition's keys are in no state to be a snapshot of it.
    pub fn is_unsettled(&self, partition: PartitionId) -> bool {
        self.staging.move_of(partition).is_some()
            || self.assignments[self.place(partition)].part == Part::None
    }

    /// The epoch that a snapshot of a partition states: that of one which came by a move. It is 0
    /// for one that has been here all the time, whose epoch only counts restarts, and for one that
    /// is not this node's, of which there is nothing.
    pub fn snapshot_epoch(&self, partition: PartitionId) -> Epoch {
        let assignment = self.assignments[self.place(partition)];
        match assignment.part {
            Part::Serves { serve_from, .. } if serve_from.0 > 0 => assignment.epoch,
            Part::Serves { .. } | Part::Receives(_) | Part::None => Epoch(0),
        }
    }

    /// Partitions that are being given, with the bytes of their streams that wait here.
    pub fn backlogs<'a>(
        &'a self,
        keyspace: &'a Keyspace,
    ) -> impl Iterator<Item = (PartitionId, usize)> + 'a {
        self.giving.iter().map(|(&of, giving)| (of, keyspace.chunk_bytes(giving.copy)))
    }

    /// Whether any partition is being given.
    pub fn gives(&self) -> bool {
        !self.giving.is_empty()
    }

    /// Takes over what the table says of some of this shard's partitions, in whatever order the
    /// tables came. What that means for keys is in the journal.
    pub fn follow(
        &mut self,
        keyspace: &mut Keyspace,
        changes: &[(PartitionId, Assignment)],
    ) -> Followed {
        let mut followed = Followed::default();
        for &(partition, assignment) in changes {
            let place = self.place(partition);
            self.assignments[place] = assignment;
            let giving_now = match assignment.part {
                Part::Serves { giving, .. } => giving,
                Part::None | Part::Receives(_) => None,
            };
            if let Some(giving) = self.giving.get(&partition)
                && giving_now != Some(giving.move_id)
            {
                keyspace.end_copy(giving.copy);
                self.giving.remove(&partition);
                followed.thawed.push(partition);
            }
            self.settle(keyspace, partition, assignment, &mut followed);
        }
        followed
    }

    fn settle(
        &mut self,
        keyspace: &mut Keyspace,
        partition: PartitionId,
        assignment: Assignment,
        followed: &mut Followed,
    ) {
        let staged = self.staging.move_of(partition);
        let epoch = assignment.epoch.0;
        let node = |node: Option<crate::cluster::table::NodeId>| node.map_or(0, |node| node.0);
        match assignment.part {
            Part::Serves { serve_from, .. } if staged.is_some() => {
                let is_whole = self.staging.chunks_of(partition) == serve_from.0;
                // The table names nobody any more who gives it.
                let from = node(self.staging.source_of(partition));
                let Some(received) = self.staging.take(partition) else { return };
                if is_whole {
                    keyspace.attach(received);
                    note(keyspace, partition, Operation::Own { epoch, from });
                } else {
                    // Left over from a move that was cancelled before this node got it otherwise:
                    // the log must not begin with that either.
                    followed.dropped.push(received);
                    note(keyspace, partition, Operation::MoveIn { epoch, from: 0 });
                    note(keyspace, partition, Operation::Own { epoch, from: 0 });
                }
            }
            Part::Receives(move_id) if staged == Some(move_id) => {}
            Part::Receives(_) | Part::None => {
                let to = node(assignment.owner);
                let mut gone: Vec<_> = self.staging.take(partition).into_iter().collect();
                if keyspace.holds_partition(partition) {
                    gone.push(keyspace.detach(partition));
                }
                if !gone.is_empty() {
                    note(keyspace, partition, Operation::MoveOut { epoch, to });
                }
                followed.dropped.append(&mut gone);
            }
            Part::Serves { .. } => {}
        }
    }

    /// Takes the next chunk of a partition that this node receives. The first one of a move is
    /// preceded by a record that says so: see [`ShardMoves::begins`].
    ///
    /// # Errors
    /// [`Unreceivable`]; nothing has changed.
    pub fn check(&self, received: &Received) -> Result<(), Unreceivable> {
        let assignment = self.assignments[self.place(received.partition)];
        if assignment.part != Part::Receives(received.move_id) {
            return Err(Unreceivable::UnknownMove(received.move_id));
        }
        self.staging.check(received)
    }

    /// The record with which the log says that a partition is being received from now on.
    pub fn begins(&self, received: &Received) -> Option<FrameBuilder> {
        let epoch = self.assignments[self.place(received.partition)].epoch.0;
        (received.index == 0).then(|| {
            let mut frame = FrameBuilder::default();
            let operation = Operation::MoveIn { epoch, from: received.from.0 };
            frame.push(&Record { partition: received.partition, database: 0, operation });
            frame
        })
    }

    /// Begins to copy a partition for a move.
    ///
    /// # Errors
    /// [`Ungivable::NoSuchMove`].
    pub fn give(
        &mut self,
        keyspace: &mut Keyspace,
        partition: PartitionId,
        move_id: MoveId,
    ) -> Result<(), Ungivable> {
        match self.assignments[self.place(partition)].part {
            Part::Serves { giving: Some(giving), .. } if giving == move_id => {}
            _ => return Err(Ungivable::NoSuchMove(move_id)),
        }
        let copy = CopyId(self.next_copy);
        self.next_copy += 1;
        keyspace.begin_copy(copy, partition);
        self.giving.insert(partition, Giving { move_id, copy, is_through: false });
        Ok(())
    }

    /// Returns the next piece of a move's stream. It may be empty. `is_frozen` says whether
    /// commands on the partition wait, and none is under way; it is asked only if there is such a
    /// move.
    ///
    /// # Errors
    /// [`Ungivable`].
    pub fn next_chunk(
        &mut self,
        keyspace: &mut Keyspace,
        partition: PartitionId,
        move_id: MoveId,
        is_frozen: impl FnOnce() -> bool,
        empty: FrameBuilder,
    ) -> Result<GivenChunk, Ungivable> {
        let giving = self.giving.get_mut(&partition).filter(|giving| giving.move_id == move_id);
        let giving = giving.ok_or(Ungivable::NoSuchMove(move_id))?;
        let is_frozen = is_frozen();
        match keyspace.copy_slice(giving.copy) {
            CopyProgress::Restarted => return Err(Ungivable::Void(move_id)),
            CopyProgress::More => {}
            CopyProgress::Passed => giving.is_through = true,
        }
        let frame = keyspace.take_chunk(giving.copy, empty);
        let is_through = giving.is_through;
        Ok(GivenChunk { is_drained: is_through && is_frozen, frame, is_through })
    }

    /// Whether a value of the partition changes so often that its copy does not get through.
    pub fn is_chased(&self, keyspace: &Keyspace, partition: PartitionId) -> bool {
        let giving = self.giving.get(&partition);
        giving.is_some_and(|giving| keyspace.copy_restarts(giving.copy) > MOVE_RESTARTS_MAX)
    }
}

/// Puts a record about a whole partition into the journal.
fn note(keyspace: &mut Keyspace, partition: PartitionId, operation: Operation<'_>) {
    keyspace.journal.note(&Record { partition, database: 0, operation });
}

#[cfg(test)]
mod tests;
