//! What holds in every table, and from one to the next.

use super::limits::ISR_MAX;
use super::{Joining, MovePhase, Partition, State, Then};

/// Checks what holds in every table.
///
/// # Errors
///
/// Says which partition is wrong, and how.
pub fn check_invariants(state: &State) -> Result<(), String> {
    for (id, partition) in state.numbered() {
        let wrong = check_copies(state, partition).or_else(|| {
            partition.joining.as_ref().and_then(|joining| check_move(state, partition, joining))
        });
        if let Some(wrong) = wrong {
            return Err(format!("partition {id}: {wrong}"));
        }
    }
    Ok(())
}

/// Checks what holds between a table and a later one: epochs never fall, and one epoch of a
/// partition has one primary and one in-sync set.
///
/// # Errors
///
/// Says which partition is wrong, and how.
pub fn check_transition(before: &State, after: &State) -> Result<(), String> {
    if before.partitions.len() != after.partitions.len() {
        return Err("the number of partitions changed".to_owned());
    }
    for ((id, old), new) in before.numbered().zip(&after.partitions) {
        if new.epoch < old.epoch {
            return Err(format!("partition {id}: epoch {} after {}", new.epoch, old.epoch));
        }
        let same = old.primary == new.primary && old.isr == new.isr;
        if !same && new.epoch == old.epoch {
            return Err(format!("partition {id}: two owners in epoch {}", new.epoch));
        }
    }
    Ok(())
}

fn check_copies(state: &State, partition: &Partition) -> Option<String> {
    let Partition { epoch, primary, isr, recovering, .. } = partition;
    if let Some(node) = primary.filter(|node| !isr.contains(node)) {
        return Some(format!("its primary {node} is not in the in-sync set"));
    }
    if isr.len() > ISR_MAX {
        return Some(format!("{} copies", isr.len()));
    }
    if let Some(node) = isr.iter().find(|node| !state.nodes.contains_key(node)) {
        return Some(format!("{node} in the in-sync set is not a member"));
    }
    if (1..isr.len()).any(|at| isr[..at].contains(&isr[at])) {
        return Some("a node is in the in-sync set twice".to_owned());
    }
    if *recovering && (primary.is_some_and(|node| state.is_up(node)) || isr.len() < 2) {
        return Some("it recovers, although the newest copy is known".to_owned());
    }
    if isr.is_empty() != (epoch.0 == 0) {
        return Some("copies, but no epoch, or an epoch without copies".to_owned());
    }
    None
}

fn check_move(state: &State, partition: &Partition, joining: &Joining) -> Option<String> {
    let Partition { primary, isr, .. } = partition;
    let node = joining.node;
    let Some(member) = state.nodes.get(&node) else {
        return Some(format!("the target {node} of a move is not a member"));
    };
    if member.incarnation != joining.incarnation {
        return Some(format!("the target {node} of a move has restarted"));
    }
    if primary.is_none() {
        return Some("it moves without a primary".to_owned());
    }
    let decided = joining.phase == MovePhase::Dropping;
    let is_copying = joining.phase == MovePhase::Copying;
    if is_copying == isr.contains(&node) {
        return Some(format!("the target {node} is in the in-sync set too early or too late"));
    }
    if is_copying && !member.status.is_up() {
        return Some(format!("it is copied to {node}, which is down"));
    }
    let is_primary = *primary == Some(node);
    if is_primary != (decided && joining.then == Then::BecomePrimary) {
        return Some(format!("the target {node} is primary too early or too late"));
    }
    match joining.drop {
        Some(drop) if drop == node || !isr.contains(&drop) => {
            Some(format!("{drop} has no copy to give up"))
        }
        None if decided => Some("a move is over and not ended".to_owned()),
        _ => None,
    }
}
