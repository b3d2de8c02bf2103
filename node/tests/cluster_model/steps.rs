//! What happens at each step.

use std::sync::Arc;

use distcache_node::cluster::table::{
    Change, Entry, MoveId, MovePhase, Outcome, Role, State, StreamSequence, Then, apply,
    check_invariants, check_transition,
};

use super::world::{Action, Node, World, Write, announce, id, index};
use super::{Cluster, Fence, NODES, WRITE};

impl Cluster {
    pub(super) fn tick(&self, world: &mut World) {
        for at in NODES {
            world.waits[at] = world.waits[at].saturating_sub(1);
            let node = &mut world.nodes[at];
            node.lease = node.lease.saturating_sub(1);
            let from_request = self.has(Fence::LeaseFromRequest);
            let left = |ticks: u8| if from_request { ticks - 1 } else { ticks };
            let grant = node.grant.map(|(ticks, config)| (left(ticks), config));
            node.grant = grant.filter(|&(ticks, _)| ticks > 0);
            node.config = if node.lease > 0 { node.config } else { 0 };
        }
    }

    /// One entry goes into the log.
    pub(super) fn commit(&self, world: &mut World, at: usize) {
        let mut entry = world.pending.remove(at).entry;
        let mut state = world.latest().clone();
        if let Entry::Partition { expect_epoch, change, .. } = &mut entry {
            let present = &state.partitions[0];
            let is_switch = matches!(change, Change::Switch { .. });
            if !self.has(Fence::EpochCheck) || is_switch && !self.has(Fence::SwitchEpoch) {
                *expect_epoch = present.epoch;
            }
            if let (Change::Switch { move_id, .. }, Some(joining)) = (change, present.joining)
                && !self.has(Fence::SwitchMove)
            {
                *move_id = joining.move_id;
            }
        }
        if let Entry::NodeUp { node, replaces, .. } = &mut entry
            && !self.has(Fence::PresentProcess)
        {
            *replaces = state.nodes[node].incarnation;
        }
        if apply(&mut state, 0, &entry) == Outcome::Applied {
            world.broken |= check_invariants(&state).is_err();
            world.broken |= check_transition(world.latest(), &state).is_err();
            let known = |state: &State| state.nodes.values().map(|at| at.incarnation).collect();
            let (old, new): (Vec<_>, Vec<_>) = (known(world.latest()), known(&state));
            if world.latest().partitions == state.partitions && old == new {
                // Only the leader looks at who is up, so the nodes need not apply this.
                world.tables.pop();
            }
            world.tables.push(Arc::new(state));
        }
    }

    /// Whether an entry can still do anything: epochs never fall.
    pub(super) fn is_alive(&self, world: &World, entry: &Entry) -> bool {
        let Entry::Partition { expect_epoch, change, .. } = entry else { return true };
        let is_checked = match change {
            Change::Promote { .. } => self.has(Fence::EpochCheck),
            Change::Switch { .. } => self.has(Fence::SwitchEpoch),
            _ => true,
        };
        *expect_epoch >= world.partition().epoch || !is_checked
    }

    /// A node applies the entries up to one, with all that this means for it.
    pub(super) fn apply_up_to(&self, world: &mut World, at: usize, index: usize) {
        world.nodes[at].applied = index;
        let seen = world.seen(at).clone();
        let is_moving = |move_id| seen.joining.is_some_and(|joining| joining.move_id == move_id);
        let node = &mut world.nodes[at];
        if node.link.is_some_and(|link| !is_moving(link)) {
            (node.link, node.answered, node.is_through) = (None, 0, false);
        }
        if let Some(receives) = node.receives.filter(|&receives| !is_moving(receives)) {
            node.receives = None;
            let is_last =
                seen.ended.is_some_and(|ended| ended.completed && ended.move_id == receives);
            let is_given = match self.has(Fence::TakeBySwitch) {
                true => seen.serve_from != StreamSequence::default(),
                false => is_last,
            };
            if seen.primary != Some(id(at)) || !is_given {
                (node.copy, node.staged) = (0, 0);
            }
        }
        let undecided = match self.one_copy {
            true => node.link.is_some(),
            false => seen.joining.is_some_and(|joining| joining.phase == MovePhase::InSync),
        };
        if node.frozen && (!undecided || seen.primary != Some(id(at))) {
            world.release(at);
        }
        let is_needed = seen.isr.contains(&id(at)) || world.is_target(at);
        if !is_needed && world.is_announced(at) {
            (world.nodes[at].copy, world.nodes[at].staged) = (0, 0);
        }
    }

    pub(super) fn restart(&self, world: &mut World, at: usize) {
        world.restarts -= 1;
        let is_in_sync = world.seen(at).isr.contains(&id(at));
        let node = &mut world.nodes[at];
        let keeps = is_in_sync || self.has(Fence::KeepCopyAtStart);
        let copy = if keeps { node.copy } else { 0 };
        let (applied, incarnation) = (node.applied, node.incarnation + 10);
        *node = Node { applied, copy, ..Node::new(incarnation) };
        if matches!(world.write, Write::Held(node) | Write::Executed(node) if node == at) {
            world.write = Write::Unknown;
        }
    }

    pub(super) fn propose_move(&self, world: &mut World) {
        let state = world.latest();
        let (partition, move_id) = (world.partition(), MoveId(u64::from(world.moves)));
        let from = partition.primary.unwrap();
        let target = id(1 - index(from));
        let incarnation = state.nodes[&target].incarnation;
        let (then, drop, epoch) = (Then::BecomePrimary, Some(from), partition.epoch);
        let change = Change::BeginMove { move_id, target, incarnation, then, drop };
        world.moves -= 1;
        world.propose_change(epoch, change, true);
    }

