//! Which partitions should move: what the leader proposes so that every node has its share.
//!
//! Pure and deterministic: the same table and the same sizes give the same plan, and time and
//! randomness are passed in. How many partitions a node has is decided by weight alone, to one
//! partition; which ones move is decided by their sizes, so that bytes even out on the way.
//! Sizes alone never start a move: those of a cache change all the time, and a cluster of which
//! each node has its share should be quiet.
//!
//! A plan holds only what may begin now. It is made again when something has changed; each move
//! that is done brings the table one step closer, and none is ever taken back.

mod lost;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use self::lost::replace_lost;
use self::shares::{Share, is_busy, is_unassigned, owner_after_move, shares};
use super::table::{
    Change, Entry, Joining, MoveId, MovePhase, NodeId, Partition, PartitionId, State, Then,
};

/// Empty partitions that one plan assigns: a bound on what is proposed at once.
const ASSIGNMENTS_MAX: usize = 128;

/// Differences in size below this part of the mean size do not matter for the choice of a
/// partition; what is alike is taken in order, which keeps ranges of slots together.
const SIZE_STEPS: u64 = 8;

/// How much may move at once, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLimits {
    /// Moves at a time to one node.
    pub incoming_max: u32,
    /// Moves at a time from one node.
    pub outgoing_max: u32,
    /// Bytes that may be under way to a node, and from one, before another move begins. Many
    /// small partitions move at a time, and few large ones.
    pub bytes_max: u64,
    /// Moves at a time that a node has whatever their size.
    pub always: u32,
    /// Time without a change of membership before anything moves: nodes that come together are
    /// planned for together.
    pub pause: Duration,
}

impl Default for PlanLimits {
    fn default() -> Self {
        PlanLimits {
            incoming_max: 16,
            outgoing_max: 16,
            bytes_max: 2 << 20,
            always: 2,
            pause: Duration::from_millis(500),
        }
    }
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The table as the leader has applied it.
    pub state: &'a State,
    /// Bytes of each partition as its primary has last told; those that are missing count as 0.
    pub bytes: &'a [u64],
    /// Time since the last change of membership: a node joined, left, came or went.
    pub since_change: Duration,
    /// Whether a node has lately stopped answering and is not down yet.
    pub any_suspect: bool,
    /// Partitions whose last move failed a short time ago; they are left alone.
    pub resting: &'a BTreeSet<PartitionId>,
}

/// Returns what to propose now, at most a few entries a node. `new_move` gives the ids of moves.
///
/// Each entry is accepted if the table has not changed, in whatever order they are proposed.
pub fn plan(
    input: &PlanInput<'_>,
    limits: &PlanLimits,
    new_move: &mut dyn FnMut() -> MoveId,
) -> Vec<Entry> {
    if input.any_suspect || input.since_change < limits.pause {
        return Vec::new();
    }
    let mut planning = Planning::new(input);
    let mut entries = planning.cancel_moves_to_leaving_nodes();
    entries.extend(planning.assign_what_nobody_has());
    while let Some((from, to)) = planning.next_pair(limits) {
        let Some(partition) = planning.choose(from, to) else {
            planning.exhausted.insert(from);
            continue;
        };
        entries.extend(planning.begin(partition, from, to, new_move()));
    }
    entries
}

/// Returns how many moves are needed until every node has its share, those under way not counted.
pub fn moves_left(state: &State) -> u64 {
    shares(state).values().map(Share::surplus).sum()
}

/// Returns the same by the nodes that have too much.
pub fn surplus(state: &State) -> BTreeMap<NodeId, u64> {
    shares(state).iter().map(|(node, share)| (*node, share.surplus())).collect()
}

/// A plan in the making.
struct Planning<'a> {
    input: &'a PlanInput<'a>,
    shares: BTreeMap<NodeId, Share>,
    traffic: BTreeMap<NodeId, Traffic>,
    /// Bytes of all that is shared out.
    total_bytes: u64,
    total_weight: u64,
    total_partitions: u64,
    /// Partitions that this plan has spoken for.
    taken: BTreeSet<PartitionId>,
    /// Nodes of which no further partition can move now.
    exhausted: BTreeSet<NodeId>,
}

