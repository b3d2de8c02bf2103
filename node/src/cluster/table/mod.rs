//! The table: who is a member, and which node owns which partition.
//!
//! Every node keeps a copy, and all copies are equal, since each is the fold of the same log of
//! [`Entry`] values by [`apply()`], which reads neither clock nor randomness and does no input or
//! output. Consensus decides the order of that log; this module decides what an entry means.
//!
//! A **partition** has one primary, which serves it, and an in-sync set (ISR) of nodes that hold
//! every acknowledged write of it, the primary included. Its **epoch** grows whenever the primary
//! or the in-sync set changes, a move is cancelled, or a primary is back; who proposes a change
//! of a partition says which epoch it has seen, so a proposal that comes too late does nothing.
//!
//! A **move** begins and ends by entries. The only copy of a partition is **handed over**: one
//! `Switch` makes the target the primary and the whole in-sync set. Where there are, or shall be,
//! further copies, the target joins the set, becomes primary if it is to, and a copy that is to go
//! leaves the set, by an entry each; so there is always somebody in the set who may be promoted.
//!
//! Modules in reading order: [`identity`], this one, [`entry`], [`outcome`], [`mod@apply`],
//! [`snapshot`], [`invariants`], [`limits`].

pub mod apply;
pub mod entry;
pub mod identity;
pub mod invariants;
pub mod limits;
mod membership;
pub mod outcome;
mod ownership;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::apply::apply;
pub use self::entry::{Announcement, Change, Entry};
pub use self::identity::{ClusterId, Incarnation, MoveId, NodeId, StreamSequence};
pub use self::invariants::{check_invariants, check_transition};
pub use self::limits::PARTITIONS;
pub use self::outcome::{Outcome, Refusal};
pub use self::snapshot::SnapshotError;
pub use crate::records::PartitionId;
pub use distcache_recovery::Epoch;

/// The replicated state of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// The cluster, once it is created.
    pub cluster: Option<ClusterId>,
    /// Index of the last entry of the log that is in this state. Entries of the consensus
    /// library's own count as well: whoever applies them sets it.
    pub version: u64,
    /// The members.
    pub nodes: BTreeMap<NodeId, Member>,
    /// The partitions, by number.
    pub partitions: Box<[Partition]>,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Where others and clients reach it.
    pub addresses: NodeAddresses,
    /// Where it stands; copies of a partition are kept in different zones. May be empty.
    pub zone: String,
    /// Its present process, or its last one.
    pub incarnation: Incarnation,
    /// Whether it runs and stays.
    pub status: Status,
    /// Its share of the data relative to others'.
    pub weight: u32,
    /// What it is for.
    pub role: Role,
}

/// Where a node is reached, each as `host:port`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeAddresses {
    /// The other nodes' port.
    pub bus: String,
    /// The port for any client.
    pub client: String,
    /// The port for clients that know the slots.
    pub direct: String,
    /// The port of metrics; empty if there is none.
    pub http: String,
}

/// Whether a node runs and stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It runs.
    Up,
    /// It runs, and its partitions are being moved away.
    Leaving,
    /// It does not answer.
    Down {
        /// It was leaving, and goes on with that when it is back.
        leaving: bool,
    },
}

/// What a node is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It owns partitions, and may vote.
    #[default]
    Data,
    /// It only votes.
    Witness,
}

/// Who has a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// How often the primary or the in-sync set changed, a move was cancelled, or the primary came
    /// back after it had been taken for down.
    pub epoch: Epoch,
    /// The node that serves it, if it is up and holds a lease.
    pub primary: Option<NodeId>,
    /// Nodes that hold every acknowledged write, the primary first or wherever it was added.
    pub isr: Vec<NodeId>,
    /// Of the in-sync set, some have restarted and the others are down, so nobody knows yet whose
    /// copy is the newest: the set stays as it is until one of it is promoted, or a primary that
    /// had not restarted is back.
    pub recovering: bool,
    /// The move that is under way.
    pub joining: Option<Joining>,
    /// The last move that ended, by which a repeated proposal is recognised. It need not be the
    /// one by which the primary became that: see [`Partition::serve_from`].
    pub ended: Option<EndedMove>,
    /// What the primary must have received before it serves: the last change that the former
    /// primary sent before the switch. 0 if it did not become primary by a switch. Tables may be
    /// skipped, and [`Partition::ended`] names later moves as well, so this, not that, tells a
    /// primary whether what it has received is the partition.
    pub serve_from: StreamSequence,
}

