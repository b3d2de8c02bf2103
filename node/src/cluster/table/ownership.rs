//! Entries about one partition: moves, the in-sync set, and failover.

use super::apply::{Applied, Effect};
use super::limits::ISR_MAX;
use super::{
    Change, EndedMove, Epoch, Incarnation, Joining, MoveId, MovePhase, NodeId, Partition,
    PartitionId, Refusal, State, StreamSequence, Then,
};

/// Applies a change to a partition.
pub(super) fn change(
    state: &mut State,
    id: PartitionId,
    expected: Epoch,
    change: Change,
) -> Applied {
    let at = usize::from(id.0);
    let partition = state.partitions.get(at).ok_or(Refusal::UnknownPartition(id))?;
    if let Some(known) = partition.recognise(expected, change) {
        return known;
    }
    if partition.epoch != expected {
        let actual = partition.epoch;
        return Err(Refusal::EpochMismatch { partition: id, expected, actual });
    }
    // All rules work on a copy, so what is refused half-way has changed nothing.
    let mut changed = partition.clone();
    match change {
        Change::BeginMove { move_id, target, incarnation, then, drop } => {
            let phase = MovePhase::Copying;
            let node = target;
            let joining =
                Joining { node, incarnation, move_id, then, drop, phase, had_copy: false };
            begin_move(state, &mut changed, joining)?;
        }
        Change::JoinIsr { move_id } => changed.join_isr(move_id)?,
        Change::ShrinkIsr { remove } => changed.shrink_isr(remove)?,
        Change::Switch { to, .. } if !state.is_up(to) => return Err(Refusal::NodeIsDown(to)),
        Change::Switch { move_id, from, to, sequence } => {
            changed.switch(move_id, from, to, sequence)?;
        }
        Change::CancelMove { move_id } => changed.cancel_move(move_id)?,
        Change::Promote { to, unclean } => promote(state, &mut changed, to, unclean)?,
        Change::AssignEmpty { to } => assign_empty(state, &mut changed, to)?,
    }
    state.partitions[at] = changed;
    Ok(Effect::Changed)
}

fn begin_move(
    state: &State,
    partition: &mut Partition,
    mut joining: Joining,
) -> Result<(), Refusal> {
    let node = joining.node;
    if let Some(present) = partition.joining {
        return Err(Refusal::MoveUnderWay(present.move_id));
    }
    let primary = partition.primary.filter(|&node| state.is_up(node)).ok_or(Refusal::NoPrimary)?;
    let known = state.nodes.get(&node).ok_or(Refusal::UnknownNode(node))?;
    check_incarnation(node, joining.incarnation, known.incarnation)?;
    if !state.takes_partitions(node) {
        return Err(Refusal::TakesNoPartitions(node));
    }
    if primary == node {
        return Err(Refusal::IsPrimary(node));
    }
    if partition.isr.contains(&node) {
        if joining.then == Then::Replica {
            return Err(Refusal::InSync(node));
        }
        joining.had_copy = true;
        joining.phase = MovePhase::InSync;
    } else if partition.isr.len() >= ISR_MAX {
        return Err(Refusal::TooManyCopies);
    }
    if let Some(drop) = joining.drop {
        let stays_primary = joining.then == Then::Replica && drop == primary;
        if drop == node || stays_primary || !partition.isr.contains(&drop) {
            return Err(Refusal::CannotDrop(drop));
        }
    }
    partition.joining = Some(joining);
    Ok(())
}

fn promote(
    state: &State,
    partition: &mut Partition,
    to: NodeId,
    unclean: bool,
) -> Result<(), Refusal> {
    check_replaceable(state, partition)?;
    if !state.nodes.contains_key(&to) {
        return Err(Refusal::UnknownNode(to));
    }
    if !state.is_up(to) {
        return Err(Refusal::NodeIsDown(to));
    }
    if !unclean && !partition.isr.contains(&to) {
        return Err(Refusal::NotInSync(to));
    }
    // After a restart of all, and with an unclean promotion, the other copies may differ. The
    // former primary is down, and may hold what was never acknowledged.
    let equal = !unclean && !partition.recovering;
    let stays = |id: NodeId| equal && state.is_up(id);
    partition.isr.retain(|&id| id != to && stays(id));
    partition.isr.insert(0, to);
    partition.replace_primary(to);
    Ok(())
}

