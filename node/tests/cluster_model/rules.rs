//! What may happen when, and what must hold.

use std::sync::Arc;

use distcache_node::cluster::table::{ClusterId, Entry, MovePhase, NodeId, Role, State, apply};
use stateright::{Model, Property};

use super::world::{Action, Node, World, Write, announce, id, index};
use super::{BASE, Cluster, Fence, NODES, PENDING_MAX, WRITE};

impl Cluster {
    pub(super) fn has(&self, fence: Fence) -> bool {
        !self.without.contains(&fence)
    }

    pub(super) fn may_serve(&self, world: &World, at: usize) -> bool {
        let node = &world.nodes[at];
        let is_leased = node.lease > 0 || !self.has(Fence::LeaseCheck);
        let is_recent = node.applied >= node.config || !self.has(Fence::ConfigIndex);
        is_leased && is_recent && self.is_primary(world, at)
    }

    /// Whether a node takes itself for the primary.
    pub(super) fn is_primary(&self, world: &World, at: usize) -> bool {
        match self.has(Fence::NamedProcess) {
            true => world.is_primary(at),
            false => world.seen(at).primary == Some(id(at)),
        }
    }

    pub(super) fn serves(&self, world: &World, at: usize) -> bool {
        self.may_serve(world, at) && !world.nodes[at].frozen
    }

    pub(super) fn may_grant(&self, world: &World, at: usize) -> bool {
        let member = &world.latest().nodes[&id(at)];
        let is_named = member.incarnation.0 == world.nodes[at].incarnation;
        let is_known = is_named || !self.has(Fence::NamedProcess);
        is_known && (member.status.is_up() || !self.has(Fence::NoGrantToDown))
    }

    /// Whether the leader may promote a node: the lease of the primary is over, and after a
    /// restart of all, everybody has answered and this node has the newest copy.
    pub(super) fn may_promote(&self, world: &World, to: usize) -> bool {
        let (state, partition) = (world.latest(), world.partition());
        let is_over = match partition.primary {
            Some(primary) if state.is_up(primary) => false,
            Some(primary) => world.waits[index(primary)] == 0 || !self.has(Fence::LeaseWait),
            None => true,
        };
        let copies = || partition.isr.iter().map(|&node| world.nodes[index(node)].copy);
        let all_answered = partition.isr.iter().all(|&node| {
            let current = world.nodes[index(node)].incarnation;
            state.is_up(node) && state.nodes[&node].incarnation.0 == current
        });
        let is_newest = copies().all(|copy| copy & !world.nodes[to].copy == 0);
        let is_known = !partition.recovering || all_answered && is_newest;
        is_over && is_known && partition.isr.contains(&id(to)) && state.is_up(id(to))
    }

    /// Whether everybody whose acknowledgement a primary needs has the write. The target of a
    /// handover is nobody of that kind: what it lacks, it gets when the partition is frozen.
    pub(super) fn is_everywhere(&self, world: &World, at: usize, what: u8) -> bool {
        let has = |node: NodeId| world.nodes[index(node)].copy & what == what;
        let link = world.nodes[at].link;
        let linked = world
            .seen(at)
            .joining
            .filter(|joining| link == Some(joining.move_id) && self.has(Fence::AckOfTarget))
            .filter(|_| !self.one_copy);
        world.seen(at).isr.iter().all(|&node| has(node))
            && linked.is_none_or(|joining| has(joining.node))
    }

