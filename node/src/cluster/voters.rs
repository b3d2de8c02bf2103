//! Which members of the cluster vote in Raft's group.
//!
//! Pure: [`Voters::decide`] gets what the leader knows and the time, and returns one change or
//! none. One voter serves clusters of one and two data nodes, three survive the loss of one,
//! five that of two; more would only make each decision slower. Everybody else is a learner.
//!
//! One change at a time, and voters change only after a pause: openraft 0.9 has stumbled over
//! learners that became voters quickly (<https://github.com/databendlabs/openraft/issues/1544>).
//! Only the first change, from one voter to several, waits less: until it is made, the loss of that
//! one stops the cluster. Nodes that join become learners at once, since they wait for that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::raft::Standing;
use super::table::{NodeId, Role, State};
use crate::clock::Ticks;

/// Time from any change of Raft's group to a change of its voters.
pub const PAUSE: Duration = Duration::from_secs(5);

/// How long a voter is silent before another one takes its place.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Entries that a learner may lack and still become a voter.
pub const LAG_MAX: u64 = 100;

/// How long a learner has lacked no more than that before it becomes a voter.
pub const CAUGHT_UP_FOR: Duration = Duration::from_secs(10);

/// How long a learner may be silent and still count as keeping up: whoever is cut off or dead lacks
/// nothing either while nothing happens. Some heartbeats long.
pub const READY_SILENCE_MAX: Duration = Duration::from_secs(1);

/// What takes the place of [`PAUSE`] and [`CAUGHT_UP_FOR`] while one node alone votes: long enough
/// for its learners to have shown some heartbeats long that they keep up.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long a learner that is no member of the cluster any more is silent before it is removed: its
/// process has seen that it was forgotten, and has ended.
pub const GONE_AFTER: Duration = Duration::from_secs(1);

/// How long such a learner is kept that does not end. It is told when it asks for a lease.
pub const KEPT_FOR: Duration = Duration::from_secs(10);

/// A change of Raft's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// A member of the cluster becomes a learner.
    AddLearner {
        /// The node.
        node: NodeId,
        /// Where it is reached.
        bus: String,
    },
    /// Exactly these vote from now on; all are in Raft's group.
    SetVoters(BTreeSet<NodeId>),
    /// A learner that is no member of the cluster any more leaves Raft's group.
    RemoveLearner(NodeId),
}

/// What has to be remembered between two decisions. Begins anew with each leadership.
#[derive(Debug)]
pub struct Voters {
    last_change: Option<Ticks>,
    /// Since when each learner has been caught up, and has answered.
    caught_up: BTreeMap<NodeId, Ticks>,
    /// Since when each learner has been no member of the cluster.
    forgotten: BTreeMap<NodeId, Ticks>,
    /// When the leadership began, from which silence counts at the earliest.
    since: Ticks,
}

impl Voters {
    /// Begins with a new leadership.
    pub fn new(now: Ticks) -> Self {
        let (caught_up, forgotten) = (BTreeMap::new(), BTreeMap::new());
        Voters { last_change: None, caught_up, forgotten, since: now }
    }

    /// Notes that a change was made, or may have been.
    pub fn changed(&mut self, now: Ticks) {
        self.last_change = Some(now);
    }

    /// Returns the next change, if there is one to make now. `own` is the leader; `last_ok` says
    /// when a node last answered it.
    pub fn decide(
        &mut self,
        own: NodeId,
        standing: &Standing,
        table: &State,
        last_ok: impl Fn(NodeId) -> Option<Ticks>,
        now: Ticks,
    ) -> Option<GroupChange> {
        self.note_caught_up(standing, table, &last_ok, now);
        self.note_forgotten(own, standing, table, now);
        let (pause, caught_up_for) = match standing.voters.len() {
            0 | 1 => (FIRST_PAUSE, FIRST_PAUSE),
            _ => (PAUSE, CAUGHT_UP_FOR),
        };
        let has_stayed = |node: &NodeId| {
            self.caught_up.get(node).is_some_and(|since| now.since(*since) >= caught_up_for)
        };
        let answers = |node: NodeId| {
            let last = last_ok(node).map_or(self.since, |at| at.max(self.since));
            node == own || now.since(last) < SILENCE_MAX
        };
        let is_ready = |node: NodeId| standing.voters.contains(&node) || has_stayed(&node);
        let wanted = wanted(own, standing, table, answers, is_ready);
        let is_pause = self.last_change.is_some_and(|at| now.since(at) < pause);
        if !is_pause && (standing.is_changing || wanted != standing.voters) {
            return Some(GroupChange::SetVoters(wanted));
        }
        if standing.is_changing {
            return None;
        }
        if let Some((node, member)) = table.nodes.iter().find(|(id, _)| !standing.is_member(**id)) {
            let bus = member.addresses.bus.clone();
            return Some(GroupChange::AddLearner { node: *node, bus });
        }
        let is_gone = |(node, since): &(&NodeId, &Ticks)| {
            let last = last_ok(**node).map_or(self.since, |at| at.max(self.since));
            now.since(last) >= GONE_AFTER || now.since(**since) >= KEPT_FOR
        };
        let gone = self.forgotten.iter().find(is_gone);
        gone.map(|(node, _)| GroupChange::RemoveLearner(*node))
    }