/// What moves to and from a node, and what it has when that is done.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    incoming: Flow,
    outgoing: Flow,
    bytes: u64,
}

/// Moves one way.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    moves: u32,
    bytes: u64,
}

impl Flow {
    fn add(&mut self, bytes: u64) {
        self.moves += 1;
        self.bytes += bytes;
    }

    /// Whether another move may begin.
    fn has_room(self, moves_max: u32, limits: &PlanLimits) -> bool {
        let is_small = self.bytes < limits.bytes_max || self.moves < limits.always;
        self.moves < moves_max && is_small
    }
}

impl<'a> Planning<'a> {
    fn new(input: &'a PlanInput<'a>) -> Self {
        let state = input.state;
        let shares = shares(state);
        let mut planning = Planning {
            input,
            total_weight: shares.values().map(|share| share.weight).sum(),
            total_partitions: shares.values().map(|share| share.have).sum(),
            total_bytes: 0,
            traffic: BTreeMap::new(),
            taken: BTreeSet::new(),
            exhausted: BTreeSet::new(),
            shares,
        };
        for (id, partition) in state.numbered() {
            let bytes = planning.bytes(id);
            if let Some(owner) = owner_after_move(state, partition) {
                planning.total_bytes += bytes;
                planning.traffic(owner).bytes += bytes;
            }
            if let Some(joining) = partition.joining.filter(|_| is_busy(partition)) {
                planning.traffic(joining.node).incoming.add(bytes);
                if let Some(primary) = partition.primary {
                    planning.traffic(primary).outgoing.add(bytes);
                }
            }
        }
        planning
    }

    fn bytes(&self, partition: PartitionId) -> u64 {
        // A bound far beyond any memory, so that sums and products stay within their types.
        const BYTES_MAX: u64 = 1 << 40;
        let bytes = self.input.bytes.get(usize::from(partition.0));
        bytes.copied().unwrap_or(0).min(BYTES_MAX)
    }

    fn traffic(&mut self, node: NodeId) -> &mut Traffic {
        self.traffic.entry(node).or_default()
    }

    fn traffic_of(&self, node: NodeId) -> Traffic {
        self.traffic.get(&node).copied().unwrap_or_default()
    }

    /// A move to a node that has begun to leave would only have to be undone.
    fn cancel_moves_to_leaving_nodes(&self) -> Vec<Entry> {
        let state = self.input.state;
        let is_pointless = |joining: &Joining| {
            let target = state.nodes.get(&joining.node);
            joining.phase == MovePhase::Copying
                && target.is_some_and(|target| target.status.is_leaving())
        };
        let cancel = |(id, partition): (PartitionId, &Partition)| {
            let Joining { move_id, .. } = partition.joining.filter(is_pointless)?;
            Some(entry(id, partition, Change::CancelMove { move_id }))
        };
        state.numbered().filter_map(cancel).collect()
    }

    fn assign_what_nobody_has(&mut self) -> Vec<Entry> {
        let state = self.input.state;
        let mut entries = Vec::new();
        let unassigned = state.numbered().filter(|(_, partition)| is_unassigned(partition));
        for (id, partition) in unassigned.take(ASSIGNMENTS_MAX) {
            let Some(to) = self.needy(|_| true) else { break };
            entries.push(entry(id, partition, Change::AssignEmpty { to }));
            self.give(to);
        }
        entries
    }

    /// The node that lacks the most among those that may get something.
    fn needy(&self, may_get: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let lacking = |(id, share): (&NodeId, &Share)| {
            let rank = (share.deficit(), std::cmp::Reverse(*id));
            (share.deficit() > 0 && may_get(*id)).then_some(rank)
        };
        self.shares.iter().filter_map(lacking).max().map(|(_, id)| id.0)
    }