    pub(super) fn node_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let node = &world.nodes[at];
        let asks = node.lease < self.lease && node.grant.is_none();
        let is_in_sync = world.seen(at).isr.contains(&id(at));
        let may_serve_soon = is_in_sync || self.one_copy && world.is_target(at);
        if asks && may_serve_soon && self.may_grant(world, at) {
            actions.push(Action::Grant(at));
        }
        if node.grant.is_some() {
            actions.push(Action::Receive(at));
        }
        if node.applied + 1 < world.tables.len() {
            actions.push(Action::Apply(at));
        }
        if self.one_copy && node.applied + 2 < world.tables.len() {
            actions.push(Action::Skip(at));
        }
        if world.restarts > 0 {
            actions.push(Action::Restart(at));
        }
        if self.writes && world.write == Write::New && self.may_serve(world, at) {
            actions.push(Action::Write(at));
        }
        if matches!(world.write, Write::Executed(_)) && node.copy & WRITE == 0 && !self.one_copy {
            actions.push(Action::Replicate(at));
        }
        // A reply that waits for the disk is not held back by a handover, since the target has
        // what it is about.
        if world.write == Write::Executed(at)
            && (self.may_serve(world, at) || self.one_copy)
            && self.is_everywhere(world, at, WRITE)
        {
            actions.push(Action::Acknowledge(at));
        }
        match self.one_copy {
            true if self.is_primary(world, at) => self.handover_actions(world, at, actions),
            false if world.is_primary(at) => self.move_actions(world, at, actions),
            _ => {}
        }
    }

    /// What a primary does about handing its only copy over.
    pub(super) fn handover_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let Some((target, move_id)) = world.target(at, MovePhase::Copying) else { return };
        let (node, other) = (&world.nodes[at], &world.nodes[target]);
        let is_known = world.seen(target).joining.is_some_and(|seen| seen.move_id == move_id)
            || !self.has(Fence::KnownMove);
        let is_linked = node.link == Some(move_id);
        if node.link.is_none() && is_known && world.is_announced(target) {
            actions.push(Action::Copy(at));
        }
        let continues = other.receives == Some(move_id) || !self.has(Fence::WholeStream);
        let may_send = is_linked && is_known && continues;
        if may_send && node.copy & !node.answered != 0 {
            actions.push(Action::Replicate(target));
        }
        if is_linked && !node.frozen && self.serves(world, at) {
            actions.push(Action::Freeze(at));
        }
        let may_finish = is_linked && (node.frozen || !self.has(Fence::FreezeFirst));
        if may_finish && may_send && !node.is_through && node.copy == node.answered {
            actions.push(Action::Finish(at));
        }
        let may_switch = may_finish && (node.is_through || !self.has(Fence::SwitchWithAll));
        if may_switch && world.pending.len() < PENDING_MAX {
            actions.push(Action::ProposeSwitch(at));
        }
        if node.frozen && !self.has(Fence::StayFrozen) {
            actions.push(Action::Unfreeze(at));
        }
    }

    /// What a primary does about a move.
    pub(super) fn move_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let node = &world.nodes[at];
        let has_room = world.pending.len() < PENDING_MAX;
        if let Some((target, move_id)) = world.target(at, MovePhase::Copying) {
            let knows = world.seen(target).joining.is_some_and(|seen| seen.move_id == move_id);
            if node.link.is_none() && knows && world.is_announced(target) {
                actions.push(Action::Copy(at));
            }
            let all = node.copy & !world.nodes[target].copy == 0 && node.link == Some(move_id);
            if has_room && (all || !self.has(Fence::JoinWithAll)) {
                actions.push(Action::ProposeJoin(at));
            }
            if has_room {
                actions.push(Action::ProposeCancel(at));
            }
        }
        if let Some((target, _)) = world.target(at, MovePhase::InSync) {
            let is_drained = node.copy & !world.nodes[target].copy == 0;
            if !node.frozen && self.serves(world, at) {
                actions.push(Action::Freeze(at));
            }
            if node.frozen && is_drained && has_room {
                actions.push(Action::ProposeSwitch(at));
            }
            if has_room {
                actions.push(Action::ProposeCancel(at));
            }
            if node.frozen && !self.has(Fence::StayFrozen) {
                actions.push(Action::Unfreeze(at));
            }
        }
        let is_dropping = world.target(at, MovePhase::Dropping).is_some();
        if is_dropping && self.serves(world, at) && has_room {
            actions.push(Action::ProposeShrink(at));
        }
    }

    pub(super) fn leader_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.elections > 0 {
            actions.push(Action::Elect);
        }
        for at in 0..world.pending.len() {
            actions.push(Action::Commit(at));
        }
        if world.pending.len() >= PENDING_MAX {
            return;
        }
        let state = world.latest();
        for at in NODES {
            let member = &state.nodes[&id(at)];
            if world.downs > 0 && member.status.is_up() {
                actions.push(Action::ProposeDown(at));
            }
            let is_new = member.incarnation.0 != world.nodes[at].incarnation;
            if is_new || !member.status.is_up() {
                actions.push(Action::ProposeUp(at));
            }
            if self.may_promote(world, at) {
                actions.push(Action::ProposePromote(at));
            }
        }
        if self.one_copy && world.partition().joining.is_some() {
            // Whoever does so, and whenever: the source out of patience, or the leader.
            actions.push(Action::ProposeCancel(index(world.partition().primary.unwrap())));
        }
        let is_idle = world.partition().joining.is_none() && world.partition().isr.len() == 1;
        if world.moves > 0 && is_idle && world.partition().primary.is_some() {
            actions.push(Action::ProposeMove);
        }
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut table = State::with_partitions(1);
        let (cluster, node) = (ClusterId(1), id(0));
        let announcement = announce(0, Role::Data);
        apply(&mut table, 0, &Entry::Create { cluster, node, announcement });
        for (node, role) in [(1, Role::Data), (2, Role::Witness)] {
            let announcement = announce(node, role);
            apply(&mut table, 0, &Entry::NodeJoin { node: NodeId(node), announcement });
        }
        let owner = Node { lease: self.lease, copy: BASE, ..Node::new(0) };
        vec![World {
            tables: vec![Arc::new(table)],
            nodes: [owner, Node::new(1)],
            waits: [self.lease; 2],
            pending: Vec::new(),
            write: Write::New,
            restarts: self.restarts,
            downs: self.downs,
            elections: self.elections,
            moves: self.moves,
            broken: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for at in NODES {
            self.node_actions(world, at, actions);
        }
        self.leader_actions(world, actions);
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.run(&mut world, action);
        // Two orders of the same proposals are one state, and a repetition adds nothing.
        let mut pending = std::mem::take(&mut world.pending);
        pending.retain(|pending| self.is_alive(&world, &pending.entry));
        world.pending = pending;
        world.pending.sort_by_key(|pending| format!("{pending:?}"));
        world.pending.dedup();
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: at most one node serves", |cluster: &Cluster, world: &World| {
                NODES.iter().filter(|&&at| cluster.serves(world, at)).count() <= 1
            }),
            Property::always("I2: epochs grow and have one owner", |_, world: &World| {
                !world.broken
            }),
            Property::always("I3: what was acknowledged is in sync", |_, world: &World| {
                let acknowledged = if world.write == Write::Acknowledged { WRITE } else { 0 };
                let needed = BASE | acknowledged;
                let partition = world.partition();
                let has = |node: &NodeId| world.nodes[index(*node)].has() & needed == needed;
                match partition.recovering {
                    true => partition.isr.iter().any(has),
                    false => partition.isr.iter().all(has),
                }
            }),
            Property::always("I4: what was refused left no effect", |_, world: &World| {
                let is_refused = world.write == Write::Refused;
                !is_refused || world.nodes.iter().all(|node| node.has() & WRITE == 0)
            }),
            Property::sometimes("a move is completed", |_, world: &World| {
                world.partition().ended.is_some_and(|ended| ended.completed)
                    && world.nodes[0].copy == 0
                    && world.write == Write::Acknowledged
            }),
            Property::sometimes("a write is sent elsewhere", |_, world: &World| {
                world.write == Write::Refused
            }),
            Property::sometimes("the target serves", |cluster: &Cluster, world: &World| {
                cluster.serves(world, 1)
            }),
        ]
    }
}
