//! The leader's duties on the real table, with moves that succeed and fail.

use std::collections::BTreeSet;

use super::*;
use crate::cluster::table::{
    Announcement, Change, ClusterId, MovePhase, NodeAddresses, Partition, StreamSequence, apply,
};

const STEP: Duration = Duration::from_millis(100);

/// A cluster as its leader, node 1, sees it.
struct Cluster {
    table: State,
    standing: Standing,
    reported: Reported,
    silent: BTreeSet<NodeId>,
    /// Nodes that answer, but have applied nothing of late.
    behind: BTreeSet<NodeId>,
    driver: Driver,
    clock: Ticks,
    /// When nodes last answered.
    last_ok: BTreeMap<NodeId, Ticks>,
    moves: u64,
}

fn announcement(incarnation: u64) -> Announcement {
    Announcement {
        incarnation: Incarnation(incarnation),
        addresses: NodeAddresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    }
}

impl Cluster {
    fn of(nodes: u64) -> Cluster {
        let clock = Ticks::now();
        let mut table = State::new();
        let standing = Standing {
            leader: Some(NodeId(1)),
            claims_lead: true,
            term: 1,
            quorum_silence: None,
            voters: BTreeSet::from([NodeId(1)]),
            is_changing: false,
            learners: BTreeSet::new(),
            lag: BTreeMap::new(),
            applied: None,
            failure: None,
        };
        let (cluster, node) = (ClusterId(1), NodeId(1));
        apply(&mut table, 1, &Entry::Create { cluster, node, announcement: announcement(1) });
        let driver = Driver::new(&table, PlanLimits::default(), clock);
        let (reported, silent, last_ok) = (Reported::default(), BTreeSet::new(), BTreeMap::new());
        let (behind, moves) = (BTreeSet::new(), 0);
        let mut cluster =
            Cluster { table, standing, reported, silent, behind, driver, clock, last_ok, moves };
        for node in 2..=nodes {
            cluster.join(node);
        }
        cluster
    }

    fn join(&mut self, node: u64) {
        self.apply(&Entry::NodeJoin { node: NodeId(node), announcement: announcement(node) });
        self.standing.learners.insert(NodeId(node));
    }

    fn apply(&mut self, entry: &Entry) {
        let index = self.table.version + 1;
        let outcome = apply(&mut self.table, index, entry);
        assert!(outcome.is_success(), "{entry:?}: {outcome:?}");
    }

    /// One look, after a while.
    fn look(&mut self) -> Vec<Entry> {
        self.clock = self.clock.after(STEP);
        for node in self.table.nodes.keys().filter(|node| !self.silent.contains(node)) {
            self.last_ok.insert(*node, self.clock);
            let applied = if self.behind.contains(node) { 1 } else { self.table.version };
            self.reported.note(&self.table, *node, applied, &[]);
        }
        let seen = Seen {
            own: NodeId(1),
            standing: &self.standing,
            table: &self.table,
            reported: &self.reported,
            last_ok: &|node| self.last_ok.get(&node).copied(),
        };
        let moves = &mut self.moves;
        self.driver.look(&seen, self.clock, &mut || {
            *moves += 1;
            MoveId(*moves)
        })
    }

    /// Looks and lets all moves succeed, or fail, until nothing is proposed for ten seconds.
    fn settle(&mut self, succeeds: impl Fn(PartitionId) -> bool) -> u64 {
        let (before, mut quiet) = (self.moves, 0);
        for _ in 0..10_000 {
            let entries = self.look();
            quiet = if entries.is_empty() { quiet + 1 } else { 0 };
            entries.iter().for_each(|entry| self.apply(entry));
            self.finish(&succeeds);
            if quiet > 100 {
                return self.moves - before;
            }
        }
        panic!("it is never quiet");
    }

    fn finish(&mut self, succeeds: impl Fn(PartitionId) -> bool) {
        let moving: Vec<PartitionId> = self
            .table
            .numbered()
            .filter(|(_, at)| at.joining.is_some())
            .map(|(id, _)| id)
            .collect();
        for partition in moving {
            let now = |cluster: &Cluster| cluster.table.partition(partition).unwrap().clone();
            let (from, joining) = (now(self).primary.unwrap(), now(self).joining.unwrap());
            assert_eq!(joining.phase, MovePhase::Copying);
            let (move_id, to) = (joining.move_id, joining.node);
            let sequence = StreamSequence::default();
            let steps = match succeeds(partition) {
                true => vec![
                    Change::JoinIsr { move_id },
                    Change::Switch { move_id, from, to, sequence },
                    Change::ShrinkIsr { remove: from },
                ],
                false => vec![Change::CancelMove { move_id }],
            };
            for change in steps {
                let expect_epoch = now(self).epoch;
                self.apply(&Entry::Partition { partition, expect_epoch, change });
            }
        }
    }

