//! Every order of events in a small cluster, tried by a model checker on the real table.
//!
//! Two nodes, A and B, hold one partition that moves between them; the third node leads the
//! consensus and holds nothing. Messages are delayed and lost, entries are committed late, nodes
//! restart with what is on their disks, the leader changes, nodes are taken for dead that are
//! not. Time is discrete: a lease counts down on every tick.
//!
//! A partition of one copy is handed over by one entry, and the former primary deletes what it
//! has; with further copies, a target joins the in-sync set first, and another copy leaves it
//! last. [`Cluster::one_copy`] says by which of the two the nodes go; the table takes both.
//!
//! What must hold: at most one node serves (I1); epochs never fall, and each has one owner (I2);
//! what was acknowledged is in every in-sync copy (I3); what was refused left no effect (I4).
//! Each fence is also switched off in turn, and then the checker must find something wrong. One
//! pair of fences keeps the same thing out, so both must be off.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use distcache_node::cluster::table::{
    Announcement, Change, ClusterId, Entry, Epoch, Incarnation, MoveId, MovePhase, NodeAddresses,
    NodeId, Outcome, Partition, PartitionId, Role, State, StreamSequence, Then, apply,
    check_invariants, check_transition,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

const PARTITION: PartitionId = PartitionId(0);
/// The nodes that hold data, as they are numbered here and in the table.
const NODES: [usize; 2] = [0, 1];
/// What every copy must have from the beginning on.
const BASE: u8 = 1;
/// The one write of the model.
const WRITE: u8 = 2;
/// Entries that are proposed and not committed. One that is lost is one that stays.
const PENDING_MAX: usize = 2;

/// What keeps two nodes from serving, and writes from being lost. Without one of these, something
/// must go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// A node serves only while it has a lease.
    LeaseCheck,
    /// A lease counts from when the node asked for it.
    LeaseFromRequest,
    /// The leader waits until the lease of a former primary is over.
    LeaseWait,
    /// A new leader waits for the leases that an earlier one may have granted.
    WaitAfterElection,
    /// A lease is good only for a table at least as new as the one it was granted with.
    ConfigIndex,
    /// Nodes that the table says are down get no lease.
    NoGrantToDown,
    /// A promotion does nothing in another epoch than its proposer has seen.
    EpochCheck,
    /// A node serves, and gets leases, only as the process that the table names.
    NamedProcess,
    /// A process announces itself in place of the one that it knows of.
    PresentProcess,
    /// A frozen primary goes on only when it has applied how the move ended.
    StayFrozen,
    /// The target joins the in-sync set only with everything that was acknowledged.
    JoinWithAll,
    /// From the copy on, a write is acknowledged only with the target's copy.
    AckOfTarget,
    /// A copy is deleted only when the table with the node's own return says so.
    KeepCopyAtStart,
    /// Handover: the source freezes the partition before it proposes the switch.
    FreezeFirst,
    /// Handover: the switch is proposed only when the target has answered for everything.
    SwitchWithAll,
    /// Handover: the target's last answer says that everything is on its disk.
    SyncFirst,
    /// Handover: a target answers only for a stream that it has from the beginning on, so not for
    /// the rest of one that an earlier process of it has received.
    WholeStream,
    /// Handover: a target takes only what belongs to a move that its own table has.
    KnownMove,
    /// Handover: the source deletes its copy only when it has applied the switch.
    DeleteLast,
    /// Handover: what a target has received is the partition if the table says that the node is
    /// the primary by a switch, whichever move ended last: tables may have been skipped.
    TakeBySwitch,
    /// Handover: a switch does nothing in another epoch than its proposer has seen.
    SwitchEpoch,
    /// Handover: a switch does nothing for another move than its proposer's.
    SwitchMove,
}