    /// The leader itself may be among those that have left; it goes when its process ends.
    fn note_forgotten(&mut self, own: NodeId, standing: &Standing, table: &State, now: Ticks) {
        let is_forgotten = |node: &NodeId| *node != own && !table.nodes.contains_key(node);
        let forgotten = standing.learners.iter().filter(|node| is_forgotten(node));
        let since = |node: &NodeId| self.forgotten.get(node).copied().unwrap_or(now);
        self.forgotten = forgotten.map(|node| (*node, since(node))).collect();
    }

    /// A node that is down must not become a voter, whatever it lacks: with it, the cluster would
    /// survive fewer failures than without.
    fn note_caught_up(
        &mut self,
        standing: &Standing,
        table: &State,
        last_ok: impl Fn(NodeId) -> Option<Ticks>,
        now: Ticks,
    ) {
        let answers =
            |node: NodeId| last_ok(node).is_some_and(|at| now.since(at) < READY_SILENCE_MAX);
        let lag = |node: &NodeId| standing.lag.get(node).copied().flatten();
        let is_ready = |node: &NodeId| {
            lag(node).is_some_and(|lag| lag <= LAG_MAX) && table.is_up(*node) && answers(*node)
        };
        self.caught_up.retain(|node, _| is_ready(node));
        for node in standing.learners.iter().filter(|node| is_ready(node)) {
            self.caught_up.entry(*node).or_insert(now);
        }
    }
}

