//! What there is at one moment, and what can happen next.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use distcache_node::cluster::table::{
    Announcement, Change, Entry, Epoch, Incarnation, MoveId, MovePhase, NodeAddresses, NodeId,
    Partition, Role, State,
};

use super::{NODES, PARTITION, WRITE};

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct World {
    /// The table after each entry that was committed and applied to it.
    pub(super) tables: Vec<Arc<State>>,
    pub(super) nodes: [Node; 2],
    /// Ticks that the leader still has to wait, after its last answer to each node.
    pub(super) waits: [u8; 2],
    pub(super) pending: Vec<Pending>,
    pub(super) write: Write,
    pub(super) restarts: u8,
    pub(super) downs: u8,
    pub(super) elections: u8,
    pub(super) moves: u8,
    /// An entry broke the table.
    pub(super) broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// Entries that it has applied: an index of `tables`.
    pub(super) applied: usize,
    pub(super) incarnation: u64,
    /// Ticks left, 0 without a lease.
    pub(super) lease: u8,
    /// The table with which the lease was granted.
    pub(super) config: usize,
    /// A lease on its way: ticks left, and the table with which it was granted.
    pub(super) grant: Option<(u8, usize)>,
    pub(super) frozen: bool,
    /// The move whose target gets every write of this node.
    pub(super) link: Option<MoveId>,
    /// What is on its disk.
    pub(super) copy: u8,
    /// What the target has answered for.
    pub(super) answered: u8,
    /// The target has answered that this was all, and that it is on its disk.
    pub(super) is_through: bool,
    /// The move of which this node has received the beginning.
    pub(super) receives: Option<MoveId>,
    /// What it has received and not on its disk yet.
    pub(super) staged: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Write {
    New,
    /// It waits at a frozen primary.
    Held(usize),
    /// It is in the copy of the node, and not answered.
    Executed(usize),
    Acknowledged,
    /// The client was told to go elsewhere.
    Refused,
    /// The node restarted before it answered.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) entry: Entry,
    /// Appended to the log of a leader that was replaced since.
    pub(super) inherited: bool,
    pub(super) by_leader: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Tick,
    /// A node asks for a lease and the leader grants it; a request that is under way for a tick
    /// would bring nothing any more, so nothing is lost by making one step of this.
    Grant(usize),
    Receive(usize),
    Apply(usize),
    Restart(usize),
    Elect,
    /// All the entries that a node lacks: it looks at the present table only.
    Skip(usize),
    Commit(usize),
    ProposeDown(usize),
    ProposeUp(usize),
    ProposePromote(usize),
    ProposeMove,
    ProposeJoin(usize),
    ProposeSwitch(usize),
    ProposeCancel(usize),
    ProposeShrink(usize),
    Write(usize),
    Copy(usize),
    Replicate(usize),
    Acknowledge(usize),
    /// The last of the stream goes from a frozen primary to the target, which answers.
    Finish(usize),
    Freeze(usize),
    Unfreeze(usize),
}

pub(super) fn id(node: usize) -> NodeId {
    NodeId(node as u64)
}

pub(super) fn index(node: NodeId) -> usize {
    node.0 as usize
}

pub(super) fn announce(incarnation: u64, role: Role) -> Announcement {
    let (incarnation, addresses) = (Incarnation(incarnation), NodeAddresses::default());
    Announcement { incarnation, addresses, zone: String::new(), weight: 100, role }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // What all nodes have left behind does not matter any more.
        let oldest = NODES.iter().map(|&node| self.nodes[node].applied).min().unwrap();
        self.tables[oldest..].hash(hasher);
        for node in &self.nodes {
            let config = node.config.saturating_sub(oldest);
            let applied = node.applied - oldest;
            Node { applied, config, ..node.clone() }.hash(hasher);
        }
        self.waits.hash(hasher);
        self.pending.hash(hasher);
        self.write.hash(hasher);
        (self.restarts, self.downs, self.elections, self.moves, self.broken).hash(hasher);
    }
}

impl World {
    pub(super) fn latest(&self) -> &State {
        self.tables.last().unwrap()
    }

    pub(super) fn partition(&self) -> &Partition {
        &self.latest().partitions[0]
    }

    /// The table as a node has it.
    pub(super) fn view(&self, node: usize) -> &State {
        &self.tables[self.nodes[node].applied]
    }

    pub(super) fn seen(&self, node: usize) -> &Partition {
        &self.view(node).partitions[0]
    }

    /// Whether the table that a node has says that it is the primary, in its present process.
    pub(super) fn is_primary(&self, node: usize) -> bool {
        self.seen(node).primary == Some(id(node)) && self.is_announced(node)
    }

    /// Whether the table that a node has says that the partition is moving to it.
    pub(super) fn is_target(&self, node: usize) -> bool {
        self.seen(node).joining.is_some_and(|joining| joining.node == id(node))
    }

    pub(super) fn is_announced(&self, node: usize) -> bool {
        let known = self.view(node).nodes.get(&id(node));
        known.is_some_and(|known| known.incarnation.0 == self.nodes[node].incarnation)
    }

    /// The target of a node's move, if it is in this phase, as the node sees it.
    pub(super) fn target(&self, node: usize, phase: MovePhase) -> Option<(usize, MoveId)> {
        let joining = self.seen(node).joining.filter(|joining| joining.phase == phase)?;
        Some((index(joining.node), joining.move_id))
    }

    pub(super) fn propose(&mut self, entry: Entry, by_leader: bool) {
        self.pending.push(Pending { entry, inherited: false, by_leader });
    }

    pub(super) fn propose_change(&mut self, epoch: Epoch, change: Change, by_leader: bool) {
        let entry = Entry::Partition { partition: PARTITION, expect_epoch: epoch, change };
        self.propose(entry, by_leader);
    }

    /// A write that was held goes on, or its client is sent elsewhere.
    pub(super) fn release(&mut self, node: usize) {
        self.nodes[node].frozen = false;
        if self.write == Write::Held(node) {
            self.write = match self.is_primary(node) {
                true => {
                    self.nodes[node].copy |= WRITE;
                    Write::Executed(node)
                }
                false => Write::Refused,
            };
        }
    }
}

impl Node {
    /// What it has, be it on its disk or not.
    pub(super) fn has(&self) -> u8 {
        self.copy | self.staged
    }

    pub(super) fn new(incarnation: u64) -> Self {
        Node {
            applied: 0,
            incarnation,
            lease: 0,
            config: 0,
            grant: None,
            frozen: false,
            link: None,
            copy: 0,
            answered: 0,
            is_through: false,
            receives: None,
            staged: 0,
        }
    }
}