    fn owned(&self, node: u64) -> usize {
        let primaries = self.table.partitions.iter().filter(|at| at.primary == Some(NodeId(node)));
        primaries.count()
    }
}

#[test]
fn a_node_that_joins_gets_its_share_and_then_it_is_quiet() {
    let mut cluster = Cluster::of(3);
    assert!(is_open(&cluster.table));
    assert_eq!(cluster.settle(|_| true), 682);
    assert!(!is_open(&cluster.table));
    let begun = cluster.clock;
    cluster.join(4);
    let mut looks = 0;
    while cluster.owned(4) < 256 {
        looks += 1;
        let entries = cluster.look();
        entries.iter().for_each(|entry| cluster.apply(entry));
        cluster.finish(|_| true);
    }
    // 16 at a time, after a pause in which others may join as well.
    assert!(looks <= 5 + 256 / 16 + 2, "{looks} looks since {begun:?}");
    assert_eq!(cluster.settle(|_| true), 0);
}

#[test]
fn nothing_moves_before_all_have_reported_or_while_one_is_suspect() {
    let mut cluster = Cluster::of(2);
    cluster.silent.insert(NodeId(2));
    (0..100).for_each(|_| assert_eq!(cluster.look(), [], "node 2 never answered"));
    cluster.silent.clear();
    assert_eq!(cluster.look().len(), 16);
    cluster.standing.learners.clear();
    assert_eq!(cluster.look(), [], "it does not follow the table");
    cluster.standing.learners.insert(NodeId(2));
    cluster.silent.insert(NodeId(2));
    assert_eq!(cluster.look().len(), 16, "one answer late is nothing");
    for _ in 0..5 {
        cluster.look();
    }
    assert_eq!(cluster.look(), [], "it is suspect");

    let mut reported = Reported::default();
    assert!(!reported.has_sizes_of_all(&cluster.table));
    reported.note(&cluster.table, NodeId(2), 1, &[(PartitionId(0), 9), (PartitionId(5000), 9)]);
    assert!(!reported.has_sizes_of_all(&cluster.table) && reported.bytes[0] == 0, "not its own");
    reported.note(&cluster.table, NodeId(1), 1, &[(PartitionId(0), 9)]);
    assert!(reported.has_sizes_of_all(&cluster.table) && reported.bytes[0] == 9);
}

#[test]
fn a_move_that_fails_again_and_again_is_tried_ever_less() {
    let mut cluster = Cluster::of(2);
    cluster.settle(|_| true);
    cluster.apply(&Entry::NodeLeaving { node: NodeId(2) });
    let is_second = |(_, at): &(PartitionId, &Partition)| at.primary == Some(NodeId(2));
    let stuck = cluster.table.numbered().find(is_second).unwrap().0;
    let mut tries = Vec::new();
    for _ in 0..1500 {
        for entry in cluster.look() {
            if matches!(entry, Entry::Partition { partition, .. } if partition == stuck) {
                tries.push(cluster.clock);
            }
            cluster.apply(&entry);
        }
        cluster.finish(|partition| partition != stuck);
    }
    let pauses: Vec<u64> = tries.windows(2).map(|two| two[1].since(two[0]).as_secs()).collect();
    assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 30], "{pauses:?}");
    assert!(pauses[6..].iter().all(|pause| *pause == 30), "{pauses:?}");
    assert_eq!(cluster.owned(2), 1, "the others are not held up");
}

#[test]
fn who_leaves_is_forgotten_when_it_has_nothing_and_does_not_vote() {
    let mut cluster = Cluster::of(3);
    cluster.settle(|_| true);
    cluster.apply(&Entry::NodeLeaving { node: NodeId(1) });
    assert_eq!(cluster.settle(|_| true), 342);
    assert_eq!(cluster.owned(1), 0);
    assert_eq!(cluster.table.nodes[&NodeId(1)].status, Status::Leaving, "it votes");
    assert!(is_open(&cluster.table));
    cluster.standing.voters = BTreeSet::from([NodeId(2)]);
    cluster.standing.is_changing = true;
    assert_eq!(cluster.look(), []);
    cluster.standing.is_changing = false;
    assert_eq!(cluster.look(), [Entry::NodeForget { node: NodeId(1) }], "also the leader itself");
    cluster.apply(&Entry::NodeForget { node: NodeId(1) });
    assert_eq!(cluster.look(), []);
    // One that is down and holds something stays: its disk has it.
    cluster.apply(&Entry::NodeLeaving { node: NodeId(2) });
    cluster.apply(&Entry::NodeDown { node: NodeId(2), incarnation: Incarnation(2) });
    cluster.standing.voters = BTreeSet::from([NodeId(3)]);
    assert_eq!(cluster.settle(|_| true), 0);
    assert!(cluster.table.nodes.contains_key(&NodeId(2)));
}