    /// What a primary proposes about its move.
    pub(super) fn propose_step(&self, world: &mut World, at: usize, action: Action) {
        let partition = match action {
            // With what is out of date it would do nothing.
            Action::ProposeCancel(_) => world.partition(),
            _ => world.seen(at),
        };
        let Some(joining) = partition.joining else { return };
        let (move_id, from, to) = (joining.move_id, id(at), joining.node);
        let change = match action {
            Action::ProposeJoin(_) => Change::JoinIsr { move_id },
            Action::ProposeSwitch(_) => {
                Change::Switch { move_id, from, to, sequence: StreamSequence(1) }
            }
            Action::ProposeShrink(_) => Change::ShrinkIsr { remove: joining.drop.unwrap() },
            _ => Change::CancelMove { move_id },
        };
        world.propose_change(partition.epoch, change, false);
        if self.one_copy && matches!(change, Change::Switch { .. }) && !self.has(Fence::DeleteLast)
        {
            world.nodes[at].copy = 0;
        }
    }

    pub(super) fn elect(&self, world: &mut World) {
        world.elections -= 1;
        world.waits = match self.has(Fence::WaitAfterElection) {
            true => [self.lease; 2],
            false => [0; 2],
        };
        world.pending.iter_mut().for_each(|pending| pending.inherited |= pending.by_leader);
    }

    pub(super) fn grant(&self, world: &mut World, at: usize) {
        // The leader has confirmed itself, so what earlier ones left is committed or lost.
        world.pending.retain(|pending| !pending.inherited);
        let config = world.tables.len() - 1;
        let node = &mut world.nodes[at];
        node.grant = Some((self.lease, config));
        world.waits[at] = self.lease;
    }

    /// The target of a move gets all that the primary has.
    pub(super) fn copy(&self, world: &mut World, from: usize) {
        let (target, move_id) = world.target(from, MovePhase::Copying).unwrap();
        let copy = world.nodes[from].copy;
        world.nodes[from].link = Some(move_id);
        if !self.one_copy {
            world.nodes[target].copy = copy;
            return;
        }
        world.nodes[from].answered = copy;
        let other = &mut world.nodes[target];
        // The beginning of a stream ends what another one has left.
        (other.receives, other.copy, other.staged) = (Some(move_id), 0, copy);
    }

    /// The target answers that it has all.
    pub(super) fn finish(&self, world: &mut World, from: usize) {
        world.nodes[from].is_through = true;
        let target = &mut world.nodes[1 - from];
        if self.has(Fence::SyncFirst) {
            target.copy |= std::mem::take(&mut target.staged);
        }
    }

    pub(super) fn replicate(&self, world: &mut World, to: usize) {
        let from = 1 - to;
        if self.one_copy {
            world.nodes[from].answered |= WRITE;
            world.nodes[to].staged |= WRITE;
            return;
        }
        let linked = world.seen(from).joining.is_some_and(|joining| {
            joining.node == id(to) && world.nodes[from].link == Some(joining.move_id)
        });
        let is_member = world.seen(from).isr.contains(&id(to));
        let is_current = world.seen(to).epoch <= world.seen(from).epoch;
        if world.write == Write::Executed(from) && (linked || is_member) && is_current {
            world.nodes[to].copy |= WRITE;
        }
    }

    pub(super) fn write(&self, world: &mut World, at: usize) {
        world.write = match world.nodes[at].frozen {
            true => Write::Held(at),
            false => {
                world.nodes[at].copy |= WRITE;
                Write::Executed(at)
            }
        };
    }

    pub(super) fn run(&self, world: &mut World, action: Action) {
        match action {
            Action::Tick => self.tick(world),
            Action::Grant(at) => self.grant(world, at),
            Action::Receive(at) => {
                let node = &mut world.nodes[at];
                (node.lease, node.config) = node.grant.take().unwrap();
            }
            Action::Apply(at) => self.apply_up_to(world, at, world.nodes[at].applied + 1),
            Action::Skip(at) => self.apply_up_to(world, at, world.tables.len() - 1),
            Action::Restart(at) => self.restart(world, at),
            Action::Elect => self.elect(world),
            Action::Commit(at) => self.commit(world, at),
            Action::ProposeDown(at) => {
                world.downs -= 1;
                let (node, incarnation) = (id(at), world.latest().nodes[&id(at)].incarnation);
                world.propose(Entry::NodeDown { node, incarnation }, true);
            }
            Action::ProposeUp(at) => {
                let announcement = announce(world.nodes[at].incarnation, Role::Data);
                let (node, replaces) = (id(at), world.latest().nodes[&id(at)].incarnation);
                world.propose(Entry::NodeUp { node, replaces, announcement }, false);
            }
            Action::ProposePromote(at) => {
                let (epoch, to) = (world.partition().epoch, id(at));
                world.propose_change(epoch, Change::Promote { to, unclean: false }, true);
            }
            Action::ProposeMove => self.propose_move(world),
            Action::ProposeJoin(at)
            | Action::ProposeSwitch(at)
            | Action::ProposeCancel(at)
            | Action::ProposeShrink(at) => self.propose_step(world, at, action),
            Action::Write(at) => self.write(world, at),
            Action::Copy(at) => self.copy(world, at),
            Action::Finish(at) => self.finish(world, at),
            Action::Replicate(at) => self.replicate(world, at),
            Action::Acknowledge(_) => world.write = Write::Acknowledged,
            Action::Freeze(at) => world.nodes[at].frozen = true,
            Action::Unfreeze(at) => world.release(at),
        }
    }
}