/// Returns how many nodes should vote in a cluster of so many data nodes; witnesses count too.
pub fn voters_of(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

/// Returns who should vote: the best of those that can.
fn wanted(
    own: NodeId,
    standing: &Standing,
    table: &State,
    answers: impl Fn(NodeId) -> bool,
    is_ready: impl Fn(NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let stays = |node: &NodeId| table.nodes.get(node).is_some_and(|m| !m.status.is_leaving());
    // A node that is down for a while still counts: a cluster must not shrink its majority each
    // time a node restarts.
    let count = voters_of(table.nodes.keys().filter(|node| stays(node)).count());
    let mut able: Vec<NodeId> =
        standing.voters.union(&standing.learners).copied().filter(|node| is_ready(*node)).collect();
    let stable =
        |node: &&NodeId| stays(node) && (answers(**node) || standing.voters.contains(node));
    let useful = able.iter().filter(stable).count();
    // An even number of voters survives no more than one fewer does.
    let odd = useful.saturating_sub(1) / 2 * 2 + 1;
    let count = count.min(odd);
    // A witness that votes alone would be one more node whose loss stops the cluster.
    let is_asked = |node: NodeId| {
        count > 1 && table.nodes.get(&node).is_some_and(|member| member.role == Role::Witness)
    };
    let rank = |node: &NodeId| {
        let is_voter = standing.voters.contains(node);
        // Who leaves or is silent votes only if nobody else can; witnesses are there to vote; the
        // leader, and other voters, stay rather than change.
        (!stays(node), !answers(*node), !is_asked(*node), *node != own, !is_voter, *node)
    };
    able.sort_by_key(rank);
    able.truncate(count);
    able.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::table::{
        Announcement, ClusterId, Entry, Incarnation, NodeAddresses, apply,
    };

    const STEP: Duration = Duration::from_secs(1);

    /// A cluster as its leader, node 1, sees it.
    struct Cluster {
        table: State,
        standing: Standing,
        silent: BTreeSet<NodeId>,
        voters: Voters,
        clock: Ticks,
        seconds: u64,
        last_ok: BTreeMap<NodeId, Ticks>,
        changes: Vec<(u64, GroupChange)>,
    }

    fn ids(numbers: &[u64]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    fn announcement(role: Role) -> Announcement {
        let (incarnation, addresses) = (Incarnation(1), NodeAddresses::default());
        Announcement { incarnation, addresses, zone: String::new(), weight: 100, role }
    }

    impl Cluster {
        fn of(nodes: &[(u64, Role)]) -> Cluster {
            let now = Ticks::now();
            let mut table = State::new();
            for (number, (node, role)) in nodes.iter().enumerate() {
                let (node, role) = (NodeId(*node), *role);
                let announcement = announcement(role);
                let entry = match number {
                    0 => Entry::Create { cluster: ClusterId(1), node, announcement },
                    _ => Entry::NodeJoin { node, announcement },
                };
                assert!(apply(&mut table, number as u64, &entry).is_success());
            }
            let standing = Standing {
                leader: Some(NodeId(1)),
                claims_lead: true,
                term: 1,
                quorum_silence: None,
                voters: ids(&[1]),
                is_changing: false,
                learners: BTreeSet::new(),
                lag: BTreeMap::new(),
                applied: None,
                failure: None,
            };
            let (voters, silent) = (Voters::new(now), BTreeSet::new());
            let (last_ok, changes) = (BTreeMap::new(), Vec::new());
            Cluster { table, standing, silent, voters, clock: now, seconds: 0, last_ok, changes }
        }

        /// Lets time pass, and makes the changes that are decided.
        fn run(&mut self, seconds: u64) -> &mut Self {
            for _ in 0..seconds {
                self.clock = self.clock.after(STEP);
                self.seconds += 1;
                let now = self.clock;
                for node in self.table.nodes.keys().filter(|node| !self.silent.contains(node)) {
                    self.last_ok.insert(*node, now);
                    self.standing.lag.insert(*node, Some(0));
                }
                let last_ok = |node: NodeId| self.last_ok.get(&node).copied();
                let decided =
                    self.voters.decide(NodeId(1), &self.standing, &self.table, last_ok, now);
                let Some(change) = decided else { continue };
                self.changes.push((self.seconds, change.clone()));
                self.voters.changed(now);
                match change {
                    GroupChange::AddLearner { node, .. } => {
                        self.standing.learners.insert(node);
                    }
                    GroupChange::SetVoters(voters) => {
                        let all = self.standing.voters.union(&self.standing.learners);
                        let all: BTreeSet<NodeId> = all.copied().collect();
                        assert!(voters.is_subset(&all) && !voters.is_empty());
                        self.standing.learners = all.difference(&voters).copied().collect();
                        self.standing.voters = voters;
                        self.standing.is_changing = false;
                    }
                    GroupChange::RemoveLearner(node) => {
                        self.standing.learners.remove(&node);
                    }
                }
            }
            self
        }

        fn data(count: u64) -> Cluster {
            Cluster::of(&(1..=count).map(|node| (node, Role::Data)).collect::<Vec<_>>())
        }

        fn propose(&mut self, entry: Entry) {
            assert!(apply(&mut self.table, 99, &entry).is_success());
        }
    }

    #[test]
    fn one_three_or_five_vote_and_then_it_is_quiet() {
        for (nodes, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (8, 5)] {
            let mut cluster = Cluster::data(nodes);
            cluster.run(120);
            assert_eq!(cluster.standing.voters.len(), voters, "{nodes} nodes");
            assert!(cluster.standing.voters.contains(&NodeId(1)), "the leader stays");
            assert_eq!(cluster.standing.learners.len() as u64, nodes - voters as u64);
            let sets =
                |(_, change): &&(u64, GroupChange)| matches!(change, GroupChange::SetVoters(_));
            let first = cluster.changes.iter().find(sets).map(|(at, _)| *at);
            let is_paused = |pair: &[(u64, GroupChange)]| {
                let pause = if Some(pair[1].0) == first { 1 } else { 5 };
                let is_voters = matches!(pair[1].1, GroupChange::SetVoters(_));
                !is_voters || pair[1].0 - pair[0].0 >= pause
            };
            assert!(cluster.changes.windows(2).all(is_paused), "{:?}", cluster.changes);
            let changes = cluster.changes.len();
            assert_eq!(cluster.run(600).changes.len(), changes, "a quiet cluster stays as it is");
        }
    }

    #[test]
    fn three_nodes_vote_within_moments_of_the_last_one_and_in_one_change() {
        let mut cluster = Cluster::data(3);
        cluster.run(6);
        assert_eq!(cluster.standing.voters, ids(&[1, 2, 3]));
        let is_voters =
            |(_, change): &&(u64, GroupChange)| matches!(change, GroupChange::SetVoters(_));
        assert_eq!(cluster.changes.iter().filter(is_voters).count(), 1, "{:?}", cluster.changes);
        // Who is behind does not vote, however long it stays so.
        let mut cluster = Cluster::data(3);
        cluster.silent = ids(&[3]);
        cluster.standing.lag.insert(NodeId(3), Some(LAG_MAX + 1));
        assert_eq!(cluster.run(20).standing.voters, ids(&[1]));
    }

    /// A dead learner of a quiet cluster lacks nothing. It became a voter with the third node, and
    /// the loss of one more ended the quorum.
    #[test]
    fn who_is_down_or_silent_does_not_become_a_voter_until_it_answers_again() {
        let again = announcement(Role::Data);
        for is_known in [true, false] {
            let mut cluster = Cluster::data(2);
            cluster.run(20).silent = ids(&[2]);
            if is_known {
                let incarnation = Incarnation(1);
                cluster.propose(Entry::NodeDown { node: NodeId(2), incarnation });
            }
            let announcement = announcement(Role::Witness);
            cluster.propose(Entry::NodeJoin { node: NodeId(3), announcement });
            assert_eq!(cluster.run(10).standing.voters, ids(&[1]));
            assert_eq!(cluster.standing.lag[&NodeId(2)], Some(0));
            cluster.silent.clear();
            let (replaces, announcement) = (Incarnation(1), again.clone());
            cluster.propose(Entry::NodeUp { node: NodeId(2), replaces, announcement });
            assert_eq!(cluster.run(3).standing.voters, ids(&[1, 2, 3]));
        }
    }

    #[test]
    fn two_nodes_and_a_witness_have_three_voters_and_a_witness_comes_first() {
        let mut cluster = Cluster::of(&[(1, Role::Data), (2, Role::Data), (3, Role::Witness)]);
        assert_eq!(cluster.run(120).standing.voters, ids(&[1, 2, 3]));
        let nodes = [Role::Data, Role::Data, Role::Data, Role::Witness];
        let mut cluster = Cluster::of(&(1..).zip(nodes).collect::<Vec<_>>());
        assert!(cluster.run(120).standing.voters.contains(&NodeId(4)));
    }

    #[test]
    fn a_voter_that_stays_silent_is_replaced_and_a_restart_changes_nothing() {
        let mut cluster = Cluster::data(4);
        assert_eq!(cluster.run(120).standing.voters, ids(&[1, 2, 3]));
        cluster.silent.insert(NodeId(2));
        assert_eq!(cluster.run(29).standing.voters, ids(&[1, 2, 3]));
        assert_eq!(cluster.run(10).standing.voters, ids(&[1, 3, 4]));
        cluster.silent.clear();
        assert_eq!(cluster.run(60).standing.voters, ids(&[1, 3, 4]), "no change back");
        let mut cluster = Cluster::data(3);
        cluster.run(120).silent.insert(NodeId(2));
        assert_eq!(cluster.run(600).standing.voters, ids(&[1, 2, 3]), "nobody to replace it");
    }

    #[test]
    fn a_leaving_node_is_replaced_as_voter_and_goes_when_it_is_forgotten() {
        let mut cluster = Cluster::data(4);
        cluster.run(120).propose(Entry::NodeLeaving { node: NodeId(1) });
        cluster.run(20);
        assert_eq!(cluster.standing.voters, ids(&[2, 3, 4]), "also the leader");
        let mut cluster = Cluster::data(2);
        cluster.run(60).propose(Entry::NodeLeaving { node: NodeId(1) });
        assert_eq!(cluster.run(20).standing.voters, ids(&[2]));
        let mut cluster = Cluster::data(3);
        cluster.run(120).table.nodes.remove(&NodeId(3));
        cluster.run(20);
        assert_eq!(cluster.standing.voters, ids(&[1]));
        assert_eq!(cluster.standing.learners, ids(&[2]));
    }

    #[test]
    fn who_is_no_member_any_more_is_removed_when_it_has_ended_or_had_time_to() {
        for (ends, within) in [(true, 1..=3), (false, 10..=12)] {
            let mut cluster = Cluster::data(2);
            cluster.run(60).table.nodes.remove(&NodeId(2));
            while cluster.standing.learners == ids(&[2]) {
                assert!(cluster.seconds < 80);
                if !ends {
                    cluster.last_ok.insert(NodeId(2), cluster.clock.after(STEP));
                }
                cluster.run(1);
            }
            let removed = GroupChange::RemoveLearner(NodeId(2));
            assert_eq!(cluster.changes.last().unwrap().1, removed);
            assert!(within.contains(&(cluster.seconds - 60)), "{} s", cluster.seconds - 60);
        }
    }

    #[test]
    fn a_change_that_another_leader_began_is_completed() {
        let mut cluster = Cluster::data(3);
        cluster.run(120).standing.is_changing = true;
        cluster.run(10);
        assert!(!cluster.standing.is_changing);
        assert_eq!(cluster.standing.voters, ids(&[1, 2, 3]));
    }
}
