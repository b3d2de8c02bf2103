//! What the leader sees to: that each partition is where it should be, and that who has left is
//! forgotten.
//!
//! Pure: [`Driver::look`] gets what the leader knows and the time, and returns what to propose.
//! All of it may be proposed at once, and again: what comes too late does nothing.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::lease::LEASE_OVER;
use super::planner::{PlanInput, PlanLimits, moves_left, plan};
use super::raft::Standing;
use super::table::{
    Entry, Incarnation, MoveId, NodeId, PARTITIONS, PartitionId, Role, State, Status,
};
use crate::clock::Ticks;

/// How long a member does not answer the leader before the table says that it is down.
pub const DOWN_AFTER: Duration = Duration::from_secs(2);

/// How long a member does not answer before nothing new is begun.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(500);

/// How long a partition rests whose move has failed; each failure doubles it.
pub const REST_MIN: Duration = Duration::from_secs(1);

/// The longest rest.
pub const REST_MAX: Duration = Duration::from_secs(30);

/// What the members have told this leader: the bytes of their partitions, and how far they follow.
#[derive(Debug, Clone, Default)]
pub struct Reported {
    bytes: Vec<u64>,
    /// Index of the last entry that each had applied.
    applied: BTreeMap<NodeId, u64>,
}

impl Reported {
    /// Notes what a member has applied, and what it tells of those partitions that are its own.
    pub fn note(
        &mut self,
        table: &State,
        node: NodeId,
        applied: u64,
        report: &[(PartitionId, u64)],
    ) {
        self.applied.insert(node, applied);
        self.bytes.resize(PARTITIONS.into(), 0);
        for (id, bytes) in report {
            let is_primary = table.partition(*id).is_some_and(|at| at.primary == Some(node));
            if is_primary && let Some(known) = self.bytes.get_mut(usize::from(id.0)) {
                *known = *bytes;
            }
        }
    }

    /// Whether all nodes that serve something have told of it.
    pub fn has_sizes_of_all(&self, table: &State) -> bool {
        let mut owners = table.partitions.iter().filter_map(|partition| partition.primary);
        owners.all(|node| self.applied.contains_key(&node) || !table.is_up(node))
    }
}

/// What the leader knows.
pub struct Seen<'a> {
    /// This node.
    pub own: NodeId,
    /// Raft's group.
    pub standing: &'a Standing,
    /// The table.
    pub table: &'a State,
    /// What the nodes have reported.
    pub reported: &'a Reported,
    /// When a node last answered this one.
    pub last_ok: &'a dyn Fn(NodeId) -> Option<Ticks>,
}

/// What a leader remembers of the table. Begins anew with each leadership.
#[derive(Debug)]
pub struct Driver {
    limits: PlanLimits,
    since: Ticks,
    members: BTreeMap<NodeId, (Incarnation, Status)>,
    members_changed: Ticks,
    /// The last move of each partition that ended.
    ended: Vec<Option<MoveId>>,
    failures: BTreeMap<PartitionId, Failures>,
    /// Members that are to leave and hold nothing, with the table's version when that was seen.
    empty: BTreeMap<NodeId, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Ticks,
}

impl Failures {
    fn rest(self) -> Duration {
        REST_MIN.saturating_mul(1 << (self.count - 1).min(5)).min(REST_MAX)
    }
}

impl Driver {
    /// Begins with a new leadership.
    pub fn new(table: &State, limits: PlanLimits, now: Ticks) -> Self {
        Driver {
            limits,
            since: now,
            members: members(table),
            members_changed: now,
            ended: ended(table).collect(),
            failures: BTreeMap::new(),
            empty: BTreeMap::new(),
        }
    }

    /// Returns what to propose now.
    pub fn look(
        &mut self,
        seen: &Seen<'_>,
        now: Ticks,
        new_move: &mut dyn FnMut() -> MoveId,
    ) -> Vec<Entry> {
        self.note(seen.table, now);
        let mut entries = self.forgotten(seen);
        // Without sizes, more could move at once than the network should carry.
        if !seen.reported.has_sizes_of_all(seen.table) && now.since(self.since) < LEASE_OVER {
            return entries;
        }
        let resting = self.failures.iter().filter(|(_, at)| now.since(at.last) < at.rest());
        let resting = resting.map(|(id, _)| *id).collect();
        let input = PlanInput {
            state: seen.table,
            bytes: &seen.reported.bytes,
            since_change: now.since(self.members_changed),
            any_suspect: any_suspect(seen, now),
            resting: &resting,
        };
        entries.extend(plan(&input, &self.limits, new_move));
        entries
    }

