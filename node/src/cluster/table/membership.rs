//! Entries about members, and what becomes of the partitions of a member that restarts.

use std::collections::BTreeMap;

use super::apply::{Applied, Effect};
use super::limits::{ANNOUNCED_BYTES_MAX, NODES_MAX};
use super::{
    Announcement, ClusterId, Incarnation, Joining, Member, MovePhase, NodeId, Partition, Refusal,
    Role, State, Status,
};

/// The first node creates the cluster, and owns everything.
pub(super) fn create(
    state: &mut State,
    cluster: ClusterId,
    node: NodeId,
    announcement: &Announcement,
) -> Applied {
    match state.cluster {
        Some(present) if present == cluster && state.nodes.contains_key(&node) => {
            return Ok(Effect::Repeated);
        }
        Some(present) => return Err(Refusal::ClusterExists(present)),
        None => check_lengths(announcement)?,
    }
    state.cluster = Some(cluster);
    state.nodes.insert(node, member(announcement, Status::Up));
    if announcement.role == Role::Data {
        for partition in &mut state.partitions {
            partition.primary = Some(node);
            partition.isr = vec![node];
            partition.advance();
        }
    }
    Ok(Effect::Changed)
}

/// A node becomes a member.
pub(super) fn join(state: &mut State, node: NodeId, announcement: &Announcement) -> Applied {
    if let Some(known) = state.nodes.get(&node) {
        let incarnation = known.incarnation;
        return match incarnation == announcement.incarnation {
            true => Ok(Effect::Repeated),
            false => Err(Refusal::NodeKnown { node, incarnation }),
        };
    }
    check_lengths(announcement)?;
    if state.nodes.len() >= NODES_MAX {
        return Err(Refusal::TooManyNodes);
    }
    state.nodes.insert(node, member(announcement, Status::Up));
    Ok(Effect::Changed)
}

/// A member runs, perhaps as a new process or at another address.
pub(super) fn up(
    state: &mut State,
    node: NodeId,
    replaces: Incarnation,
    announcement: &Announcement,
) -> Applied {
    let known = state.nodes.get_mut(&node).ok_or(Refusal::UnknownNode(node))?;
    let current = known.incarnation;
    if current != announcement.incarnation && current != replaces {
        return Err(Refusal::StaleIncarnation { node, current });
    }
    check_lengths(announcement)?;
    let status = if known.status.is_leaving() { Status::Leaving } else { Status::Up };
    let updated = member(announcement, status);
    if *known == updated {
        return Ok(Effect::Repeated);
    }
    let restarted = current != updated.incarnation;
    let was_down = !known.status.is_up();
    *known = updated;
    for partition in &mut state.partitions {
        if restarted {
            partition.member_restarted(node, &state.nodes);
        } else if was_down && partition.primary == Some(node) {
            partition.primary_returned(node);
        }
    }
    Ok(Effect::Changed)
}

/// A member does not answer.
pub(super) fn down(state: &mut State, node: NodeId, incarnation: Incarnation) -> Applied {
    let known = state.nodes.get_mut(&node).ok_or(Refusal::UnknownNode(node))?;
    if known.incarnation != incarnation {
        return Err(Refusal::StaleIncarnation { node, current: known.incarnation });
    }
    if !known.status.is_up() {
        return Ok(Effect::Repeated);
    }
    known.status = Status::Down { leaving: known.status.is_leaving() };
    for partition in &mut state.partitions {
        let copies = |joining: &Joining| joining.phase == MovePhase::Copying;
        if let Some(joining) = partition.joining.filter(copies)
            && (joining.node == node || partition.primary == Some(node))
        {
            partition.end_move();
            partition.advance();
        }
    }
    Ok(Effect::Changed)
}

/// A member is to give up all that it has.
pub(super) fn leave(state: &mut State, node: NodeId) -> Applied {
    let known = state.nodes.get(&node).ok_or(Refusal::UnknownNode(node))?;
    if known.status.is_leaving() {
        return Ok(Effect::Repeated);
    }
    let others_take = state.nodes.keys().any(|&id| id != node && state.takes_partitions(id));
    if !others_take && state.held_by(node).is_some() {
        return Err(Refusal::LastDataNode(node));
    }
    if let Some(known) = state.nodes.get_mut(&node) {
        known.status = match known.status {
            Status::Up | Status::Leaving => Status::Leaving,
            Status::Down { .. } => Status::Down { leaving: true },
        };
    }
    Ok(Effect::Changed)
}

/// A member that has nothing any more is none from now on.
pub(super) fn forget(state: &mut State, node: NodeId) -> Applied {
    let Some(known) = state.nodes.get(&node) else { return Ok(Effect::Repeated) };
    if known.status == Status::Up {
        return Err(Refusal::NotLeaving(node));
    }
    if let Some(partition) = state.held_by(node) {
        return Err(Refusal::StillHolds { node, partition });
    }
    state.nodes.remove(&node);
    Ok(Effect::Changed)
}

impl Partition {
    /// A member runs as a new process, so what its old one held in memory is gone.
    ///
    /// Where somebody else of the in-sync set is up, the node leaves the set. Where nobody is, the
    /// set stays until it is known who has the newest copy; a primary that is down stays as well,
    /// since it may be alive and serve until its lease ends, which a promotion waits for. A node
    /// that was alone in the set stays the primary, and has what is in its log; so does one to
    /// which the partition was handed over while it restarted.
    ///
    /// A move to the node ends, and one by which it gives the partition away. If that was still
    /// copying, it ends undecided, and the new epoch voids a switch that was proposed before.
    fn member_restarted(&mut self, node: NodeId, nodes: &BTreeMap<NodeId, Member>) {
        if !self.isr.contains(&node) {
            if self.joining.is_some_and(|joining| joining.node == node) {
                self.end_move();
                self.advance();
            }
            return;
        }
        let is_up = |id: &NodeId| nodes.get(id).is_some_and(|member| member.status.is_up());
        let others_up = self.isr.iter().any(|id| *id != node && is_up(id));
        if self.isr.len() == 1 {
            self.end_move();
        } else if self.recovering || !others_up {
            self.recovering = true;
            self.primary = self.primary.filter(|primary| *primary != node);
            self.end_move();
        } else {
            self.isr.retain(|id| *id != node);
            if self.primary == Some(node) {
                self.primary = None;
                self.end_move();
            }
            self.copy_gone(node);
        }
        self.advance();
    }

    /// The primary answers again, as the process that it was: it has everything. The new epoch
    /// voids the promotions that were proposed while it was down, even if it goes down again.
    fn primary_returned(&mut self, node: NodeId) {
        if self.recovering {
            self.recovering = false;
            self.isr = vec![node];
        }
        self.advance();
    }
}

fn member(announcement: &Announcement, status: Status) -> Member {
    let Announcement { incarnation, addresses, zone, weight, role } = announcement.clone();
    Member { addresses, zone, incarnation, status, weight, role }
}

fn check_lengths(announcement: &Announcement) -> Result<(), Refusal> {
    let addresses = &announcement.addresses;
    let texts =
        [&addresses.bus, &addresses.client, &addresses.direct, &addresses.http, &announcement.zone];
    match texts.iter().any(|text| text.len() > ANNOUNCED_BYTES_MAX) {
        true => Err(Refusal::AnnouncementTooLong),
        false => Ok(()),
    }
}