/// A move of a partition to a node, under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Joining {
    /// The node that gets a copy.
    pub node: NodeId,
    /// Its process; with another one, what it has received is lost.
    pub incarnation: Incarnation,
    /// The move.
    pub move_id: MoveId,
    /// What the node becomes.
    pub then: Then,
    /// The node that gives its copy up: with the switch if it hands the only one over, else by
    /// leaving the in-sync set in the end.
    pub drop: Option<NodeId>,
    /// How far the move is.
    pub phase: MovePhase,
    /// Whether the node was in the in-sync set before, so it stays there if the move is
    /// cancelled.
    pub had_copy: bool,
}

/// What the target of a move becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Then {
    /// The node that serves the partition.
    BecomePrimary,
    /// A further copy.
    Replica,
}

/// How far a move is. A handover of the only copy goes from `Copying` straight to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MovePhase {
    /// The target receives the partition, and is not in the in-sync set. When the source or the
    /// target is down or restarts, the move is over.
    Copying,
    /// The target has all of it and is in the in-sync set, but not the primary yet. It may be
    /// promoted when the source dies; a member that is only down keeps its place.
    InSync,
    /// The target is what it was to become; one node still has a copy to give up.
    Dropping,
}

/// A move that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndedMove {
    /// The move.
    pub move_id: MoveId,
    /// Whether the target became what it was to become.
    pub completed: bool,
}

impl State {
    /// Returns the state before the first entry: no cluster, no members, nobody owns anything.
    pub fn new() -> Self {
        Self::with_partitions(PARTITIONS)
    }

    /// The same with fewer partitions, for models whose states must be small.
    pub fn with_partitions(count: u16) -> Self {
        let partitions = vec![Partition::default(); count.into()].into_boxed_slice();
        State { cluster: None, version: 0, nodes: BTreeMap::new(), partitions }
    }

    /// Returns a partition, or `None` if there is none of this number.
    pub fn partition(&self, partition: PartitionId) -> Option<&Partition> {
        self.partitions.get(usize::from(partition.0))
    }

    /// Returns the node that serves a partition, as far as the table knows: its primary, if that
    /// is up. Whether it holds a lease, only the node itself knows.
    pub fn serving_owner(&self, partition: PartitionId) -> Option<NodeId> {
        self.partition(partition)?.primary.filter(|&primary| self.is_up(primary))
    }

    /// Whether a node is a member that runs, be it leaving or not.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|member| member.status.is_up())
    }

    /// Whether a node may be given partitions.
    pub fn takes_partitions(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|member| member.takes_partitions())
    }

    /// Returns the first partition of which a node has a copy, or is about to get one: as long as
    /// there is one, the node cannot be forgotten.
    pub fn held_by(&self, node: NodeId) -> Option<PartitionId> {
        let holds = |partition: &Partition| {
            partition.isr.contains(&node)
                || partition.joining.is_some_and(|joining| joining.node == node)
        };
        self.numbered().find(|(_, partition)| holds(partition)).map(|(id, _)| id)
    }

    /// Goes through all partitions with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        (0..).map(PartitionId).zip(&self.partitions)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl Member {
    /// Whether it may be given partitions: it runs, stays, and is there for data.
    pub fn takes_partitions(&self) -> bool {
        self.status == Status::Up && self.role == Role::Data && self.weight > 0
    }
}

impl Status {
    /// Whether the node runs.
    pub fn is_up(self) -> bool {
        !matches!(self, Status::Down { .. })
    }

    /// Whether the node was asked to leave, be it up or down.
    pub fn is_leaving(self) -> bool {
        matches!(self, Status::Leaving | Status::Down { leaving: true })
    }
}
