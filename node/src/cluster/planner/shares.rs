//! How many partitions each node should have, and how many it has once all moves are done.

use std::collections::BTreeMap;

use super::super::table::{MovePhase, NodeId, Partition, State, Then};

/// What a node has and should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Partitions that it has when all moves under way are done.
    pub(super) have: u64,
    /// Partitions that it should have.
    pub(super) quota: u64,
    /// Its part of the data; 0 for a node that takes no partitions.
    pub(super) weight: u64,
    /// First partition of the range that it would have if the table were laid out anew.
    pub(super) start: u16,
}

impl Share {
    /// Partitions that it has too many.
    pub(super) fn surplus(&self) -> u64 {
        self.have.saturating_sub(self.quota)
    }

    /// Partitions that it lacks.
    pub(super) fn deficit(&self) -> u64 {
        self.quota.saturating_sub(self.have)
    }
}

/// Returns the node that a partition belongs to once its move is done, if it is one that is
/// served: what belongs to a node that is down stays there, and is no part of what is shared out.
pub(super) fn owner_after_move(state: &State, partition: &Partition) -> Option<NodeId> {
    let primary = partition.primary.filter(|&node| state.is_up(node))?;
    match partition.joining {
        Some(joining) if joining.then == Then::BecomePrimary => Some(joining.node),
        _ => Some(primary),
    }
}

/// Whether a move still has to copy or to switch; what comes after that costs next to nothing.
pub(super) fn is_busy(partition: &Partition) -> bool {
    partition.joining.is_some_and(|joining| joining.phase != MovePhase::Dropping)
}

/// Whether nobody has ever had the partition.
pub(super) fn is_unassigned(partition: &Partition) -> bool {
    partition.isr.is_empty()
}

/// Shares out what is served, and what nobody has, among the nodes that take partitions.
///
/// Each gets its exact part rounded down or up. Those that have more than their part rounded down
/// are rounded up first, which saves a move each: so the sum of all surpluses is the smallest
/// number of moves that leads to even shares, and even shares stay as they are.
pub(super) fn shares(state: &State) -> BTreeMap<NodeId, Share> {
    let mut shares: BTreeMap<NodeId, Share> = state
        .nodes
        .iter()
        .map(|(&id, member)| {
            let weight = if member.takes_partitions() { member.weight.into() } else { 0 };
            (id, Share { have: 0, quota: 0, weight, start: 0 })
        })
        .collect();
    let mut pool = 0;
    for partition in &state.partitions {
        let owner = owner_after_move(state, partition);
        pool += u64::from(owner.is_some() || is_unassigned(partition));
        if let Some(share) = owner.and_then(|owner| shares.get_mut(&owner)) {
            share.have += 1;
        }
    }
    set_quotas(&mut shares, pool);
    shares
}

fn set_quotas(shares: &mut BTreeMap<NodeId, Share>, pool: u64) {
    let weights: u64 = shares.values().map(|share| share.weight).sum();
    if weights == 0 {
        // Nobody can take anything, so everything stays where it is.
        shares.values_mut().for_each(|share| share.quota = share.have);
        return;
    }
    let mut rounded_down = Vec::new();
    let mut left = pool;
    for (&id, share) in shares.iter_mut() {
        share.quota = pool * share.weight / weights;
        left -= share.quota;
        let remainder = pool * share.weight % weights;
        if remainder > 0 {
            rounded_down.push((share.have <= share.quota, u64::MAX - remainder, id));
        }
    }
    rounded_down.sort_unstable();
    for (_, _, id) in rounded_down.into_iter().take(left as usize) {
        if let Some(share) = shares.get_mut(&id) {
            share.quota += 1;
        }
    }
    let mut start = 0;
    for share in shares.values_mut() {
        share.start = start as u16;
        start += share.quota;
    }
}
