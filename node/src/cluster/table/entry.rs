//! What the log of the cluster consists of. New kinds stand at the end, here and in the log
//! tool's mirror of them, `recovery/src/raft_entry.rs`.

use serde::{Deserialize, Serialize};

use super::{
    ClusterId, Epoch, Incarnation, MoveId, NodeAddresses, NodeId, PartitionId, Role,
    StreamSequence, Then,
};

/// One change of the table. All kinds may be proposed again when nobody knows whether the first
/// proposal was accepted: a repetition is answered
/// [`AlreadyApplied`](super::Outcome::AlreadyApplied) or refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Entry {
    /// A node creates the cluster, and owns all partitions unless it is a witness.
    Create {
        /// The new cluster.
        cluster: ClusterId,
        /// Its first node.
        node: NodeId,
        /// That node.
        announcement: Announcement,
    },
    /// A node that is no member yet joins. It owns nothing at first.
    NodeJoin {
        /// The node.
        node: NodeId,
        /// What it says of itself.
        announcement: Announcement,
    },
    /// A member runs: it was started again (with a new incarnation), it answers again (with the
    /// same one), or its addresses changed.
    ///
    /// With a new incarnation it leaves the in-sync sets in which somebody else is up. Where
    /// nobody else is up, the partition recovers: so the leader proposes [`Entry::NodeDown`] for
    /// all that are silent or restarted before it proposes this for the first of them.
    NodeUp {
        /// The node.
        node: NodeId,
        /// The process that the table has for the node as this process knows it, to be filled in
        /// by the process that announces itself: what an earlier process has sent, and what comes
        /// late, then does nothing. With its own, it only updates what it says of itself. A
        /// refusal tells which one it is.
        replaces: Incarnation,
        /// What it says of itself.
        announcement: Announcement,
    },
    /// A member does not answer. Nobody else becomes primary by this; moves to it and from it
    /// that only copy are cancelled, so a [`Change::Switch`] that would hand over comes too late.
    NodeDown {
        /// The node.
        node: NodeId,
        /// Its process that does not answer.
        incarnation: Incarnation,
    },
    /// A member is to give up all that it has. It goes on with that after a restart.
    NodeLeaving {
        /// The node.
        node: NodeId,
    },
    /// A member that is leaving or down, and has nothing any more, is none from now on.
    NodeForget {
        /// The node.
        node: NodeId,
    },
    /// A change of one partition.
    Partition {
        /// The partition.
        partition: PartitionId,
        /// Its epoch as the proposer knows it; with any other, the entry does nothing.
        expect_epoch: Epoch,
        /// What changes.
        change: Change,
    },
}

/// A change of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// A node shall get the partition. The epoch stays.
    BeginMove {
        /// The new move.
        move_id: MoveId,
        /// The node that gets it.
        target: NodeId,
        /// The process of that node.
        incarnation: Incarnation,
        /// What the node becomes.
        then: Then,
        /// The node that gives its copy up in the end.
        drop: Option<NodeId>,
    },
    /// The target of a move has everything that the primary has acknowledged, and the primary
    /// acknowledges nothing any more that the target has not. For a further copy, and for a move
    /// of one copy among several; the only copy is handed over without it.
    JoinIsr {
        /// The move.
        move_id: MoveId,
    },
    /// A node leaves the in-sync set: it is too slow, it is down, or a move ends with that, one
    /// that was not a handover.
    ShrinkIsr {
        /// The node, not the primary.
        remove: NodeId,
    },
    /// The target of a move becomes the primary: the point at which a move is decided. The former
    /// primary has stopped serving before it proposes this, and serves again only when it has
    /// applied that the move ended otherwise.
    ///
    /// If the target is in the in-sync set already, that set stays as it is, and the former
    /// primary is in it until [`Change::ShrinkIsr`].
    ///
    /// If the former primary is alone in the set and the node to be dropped, this is a
    /// **handover**: the target is alone in the set from now on, and the move is over. The target
    /// must have everything on its disk before this is proposed, since the former primary deletes
    /// its copy when it applies this.
    Switch {
        /// The move.
        move_id: MoveId,
        /// The former primary.
        from: NodeId,
        /// The target.
        to: NodeId,
        /// The last change that the former primary sent; the target has acknowledged it.
        sequence: StreamSequence,
    },
    /// The move ends undecided; a switch that comes later does nothing.
    CancelMove {
        /// The move.
        move_id: MoveId,
    },
    /// A node becomes primary in place of one that is down or has restarted. The proposer has
    /// waited until the lease of the former primary is over. Nobody proposes it as long as there
    /// is one copy of each partition.
    Promote {
        /// The node.
        to: NodeId,
        /// The operator accepts that acknowledged writes are lost: the node need not be in the
        /// in-sync set.
        unclean: bool,
    },
    /// A node becomes primary with an empty partition: nobody ever had it, or no copy can be
    /// reached and the operator has chosen to go on without. The proposer has waited until the
    /// lease of the former primary is over.
    AssignEmpty {
        /// The node.
        to: NodeId,
    },
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Announcement {
    /// Its present process.
    pub incarnation: Incarnation,
    /// Where it is reached.
    pub addresses: NodeAddresses,
    /// Where it stands; may be empty.
    pub zone: String,
    /// Its share of the data relative to others'; 100 is usual, and 0 owns nothing.
    pub weight: u32,
    /// What it is for.
    pub role: Role,
}