    fn note(&mut self, table: &State, now: Ticks) {
        let members = members(table);
        if members != self.members {
            self.members = members;
            self.members_changed = now;
        }
        let is_empty = |node: &NodeId| {
            let member = table.nodes.get(node);
            member.is_some_and(|member| member.status.is_leaving())
                && table.held_by(*node).is_none()
        };
        self.empty.retain(|node, _| is_empty(node));
        for node in table.nodes.keys().filter(|node| is_empty(node)) {
            self.empty.entry(*node).or_insert(table.version);
        }
        for ((id, partition), known) in table.numbered().zip(&mut self.ended) {
            let Some(ended) = partition.ended.filter(|ended| Some(ended.move_id) != *known) else {
                continue;
            };
            *known = Some(ended.move_id);
            if ended.completed {
                self.failures.remove(&id);
            } else {
                let failures = self.failures.entry(id).or_insert(Failures { count: 0, last: now });
                *failures = Failures { count: failures.count + 1, last: now };
            }
        }
    }

    /// Members that have left: they hold nothing, know where everything is that they held, and do
    /// not vote any more. Until another one votes in its place, a node stays.
    ///
    /// Once it is forgotten, a node hears of no more entries, but tells clients for a while where
    /// their keys are. One that is down tells nobody.
    fn forgotten(&self, seen: &Seen<'_>) -> Vec<Entry> {
        let (standing, table) = (seen.standing, seen.table);
        let votes = |node: &NodeId| standing.is_changing || standing.voters.contains(node);
        let knows = |node: &NodeId, version: u64| {
            !table.is_up(*node)
                || seen.reported.applied.get(node).is_some_and(|applied| *applied >= version)
        };
        let gone =
            self.empty.iter().filter(|(node, version)| !votes(node) && knows(node, **version));
        gone.map(|(node, _)| Entry::NodeForget { node: *node }).collect()
    }
}

/// Whether the leader has to look again soon: something moves, should move, or is to leave.
pub fn is_open(table: &State) -> bool {
    table.nodes.values().any(|member| member.status.is_leaving())
        || table.partitions.iter().any(|at| at.joining.is_some() || at.isr.is_empty())
        || moves_left(table) > 0
}

fn members(table: &State) -> BTreeMap<NodeId, (Incarnation, Status)> {
    let member = table.nodes.iter();
    member.map(|(node, member)| (*node, (member.incarnation, member.status))).collect()
}

fn ended(table: &State) -> impl Iterator<Item = Option<MoveId>> {
    table.partitions.iter().map(|partition| partition.ended.map(|ended| ended.move_id))
}

/// Whether a member that should answer has not for a moment, or cannot hear of the table yet.
fn any_suspect(seen: &Seen<'_>, now: Ticks) -> bool {
    let is_suspect = |node: NodeId| {
        let answers = (seen.last_ok)(node).is_some_and(|at| now.since(at) < SUSPECT_AFTER);
        node != seen.own && !(answers && seen.standing.is_member(node))
    };
    let data = |role: Role| role == Role::Data;
    let mut running =
        seen.table.nodes.iter().filter(|(_, member)| member.status.is_up() && data(member.role));
    running.any(|(node, _)| is_suspect(*node))
}

/// A member that the leader calls.
#[derive(Debug, Clone, Copy)]
pub struct Called {
    /// The process that the table takes for running.
    runs: Option<Incarnation>,
    /// Since when it does, and the leader calls the member.
    since: Ticks,
}

/// Returns the members that the table takes for running, and that have not answered the leader's
/// calls for [`DOWN_AFTER`]. Who is not called yet is not judged. `others` are those that are
/// called now, and `called` remembers since when: what came before the table had a member as
/// running, as this process, is no silence of it.
pub fn silent_members<'a>(
    table: &State,
    others: impl Iterator<Item = &'a NodeId>,
    called: &mut BTreeMap<NodeId, Called>,
    last_ok: impl Fn(NodeId) -> Option<Ticks>,
    now: Ticks,
) -> Vec<(NodeId, Incarnation)> {
    let runs = |node: &NodeId| {
        let member = table.nodes.get(node).filter(|member| member.status.is_up());
        member.map(|member| member.incarnation)
    };
    let begun = |node: &NodeId| {
        let begins = Called { runs: runs(node), since: now };
        called.get(node).copied().filter(|known| known.runs == begins.runs).unwrap_or(begins)
    };
    *called = others.map(|node| (*node, begun(node))).collect();
    let mut silent = Vec::new();
    for (node, Called { runs, since }) in called.iter() {
        let last = last_ok(*node).map_or(*since, |at| at.max(*since));
        if let Some(incarnation) = runs.filter(|_| now.since(last) > DOWN_AFTER) {
            silent.push((*node, incarnation));
        }
    }
    silent
}