fn assign_empty(state: &State, partition: &mut Partition, to: NodeId) -> Result<(), Refusal> {
    check_replaceable(state, partition)?;
    if let Some(&holder) = partition.isr.iter().find(|&&id| state.is_up(id)) {
        return Err(Refusal::CopyExists(holder));
    }
    if !state.nodes.contains_key(&to) {
        return Err(Refusal::UnknownNode(to));
    }
    if !state.takes_partitions(to) {
        return Err(Refusal::TakesNoPartitions(to));
    }
    partition.isr = vec![to];
    partition.replace_primary(to);
    Ok(())
}

/// A primary that is up is never replaced over its head.
fn check_replaceable(state: &State, partition: &Partition) -> Result<(), Refusal> {
    match partition.primary {
        Some(primary) if state.is_up(primary) => Err(Refusal::PrimaryUp(primary)),
        _ => Ok(()),
    }
}

fn check_incarnation(
    node: NodeId,
    announced: Incarnation,
    current: Incarnation,
) -> Result<(), Refusal> {
    match announced == current {
        true => Ok(()),
        false => Err(Refusal::StaleIncarnation { node, current }),
    }
}

impl Partition {
    /// Starts a new epoch.
    pub(super) fn advance(&mut self) {
        self.epoch = successor(self.epoch);
    }

    /// Ends the move that is under way, if there is one: completed if it was decided.
    pub(super) fn end_move(&mut self) {
        if let Some(Joining { move_id, phase, .. }) = self.joining.take() {
            self.ended = Some(EndedMove { move_id, completed: phase == MovePhase::Dropping });
        }
    }

    /// A node has left the in-sync set: what that means for the move under way.
    pub(super) fn copy_gone(&mut self, node: NodeId) {
        let Some(joining) = &mut self.joining else { return };
        if joining.drop == Some(node) {
            joining.drop = None;
            if joining.phase == MovePhase::Dropping {
                self.end_move();
            }
        } else if joining.node == node {
            self.end_move();
        }
    }

    /// Says what is to be answered if this change has been made before, or can never be made.
    fn recognise(&self, expected: Epoch, change: Change) -> Option<Applied> {
        let is_next = self.epoch == successor(expected);
        let known = match change {
            Change::BeginMove { move_id, .. } => {
                let is_present = self.joining.is_some_and(|joining| joining.move_id == move_id);
                is_present || self.ended.is_some_and(|ended| ended.move_id == move_id)
            }
            Change::JoinIsr { move_id } | Change::Switch { move_id, .. } => {
                return self.recognise_step(move_id, change);
            }
            Change::CancelMove { move_id } => return self.recognise_cancel(move_id),
            Change::ShrinkIsr { remove } => {
                is_next && self.primary.is_some() && !self.isr.contains(&remove)
            }
            Change::Promote { to, .. } => {
                is_next && self.primary == Some(to) && self.joining.is_none()
            }
            Change::AssignEmpty { to } => is_next && self.primary == Some(to) && self.isr == [to],
        };
        known.then_some(Ok(Effect::Repeated))
    }

    fn recognise_step(&self, move_id: MoveId, change: Change) -> Option<Applied> {
        if let Some(joining) = self.joining.filter(|joining| joining.move_id == move_id) {
            let done = match change {
                Change::JoinIsr { .. } => joining.phase != MovePhase::Copying,
                _ => joining.phase == MovePhase::Dropping && joining.then == Then::BecomePrimary,
            };
            return done.then_some(Ok(Effect::Repeated));
        }
        match self.ended {
            Some(ended) if ended.move_id == move_id && ended.completed => {
                Some(Ok(Effect::Repeated))
            }
            Some(ended) if ended.move_id == move_id => Some(Err(Refusal::MoveCancelled(move_id))),
            _ => None,
        }
    }

