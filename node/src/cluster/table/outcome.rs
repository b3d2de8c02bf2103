//! What became of an entry.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limits::{ANNOUNCED_BYTES_MAX, ISR_MAX, NODES_MAX};
use super::{ClusterId, Epoch, Incarnation, MoveId, NodeId, PartitionId};

/// What became of an entry; only the first changes the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It took effect.
    Applied,
    /// It had taken effect before: this is a repetition.
    AlreadyApplied,
    /// It cannot take effect.
    Refused(Refusal),
}

impl Outcome {
    /// Whether the table is as the proposer wanted it.
    pub fn is_success(self) -> bool {
        !matches!(self, Outcome::Refused(_))
    }
}

/// Why an entry did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// An entry came before the one that creates the cluster.
    #[error("there is no cluster yet")]
    NoCluster,
    /// A second creation.
    #[error("the cluster {0} exists already")]
    ClusterExists(ClusterId),
    /// The node was never a member, or is none any more.
    #[error("node {0} is not a member of the cluster")]
    UnknownNode(NodeId),
    /// Another process has joined under this id: two nodes with one data directory's id, or a
    /// member that should have been announced as up again.
    #[error("node {node} is a member already, as process {incarnation}")]
    NodeKnown {
        /// The node.
        node: NodeId,
        /// The process that is known.
        incarnation: Incarnation,
    },
    /// The entry is about a process of the node that is not its present one.
    #[error("node {node} runs as process {current} by now")]
    StaleIncarnation {
        /// The node.
        node: NodeId,
        /// Its present process.
        current: Incarnation,
    },
    /// The node cannot become primary, or a replica, since it does not answer.
    #[error("node {0} is down")]
    NodeIsDown(NodeId),
    /// The node is leaving, a witness, or down.
    #[error("node {0} takes no partitions")]
    TakesNoPartitions(NodeId),
    /// A member that is up was to be forgotten without leaving.
    #[error("node {0} is up and not leaving: let it leave first")]
    NotLeaving(NodeId),
    /// The node has a copy left, or gets one.
    #[error("node {node} still has partition {partition}")]
    StillHolds {
        /// The node.
        node: NodeId,
        /// The first of its partitions.
        partition: PartitionId,
    },
    /// Nobody could take the partitions of the node that wants to leave.
    #[error("node {0} is the last one that can hold data: add another first")]
    LastDataNode(NodeId),
    /// The cluster has as many members as it may.
    #[error("a cluster has at most {NODES_MAX} members")]
    TooManyNodes,
    /// An address or the zone's name is too long.
    #[error("an announced address or zone is longer than {ANNOUNCED_BYTES_MAX} bytes")]
    AnnouncementTooLong,
    /// The number is too large.
    #[error("there is no partition {0}")]
    UnknownPartition(PartitionId),
    /// The partition changed since the proposer looked.
    #[error("partition {partition} is in epoch {actual}, not {expected}")]
    EpochMismatch {
        /// The partition.
        partition: PartitionId,
        /// As the proposer knew it.
        expected: Epoch,
        /// As it is.
        actual: Epoch,
    },
    /// The partition is moving.
    #[error("move {0} of this partition is under way")]
    MoveUnderWay(MoveId),
    /// The move is neither under way nor the last one that ended.
    #[error("there is no move {0} of this partition")]
    NoSuchMove(MoveId),
    /// The move was cancelled before.
    #[error("move {0} was cancelled")]
    MoveCancelled(MoveId),
    /// The move cannot be cancelled any more.
    #[error("move {0} is decided")]
    MoveDecided(MoveId),
    /// The target has not joined the in-sync set, and the primary does not hand the only copy over
    /// either; or the target is another node, or not to become primary.
    #[error("move {0} is not ready for a switch")]
    NotReady(MoveId),
    /// The node that is to hand over or to stay is another one.
    #[error("node {0} is not the primary")]
    NotPrimary(NodeId),
    /// The primary cannot be removed from the in-sync set, nor be the target of a move.
    #[error("node {0} is the primary")]
    IsPrimary(NodeId),
    /// The node has no copy that can be relied on.
    #[error("node {0} is not in the in-sync set")]
    NotInSync(NodeId),
    /// The node has a copy already.
    #[error("node {0} is in the in-sync set already")]
    InSync(NodeId),
    /// There are as many copies as there may be.
    #[error("a partition has at most {ISR_MAX} copies")]
    TooManyCopies,
    /// Nobody serves the partition, so it can neither move nor shrink.
    #[error("the partition has no primary that is up")]
    NoPrimary,
    /// The primary is up: only itself may hand over.
    #[error("the primary {0} is up")]
    PrimaryUp(NodeId),
    /// The partition cannot be assigned empty while somebody has it.
    #[error("node {0} has a copy and is up")]
    CopyExists(NodeId),
    /// The copy to be dropped at the end of a move is none, the target's, or the only one.
    #[error("node {0} cannot give up its copy by this move")]
    CannotDrop(NodeId),
}