    fn give(&mut self, to: NodeId) {
        if let Some(share) = self.shares.get_mut(&to) {
            share.have += 1;
        }
    }

    /// The next two nodes of which one should give the other a partition: leaving nodes first,
    /// then whoever has the most too many, and to whoever lacks the most.
    fn next_pair(&self, limits: &PlanLimits) -> Option<(NodeId, NodeId)> {
        let takes = |id| self.traffic_of(id).incoming.has_room(limits.incoming_max, limits);
        let to = self.needy(takes)?;
        let giving = |(id, share): (&NodeId, &Share)| {
            let is_free = self.traffic_of(*id).outgoing.has_room(limits.outgoing_max, limits);
            let may_give = share.surplus() > 0 && is_free && !self.exhausted.contains(id);
            let is_leaving = share.weight == 0;
            may_give.then_some((is_leaving, share.surplus(), std::cmp::Reverse(*id)))
        };
        let (_, _, from) = self.shares.iter().filter_map(giving).max()?;
        Some((from.0, to))
    }

    /// The partition whose move brings both nodes closest to their parts of the bytes.
    fn choose(&self, from: NodeId, to: NodeId) -> Option<PartitionId> {
        let state = self.input.state;
        let count = state.partitions.len() as u16;
        let start = self.shares.get(&to)?.start;
        let wanted = self.wanted_bytes(from, to);
        let mean = (self.total_bytes / self.total_partitions.max(1)).max(1);
        let rank = |(id, partition): (PartitionId, &Partition)| {
            let is_free = partition.primary == Some(from)
                && partition.joining.is_none()
                && !self.taken.contains(&id)
                && !self.input.resting.contains(&id);
            let difference = self.bytes(id).abs_diff(wanted) * SIZE_STEPS / mean;
            let distance = (id.0 + count - start % count) % count;
            is_free.then_some((difference, distance, id))
        };
        state.numbered().filter_map(rank).min().map(|(_, _, id)| id)
    }

    /// Bytes that the next partition between two nodes should have: what one has too much and
    /// the other too little, spread over the moves that they still need.
    fn wanted_bytes(&self, from: NodeId, to: NodeId) -> u64 {
        let (Some(giver), Some(taker)) = (self.shares.get(&from), self.shares.get(&to)) else {
            return 0;
        };
        let excess = self.traffic_of(from).bytes.saturating_sub(self.fair_bytes(giver));
        let lack = self.fair_bytes(taker).saturating_sub(self.traffic_of(to).bytes);
        let by_taker = lack / taker.deficit().max(1);
        match giver.weight {
            // All of its partitions go, so only where they go matters.
            0 => by_taker,
            _ => (excess / giver.surplus().max(1)).midpoint(by_taker),
        }
    }

    fn fair_bytes(&self, share: &Share) -> u64 {
        let exact = u128::from(self.total_bytes) * u128::from(share.weight)
            / u128::from(self.total_weight.max(1));
        exact as u64
    }

    fn begin(
        &mut self,
        id: PartitionId,
        from: NodeId,
        to: NodeId,
        move_id: MoveId,
    ) -> Option<Entry> {
        let state = self.input.state;
        let partition = state.partition(id)?;
        let incarnation = state.nodes.get(&to)?.incarnation;
        let bytes = self.bytes(id);
        self.taken.insert(id);
        let giver = self.traffic(from);
        giver.outgoing.add(bytes);
        giver.bytes = giver.bytes.saturating_sub(bytes);
        let taker = self.traffic(to);
        taker.incoming.add(bytes);
        taker.bytes += bytes;
        if let Some(share) = self.shares.get_mut(&from) {
            share.have = share.have.saturating_sub(1);
        }
        self.give(to);
        let (target, then, drop) = (to, Then::BecomePrimary, Some(from));
        let change = Change::BeginMove { move_id, target, incarnation, then, drop };
        Some(entry(id, partition, change))
    }
}

fn entry(id: PartitionId, partition: &Partition, change: Change) -> Entry {
    Entry::Partition { partition: id, expect_epoch: partition.epoch, change }
}