/// How much happens in one run.
#[derive(Debug, Clone)]
struct Cluster {
    /// Ticks that a lease lasts.
    lease: u8,
    restarts: u8,
    downs: u8,
    elections: u8,
    moves: u8,
    /// Whether there is a write.
    writes: bool,
    /// Whether primaries hand their only copy over.
    one_copy: bool,
    /// The fences that are switched off.
    without: &'static [Fence],
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq)]
struct World {
    /// The table after each entry that was committed and applied to it.
    tables: Vec<Arc<State>>,
    nodes: [Node; 2],
    /// Ticks that the leader still has to wait, after its last answer to each node.
    waits: [u8; 2],
    pending: Vec<Pending>,
    write: Write,
    restarts: u8,
    downs: u8,
    elections: u8,
    moves: u8,
    /// An entry broke the table.
    broken: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    /// Entries that it has applied: an index of `tables`.
    applied: usize,
    incarnation: u64,
    /// Ticks left, 0 without a lease.
    lease: u8,
    /// The table with which the lease was granted.
    config: usize,
    /// A lease on its way: ticks left, and the table with which it was granted.
    grant: Option<(u8, usize)>,
    frozen: bool,
    /// The move whose target gets every write of this node.
    link: Option<MoveId>,
    /// What is on its disk.
    copy: u8,
    /// What the target has answered for.
    answered: u8,
    /// The target has answered that this was all, and that it is on its disk.
    is_through: bool,
    /// The move of which this node has received the beginning.
    receives: Option<MoveId>,
    /// What it has received and not on its disk yet.
    staged: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Write {
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
struct Pending {
    entry: Entry,
    /// Appended to the log of a leader that was replaced since.
    inherited: bool,
    by_leader: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
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

fn id(node: usize) -> NodeId {
    NodeId(node as u64)
}

fn index(node: NodeId) -> usize {
    node.0 as usize
}

fn announce(incarnation: u64, role: Role) -> Announcement {
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
    fn latest(&self) -> &State {
        self.tables.last().unwrap()
    }

    fn partition(&self) -> &Partition {
        &self.latest().partitions[0]
    }

    /// The table as a node has it.
    fn view(&self, node: usize) -> &State {
        &self.tables[self.nodes[node].applied]
    }

    fn seen(&self, node: usize) -> &Partition {
        &self.view(node).partitions[0]
    }

    /// Whether the table that a node has says that it is the primary, in its present process.
    fn is_primary(&self, node: usize) -> bool {
        self.seen(node).primary == Some(id(node)) && self.is_announced(node)
    }

    /// Whether the table that a node has says that the partition is moving to it.
    fn is_target(&self, node: usize) -> bool {
        self.seen(node).joining.is_some_and(|joining| joining.node == id(node))
    }

    fn is_announced(&self, node: usize) -> bool {
        let known = self.view(node).nodes.get(&id(node));
        known.is_some_and(|known| known.incarnation.0 == self.nodes[node].incarnation)
    }

    /// The target of a node's move, if it is in this phase, as the node sees it.
    fn target(&self, node: usize, phase: MovePhase) -> Option<(usize, MoveId)> {
        let joining = self.seen(node).joining.filter(|joining| joining.phase == phase)?;
        Some((index(joining.node), joining.move_id))
    }

    fn propose(&mut self, entry: Entry, by_leader: bool) {
        self.pending.push(Pending { entry, inherited: false, by_leader });
    }

    fn propose_change(&mut self, epoch: Epoch, change: Change, by_leader: bool) {
        let entry = Entry::Partition { partition: PARTITION, expect_epoch: epoch, change };
        self.propose(entry, by_leader);
    }

    /// A write that was held goes on, or its client is sent elsewhere.
    fn release(&mut self, node: usize) {
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

impl Cluster {
    fn has(&self, fence: Fence) -> bool {
        !self.without.contains(&fence)
    }

    fn may_serve(&self, world: &World, at: usize) -> bool {
        let node = &world.nodes[at];
        let is_leased = node.lease > 0 || !self.has(Fence::LeaseCheck);
        let is_recent = node.applied >= node.config || !self.has(Fence::ConfigIndex);
        is_leased && is_recent && self.is_primary(world, at)
    }

    /// Whether a node takes itself for the primary.
    fn is_primary(&self, world: &World, at: usize) -> bool {
        match self.has(Fence::NamedProcess) {
            true => world.is_primary(at),
            false => world.seen(at).primary == Some(id(at)),
        }
    }

    fn serves(&self, world: &World, at: usize) -> bool {
        self.may_serve(world, at) && !world.nodes[at].frozen
    }

    fn may_grant(&self, world: &World, at: usize) -> bool {
        let member = &world.latest().nodes[&id(at)];
        let is_named = member.incarnation.0 == world.nodes[at].incarnation;
        let is_known = is_named || !self.has(Fence::NamedProcess);
        is_known && (member.status.is_up() || !self.has(Fence::NoGrantToDown))
    }

    /// Whether the leader may promote a node: the lease of the primary is over, and after a
    /// restart of all, everybody has answered and this node has the newest copy.
    fn may_promote(&self, world: &World, to: usize) -> bool {
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
    fn is_everywhere(&self, world: &World, at: usize, what: u8) -> bool {
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

    fn node_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
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
    fn handover_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
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
    fn move_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
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

    fn leader_actions(&self, world: &World, actions: &mut Vec<Action>) {
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

    fn tick(&self, world: &mut World) {
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
    fn commit(&self, world: &mut World, at: usize) {
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
    fn is_alive(&self, world: &World, entry: &Entry) -> bool {
        let Entry::Partition { expect_epoch, change, .. } = entry else { return true };
        let is_checked = match change {
            Change::Promote { .. } => self.has(Fence::EpochCheck),
            Change::Switch { .. } => self.has(Fence::SwitchEpoch),
            _ => true,
        };
        *expect_epoch >= world.partition().epoch || !is_checked
    }

    /// A node applies the entries up to one, with all that this means for it.
    fn apply_up_to(&self, world: &mut World, at: usize, index: usize) {
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

    fn restart(&self, world: &mut World, at: usize) {
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

    fn propose_move(&self, world: &mut World) {
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
    fn propose_step(&self, world: &mut World, at: usize, action: Action) {
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

    fn elect(&self, world: &mut World) {
        world.elections -= 1;
        world.waits = match self.has(Fence::WaitAfterElection) {
            true => [self.lease; 2],
            false => [0; 2],
        };
        world.pending.iter_mut().for_each(|pending| pending.inherited |= pending.by_leader);
    }

    fn grant(&self, world: &mut World, at: usize) {
        // The leader has confirmed itself, so what earlier ones left is committed or lost.
        world.pending.retain(|pending| !pending.inherited);
        let config = world.tables.len() - 1;
        let node = &mut world.nodes[at];
        node.grant = Some((self.lease, config));
        world.waits[at] = self.lease;
    }

    /// The target of a move gets all that the primary has.
    fn copy(&self, world: &mut World, from: usize) {
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
    fn finish(&self, world: &mut World, from: usize) {
        world.nodes[from].is_through = true;
        let target = &mut world.nodes[1 - from];
        if self.has(Fence::SyncFirst) {
            target.copy |= std::mem::take(&mut target.staged);
        }
    }

    fn replicate(&self, world: &mut World, to: usize) {
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

    fn write(&self, world: &mut World, at: usize) {
        world.write = match world.nodes[at].frozen {
            true => Write::Held(at),
            false => {
                world.nodes[at].copy |= WRITE;
                Write::Executed(at)
            }
        };
    }

    fn run(&self, world: &mut World, action: Action) {
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

impl Node {
    /// What it has, be it on its disk or not.
    fn has(&self) -> u8 {
        self.copy | self.staged
    }

    fn new(incarnation: u64) -> Self {
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

const CALM: Cluster = Cluster {
    lease: 1,
    restarts: 0,
    downs: 0,
    elections: 0,
    moves: 1,
    writes: false,
    one_copy: false,
    without: &[],
};

const ONE_COPY: Cluster = Cluster { one_copy: true, ..CALM };

/// Tries everything, and returns what has been seen to happen.
#[track_caller]
fn check(cluster: Cluster) -> Vec<&'static str> {
    let name = format!("{cluster:?}");
    let checker = cluster.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    eprintln!("{name}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    let found = checker.discoveries();
    if let Some((broken, path)) = found.iter().find(|(found, _)| found.starts_with('I')) {
        panic!("{name}: {broken} does not hold:\n{path}");
    }
    let mut seen: Vec<_> = found.into_keys().collect();
    seen.sort_unstable();
    seen
}

#[test]
fn a_move_there_and_back_with_a_write() {
    // A model in which nothing happens would hold everything that is asked of it.
    let seen = check(Cluster { moves: 2, writes: true, ..CALM });
    assert_eq!(seen, ["a move is completed", "a write is sent elsewhere", "the target serves"]);
}

#[test]
fn a_move_while_two_processes_restart() {
    check(Cluster { restarts: 2, ..CALM });
}

#[test]
fn a_move_while_nodes_are_taken_for_dead_that_are_not() {
    check(Cluster { downs: 2, ..CALM });
}

#[test]
fn a_move_while_a_process_restarts_and_a_node_is_taken_for_dead() {
    check(Cluster { restarts: 1, downs: 1, ..CALM });
}

#[test]
fn a_write_while_a_node_is_taken_for_dead_and_the_leader_changes() {
    check(Cluster { downs: 1, elections: 1, writes: true, ..CALM });
}

#[test]
fn a_write_while_a_process_restarts_and_the_leader_changes() {
    check(Cluster { restarts: 1, elections: 1, writes: true, ..CALM });
}

#[test]
fn a_lease_of_two_ticks_that_is_granted_late() {
    check(Cluster { lease: 2, downs: 1, ..CALM });
}

#[test]
fn a_handover_there_and_back_with_a_write() {
    let seen = check(Cluster { moves: 2, writes: true, ..ONE_COPY });
    assert_eq!(seen, ["a move is completed", "a write is sent elsewhere", "the target serves"]);
}

#[test]
fn a_handover_while_two_processes_restart() {
    check(Cluster { restarts: 2, ..ONE_COPY });
}

#[test]
fn a_handover_while_nodes_are_taken_for_dead_that_are_not() {
    check(Cluster { downs: 2, ..ONE_COPY });
}

#[test]
fn a_handover_while_a_process_restarts_and_a_node_is_taken_for_dead() {
    check(Cluster { restarts: 1, downs: 1, ..ONE_COPY });
}

#[test]
fn a_handover_with_a_write_while_a_node_is_taken_for_dead() {
    check(Cluster { downs: 1, writes: true, ..ONE_COPY });
}

#[test]
fn a_handover_with_a_write_while_a_process_restarts_and_the_leader_changes() {
    check(Cluster { restarts: 1, elections: 1, writes: true, ..ONE_COPY });
}

#[test]
fn two_handovers_while_a_process_restarts() {
    check(Cluster { restarts: 1, moves: 2, ..ONE_COPY });
}

/// The larger runs take minutes: `DISTCACHE_MODEL_LONG=1` asks for them.
#[test]
fn more_of_everything_at_once_when_that_is_asked_for() {
    if std::env::var_os("DISTCACHE_MODEL_LONG").is_none() {
        return;
    }
    check(Cluster { downs: 2, writes: true, ..CALM });
    check(Cluster { restarts: 1, downs: 1, writes: true, ..CALM });
    check(Cluster { downs: 1, moves: 2, writes: true, ..CALM });
    check(Cluster { restarts: 2, downs: 1, ..CALM });
}

/// See above.
#[test]
fn more_handovers_at_once_when_that_is_asked_for() {
    if std::env::var_os("DISTCACHE_MODEL_LONG").is_none() {
        return;
    }
    // Only failover needs clocks.
    let without = &[Fence::LeaseCheck, Fence::LeaseWait, Fence::ConfigIndex];
    check(Cluster { without, restarts: 1, downs: 1, ..ONE_COPY });
    check(Cluster { restarts: 2, writes: true, ..ONE_COPY });
    check(Cluster { restarts: 1, downs: 1, writes: true, ..ONE_COPY });
    check(Cluster { restarts: 1, moves: 2, writes: true, ..ONE_COPY });
    check(Cluster { downs: 1, moves: 2, writes: true, ..ONE_COPY });
    check(Cluster { restarts: 1, downs: 1, moves: 2, ..ONE_COPY });
    check(Cluster { lease: 2, restarts: 1, writes: true, ..ONE_COPY });
}

/// Tries everything until something goes wrong, which it must.
#[track_caller]
fn find(broken: &str, without: &'static [Fence], cluster: Cluster) {
    let checker = Cluster { without, ..cluster }.checker();
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    eprintln!("without {without:?}: {} states", checker.unique_state_count());
    let found = checker.discoveries();
    assert!(found.keys().any(|name| name.starts_with(broken)), "{without:?}: not needed");
}

#[test]
fn without_any_one_fence_something_goes_wrong() {
    let down = Cluster { downs: 1, ..CALM };
    let restart = Cluster { restarts: 1, ..CALM };
    find("I1", &[Fence::LeaseCheck], down.clone());
    find("I1", &[Fence::LeaseFromRequest], down.clone());
    find("I1", &[Fence::LeaseWait], down.clone());
    find("I1", &[Fence::WaitAfterElection], Cluster { elections: 1, ..down.clone() });
    find("I1", &[Fence::ConfigIndex], down.clone());
    find("I1", &[Fence::NoGrantToDown], down.clone());
    find("I1", &[Fence::EpochCheck], Cluster { downs: 2, ..CALM });
    find("I1", &[Fence::PresentProcess], Cluster { restarts: 1, ..down.clone() });
    find("I1", &[Fence::NamedProcess], Cluster { restarts: 1, ..down });
    find("I1", &[Fence::StayFrozen], CALM);
    find("I3", &[Fence::JoinWithAll], CALM);
    find("I3", &[Fence::AckOfTarget], Cluster { writes: true, ..CALM });
    find("I3", &[Fence::KeepCopyAtStart], restart);
}

#[test]
fn without_any_one_fence_a_handover_goes_wrong() {
    let restart = Cluster { restarts: 1, ..ONE_COPY };
    let write = Cluster { writes: true, ..ONE_COPY };
    let twice = Cluster { moves: 2, ..ONE_COPY };
    find("I1", &[Fence::StayFrozen], ONE_COPY);
    find("I1", &[Fence::FreezeFirst], ONE_COPY);
    find("I1", &[Fence::NamedProcess], restart.clone());
    find("I3", &[Fence::SwitchWithAll], write);
    find("I3", &[Fence::SyncFirst], restart.clone());
    find("I3", &[Fence::WholeStream], restart.clone());
    find("I3", &[Fence::KeepCopyAtStart], restart);
    find("I3", &[Fence::DeleteLast], ONE_COPY);
    find("I3", &[Fence::KnownMove], twice.clone());
    find("I3", &[Fence::TakeBySwitch], twice.clone());
    // The epoch and the id of the move each keep a late switch out.
    find("I", &[Fence::SwitchEpoch, Fence::SwitchMove], twice.clone());
    check(Cluster { without: &[Fence::SwitchEpoch], ..twice.clone() });
    check(Cluster { without: &[Fence::SwitchMove], ..twice });
}