#[test]
fn who_leaves_is_forgotten_when_it_knows_where_its_keys_are_now() {
    let mut cluster = Cluster::of(3);
    cluster.settle(|_| true);
    cluster.apply(&Entry::NodeLeaving { node: NodeId(3) });
    cluster.behind.insert(NodeId(3));
    assert_eq!(cluster.settle(|_| true), 341);
    assert_eq!(cluster.owned(3), 0);
    assert_eq!(cluster.table.nodes[&NodeId(3)].status, Status::Leaving, "it tells what is past");
    // What others do meanwhile is not its concern.
    let empty = cluster.table.version;
    cluster.join(4);
    assert!(cluster.table.version > empty);
    cluster.reported.note(&cluster.table, NodeId(3), empty, &[]);
    cluster.silent.insert(NodeId(3));
    let forget = Entry::NodeForget { node: NodeId(3) };
    assert_eq!(cluster.look().first(), Some(&forget));
    // A node that is down tells nobody anything.
    cluster.reported.note(&cluster.table, NodeId(3), 1, &[]);
    assert_ne!(cluster.look().first(), Some(&forget));
    cluster.apply(&Entry::NodeDown { node: NodeId(3), incarnation: Incarnation(3) });
    assert_eq!(cluster.look().first(), Some(&forget));
}

#[test]
fn a_member_is_down_when_it_was_called_and_silent_for_long_enough() {
    let announcement = |incarnation| Announcement {
        incarnation: Incarnation(incarnation),
        addresses: NodeAddresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    };
    let (one, two) = (NodeId(1), NodeId(2));
    let mut table = State::new();
    let cluster = ClusterId(1);
    let create = Entry::Create { cluster, node: one, announcement: announcement(1) };
    let join = Entry::NodeJoin { node: two, announcement: announcement(7) };
    for (index, entry) in [create, join].iter().enumerate() {
        assert!(apply(&mut table, index as u64, entry).is_success());
    }
    let start = Ticks::now();
    let mut called = BTreeMap::new();
    let mut silent = |seconds: u64, others: &[NodeId], answered: Option<u64>| {
        let at = |seconds| start.after(Duration::from_secs(seconds));
        let last_ok = |_| answered.map(at);
        silent_members(&table, others.iter(), &mut called, last_ok, at(seconds))
    };
    assert_eq!(silent(100, &[], None), [], "not called yet");
    assert_eq!(silent(101, &[two], None), []);
    assert_eq!(silent(102, &[two], None), []);
    assert_eq!(silent(104, &[two], Some(103)), []);
    assert_eq!(silent(106, &[two], Some(103)), [(two, Incarnation(7))]);
    assert_eq!(silent(107, &[], Some(103)), []);
    assert_eq!(silent(108, &[two], Some(103)), [], "silence begins anew");
}

#[test]
fn a_member_that_returned_is_not_down_again_for_its_silence_before() {
    // Nodes that were killed and came back flipped between down and up, several times a second.
    let mut cluster = Cluster::of(2);
    let (one, two, start) = (NodeId(1), NodeId(2), Ticks::now());
    let mut called = BTreeMap::new();
    let mut silent = |table: &State, millis: u64, answered: u64| {
        let at = |millis| start.after(Duration::from_millis(millis));
        silent_members(table, [two].iter(), &mut called, |_| Some(at(answered)), at(millis))
    };
    assert_eq!(silent(&cluster.table, 0, 0), []);
    assert_eq!(silent(&cluster.table, 2100, 0), [(two, Incarnation(2))]);
    cluster.apply(&Entry::NodeDown { node: two, incarnation: Incarnation(2) });
    assert_eq!(silent(&cluster.table, 3000, 0), []);
    let up = |replaces, incarnation| Entry::NodeUp {
        node: two,
        replaces: Incarnation(replaces),
        announcement: announcement(incarnation),
    };
    // As the same process, and then as another one that restarted before it was seen to be down.
    cluster.apply(&up(2, 2));
    assert_eq!(silent(&cluster.table, 3100, 0), []);
    assert_eq!(silent(&cluster.table, 5000, 0), []);
    assert_eq!(silent(&cluster.table, 5101, 0), [(two, Incarnation(2))]);
    cluster.apply(&up(2, 9));
    assert_eq!(silent(&cluster.table, 5200, 0), []);
    assert_eq!(silent(&cluster.table, 7100, 0), []);
    assert_eq!(silent(&cluster.table, 7201, 0), [(two, Incarnation(9))]);
    assert_eq!(silent(&cluster.table, 7300, 7250), []);
    assert!(cluster.table.is_up(one));
}