    fn recognise_cancel(&self, move_id: MoveId) -> Option<Applied> {
        let decided = Some(Err(Refusal::MoveDecided(move_id)));
        if let Some(joining) = self.joining.filter(|joining| joining.move_id == move_id) {
            return if joining.phase == MovePhase::Dropping { decided } else { None };
        }
        match self.ended {
            Some(ended) if ended.move_id == move_id && ended.completed => decided,
            Some(ended) if ended.move_id == move_id => Some(Ok(Effect::Repeated)),
            _ => None,
        }
    }

    fn joining(&self, move_id: MoveId) -> Result<Joining, Refusal> {
        let joining = self.joining.filter(|joining| joining.move_id == move_id);
        joining.ok_or(Refusal::NoSuchMove(move_id))
    }

    fn join_isr(&mut self, move_id: MoveId) -> Result<(), Refusal> {
        let mut joining = self.joining(move_id)?;
        if self.isr.len() >= ISR_MAX {
            return Err(Refusal::TooManyCopies);
        }
        self.isr.push(joining.node);
        joining.phase = MovePhase::InSync;
        self.joining = Some(joining);
        if joining.then == Then::Replica {
            self.decide();
        }
        self.advance();
        Ok(())
    }

    fn switch(
        &mut self,
        move_id: MoveId,
        from: NodeId,
        to: NodeId,
        sequence: StreamSequence,
    ) -> Result<(), Refusal> {
        let joining = self.joining(move_id)?;
        let hands_over = self.hands_over(&joining, from);
        let is_ready = joining.phase == MovePhase::InSync || hands_over;
        if !is_ready || joining.node != to {
            return Err(Refusal::NotReady(move_id));
        }
        if self.primary != Some(from) {
            return Err(Refusal::NotPrimary(from));
        }
        self.primary = Some(to);
        if hands_over {
            // The target takes the source's place, so there is nothing left to drop.
            self.isr = vec![to];
            self.joining = Some(Joining { drop: None, ..joining });
        }
        self.serve_from = sequence;
        self.decide();
        self.advance();
        Ok(())
    }

    /// Whether a switch in this state hands the only copy over as a whole. The target need not
    /// have joined the in-sync set: nothing but the copy that the source gives up was ever in it.
    fn hands_over(&self, joining: &Joining, from: NodeId) -> bool {
        joining.phase == MovePhase::Copying
            && joining.then == Then::BecomePrimary
            && joining.drop == Some(from)
            && self.isr == [from]
    }

    /// The target of the move is what it was to become: only a copy may be left to drop.
    fn decide(&mut self) {
        let Some(joining) = &mut self.joining else { return };
        joining.phase = MovePhase::Dropping;
        if joining.drop.is_none() {
            self.end_move();
        }
    }

    fn shrink_isr(&mut self, remove: NodeId) -> Result<(), Refusal> {
        if self.primary.is_none() {
            return Err(Refusal::NoPrimary);
        }
        if self.primary == Some(remove) {
            return Err(Refusal::IsPrimary(remove));
        }
        if !self.isr.contains(&remove) {
            return Err(Refusal::NotInSync(remove));
        }
        self.isr.retain(|id| *id != remove);
        self.copy_gone(remove);
        // The primary says so, thus it is there, and its copy is the newest.
        self.recovering &= self.isr.len() > 1;
        self.advance();
        Ok(())
    }

    fn cancel_move(&mut self, move_id: MoveId) -> Result<(), Refusal> {
        let joining = self.joining(move_id)?;
        if !joining.had_copy {
            self.isr.retain(|id| *id != joining.node);
        }
        self.end_move();
        self.advance();
        Ok(())
    }

    fn replace_primary(&mut self, to: NodeId) {
        self.primary = Some(to);
        self.recovering = false;
        self.serve_from = StreamSequence::default();
        self.end_move();
        self.advance();
    }
}

fn successor(epoch: Epoch) -> Epoch {
    Epoch(epoch.0 + 1)
}
