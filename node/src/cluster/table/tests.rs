//! The situations that the protocol is made for: here those of moves.

mod histories;
mod members;

use super::*;
use crate::keyspace::location::partition_of;

const CLUSTER: ClusterId = ClusterId(7);

fn announce(incarnation: u64) -> Announcement {
    let addresses = NodeAddresses { bus: "h:12050".into(), ..NodeAddresses::default() };
    let incarnation = Incarnation(incarnation);
    Announcement { incarnation, addresses, zone: String::new(), weight: 100, role: Role::Data }
}

/// A cluster whose log is written by the test.
struct Cluster {
    state: State,
}

impl Cluster {
    /// Nodes `0..nodes`, each with its number as incarnation; node 0 owns everything.
    fn of(nodes: u64, partitions: u16) -> Self {
        let mut cluster = Cluster { state: State::with_partitions(partitions) };
        let announcement = announce(0);
        cluster.ok(Entry::Create { cluster: CLUSTER, node: NodeId(0), announcement });
        for node in 1..nodes {
            cluster.ok(Entry::NodeJoin { node: NodeId(node), announcement: announce(node) });
        }
        cluster
    }

    fn apply(&mut self, entry: &Entry) -> Outcome {
        let before = self.state.clone();
        let outcome = apply(&mut self.state, before.version + 1, entry);
        check_invariants(&self.state).unwrap_or_else(|error| panic!("{entry:?}: {error}"));
        check_transition(&before, &self.state).unwrap_or_else(|e| panic!("{entry:?}: {e}"));
        if let Entry::Partition { partition, change, .. } = entry
            && outcome == Outcome::Applied
        {
            let at = usize::from(partition.0);
            check_copies(*change, &before.partitions[at], &self.state.partitions[at]);
        }
        if outcome != Outcome::Applied {
            let version = self.state.version;
            assert_eq!(self.state, State { version, ..before }, "{entry:?}: {outcome:?}");
        }
        outcome
    }

    #[track_caller]
    fn ok(&mut self, entry: Entry) {
        assert_eq!(self.apply(&entry), Outcome::Applied, "{entry:?}");
        assert_ne!(self.apply(&entry), Outcome::Applied, "{entry:?} a second time");
    }

    fn first(&self) -> &Partition {
        &self.state.partitions[0]
    }

    /// A change of the first partition, in its present epoch.
    fn entry(&self, change: Change) -> Entry {
        Entry::Partition { partition: PartitionId(0), expect_epoch: self.first().epoch, change }
    }

    #[track_caller]
    fn change(&mut self, change: Change) {
        self.ok(self.entry(change));
    }

    #[track_caller]
    fn refused(&mut self, change: Change) -> Refusal {
        match self.apply(&self.entry(change)) {
            Outcome::Refused(refusal) => refusal,
            outcome => panic!("{change:?}: {outcome:?}"),
        }
    }

    /// Node 1 is to take the first partition from node 0.
    fn begin(&mut self) {
        self.change(begin(1));
    }

    /// The same by another move, to the process that node 1 has by now.
    fn begin_again(&mut self, move_id: MoveId) {
        let Change::BeginMove { target, then, drop, .. } = begin(1) else { unreachable!() };
        let incarnation = self.state.nodes[&target].incarnation;
        self.change(Change::BeginMove { move_id, target, incarnation, then, drop });
    }

    fn restart(&mut self, node: u64, incarnation: u64) {
        let entry = self.up(node, incarnation);
        self.ok(entry);
    }

    /// A process of a node announces itself, and knows what the table has for the node.
    fn up(&self, node: u64, incarnation: u64) -> Entry {
        let (node, announcement) = (NodeId(node), announce(incarnation));
        Entry::NodeUp { node, replaces: self.state.nodes[&node].incarnation, announcement }
    }

    fn down(&mut self, node: u64) {
        let incarnation = self.state.nodes[&NodeId(node)].incarnation;
        self.ok(Entry::NodeDown { node: NodeId(node), incarnation });
    }
}

/// Who is in the in-sync set behind a step of a move, and who is not.
fn check_copies(change: Change, before: &Partition, after: &Partition) {
    match change {
        Change::Switch { from, to, .. } if before.isr.contains(&to) => {
            assert_eq!(before.isr, after.isr, "all copies stay");
            assert!(after.isr.contains(&from));
        }
        Change::Switch { from, to, .. } => {
            assert_eq!((&before.isr[..], &after.isr[..]), (&[from][..], &[to][..]), "handed over");
            assert_eq!((after.joining, after.recovering), (None, false));
        }
        Change::JoinIsr { .. } => assert!(after.isr.starts_with(&before.isr)),
        _ => assert!(before.isr == after.isr || before.epoch < after.epoch),
    }
}

const MOVE: MoveId = MoveId(1);
const JOIN: Change = Change::JoinIsr { move_id: MOVE };
const CANCEL: Change = Change::CancelMove { move_id: MOVE };
const SWITCH: Change =
    Change::Switch { move_id: MOVE, from: NodeId(0), to: NodeId(1), sequence: StreamSequence(9) };

fn begin(target: u64) -> Change {
    begin_as(MOVE, target, Then::BecomePrimary, Some(NodeId(0)))
}

fn begin_as(move_id: MoveId, target: u64, then: Then, drop: Option<NodeId>) -> Change {
    let (target, incarnation) = (NodeId(target), Incarnation(target));
    Change::BeginMove { move_id, target, incarnation, then, drop }
}

fn promote(to: u64) -> Change {
    Change::Promote { to: NodeId(to), unclean: false }
}

#[test]
fn the_first_node_owns_all_slots() {
    let cluster = Cluster::of(1, PARTITIONS);
    for slot in 0..distcache_protocol::slot::SLOTS {
        assert_eq!(cluster.state.serving_owner(partition_of(slot)), Some(NodeId(0)));
    }
    assert_eq!(cluster.state.serving_owner(PartitionId(PARTITIONS)), None);
}

#[test]
fn the_only_copy_is_handed_over_by_one_entry() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    let (before, switch, cancel) =
        (cluster.first().epoch, cluster.entry(SWITCH), cluster.entry(CANCEL));
    cluster.change(SWITCH);
    let first = cluster.first();
    assert_eq!((first.primary, &first.isr[..]), (Some(NodeId(1)), &[NodeId(1)][..]));
    assert_eq!((first.epoch, first.serve_from), (Epoch(before.0 + 1), StreamSequence(9)));
    assert_eq!(first.joining, None);
    assert_eq!(first.ended, Some(EndedMove { move_id: MOVE, completed: true }));
    assert_eq!(cluster.state.held_by(NodeId(0)), None);
    assert_eq!(cluster.apply(&switch), Outcome::AlreadyApplied);
    assert_eq!(cluster.apply(&cancel), Outcome::Refused(Refusal::MoveDecided(MOVE)));
    for late in [begin(1), JOIN, SWITCH] {
        assert_eq!(cluster.apply(&cluster.entry(late)), Outcome::AlreadyApplied, "{late:?}");
    }
    assert_eq!(cluster.refused(CANCEL), Refusal::MoveDecided(MOVE));
    // Nor when the target is down by then, or was restarted, and somebody asks once more.
    cluster.down(1);
    cluster.restart(1, 101);
    assert_eq!(cluster.first().primary, Some(NodeId(1)));
    assert_eq!(cluster.apply(&switch), Outcome::AlreadyApplied);
    assert_eq!(cluster.apply(&cancel), Outcome::Refused(Refusal::MoveDecided(MOVE)));
}

#[test]
fn what_is_not_the_only_copy_is_not_handed_over() {
    let switch = |move_id| {
        let (from, to) = (NodeId(0), NodeId(1));
        Change::Switch { move_id, from, to, sequence: StreamSequence(9) }
    };
    for (then, drop) in [
        (Then::BecomePrimary, None),
        (Then::Replica, None),
        (Then::BecomePrimary, Some(NodeId(2))),
        (Then::BecomePrimary, Some(NodeId(0))),
        (Then::Replica, Some(NodeId(2))),
    ] {
        let mut cluster = Cluster::of(3, 1);
        if drop.is_some() {
            let move_id = MoveId(8);
            cluster.change(begin_as(move_id, 2, Then::Replica, None));
            cluster.change(Change::JoinIsr { move_id });
        }
        cluster.change(begin_as(MOVE, 1, then, drop));
        assert_eq!(cluster.refused(switch(MOVE)), Refusal::NotReady(MOVE), "{then:?} {drop:?}");
    }
    let mut cluster = Cluster::of(3, 1);
    cluster.begin();
    let (move_id, sequence) = (MOVE, StreamSequence(9));
    for (from, to, refusal) in [
        (0, 2, Refusal::NotReady(MOVE)),
        (2, 1, Refusal::NotReady(MOVE)),
        (1, 0, Refusal::NotReady(MOVE)),
    ] {
        let (from, to) = (NodeId(from), NodeId(to));
        assert_eq!(cluster.refused(Change::Switch { move_id, from, to, sequence }), refusal);
    }
    assert_eq!(cluster.refused(switch(MoveId(2))), Refusal::NoSuchMove(MoveId(2)));
    cluster.change(SWITCH);
}

#[test]
fn a_handover_ends_undecided_when_one_of_the_two_is_down_or_restarts() {
    type Event = fn(&mut Cluster);
    let events: [(&str, Event); 6] = [
        ("source restarts", |cluster| cluster.restart(0, 100)),
        ("target restarts", |cluster| cluster.restart(1, 101)),
        ("source is down", |cluster| cluster.down(0)),
        ("target is down", |cluster| cluster.down(1)),
        ("source was down", |cluster| {
            cluster.down(0);
            cluster.ok(cluster.up(0, 0));
        }),
        ("target was down", |cluster| {
            cluster.down(1);
            cluster.ok(cluster.up(1, 1));
        }),
    ];
    for (name, event) in events {
        let mut cluster = Cluster::of(2, 1);
        cluster.begin();
        let late = cluster.entry(SWITCH);
        event(&mut cluster);
        let first = cluster.first();
        assert_eq!((first.primary, &first.isr[..]), (Some(NodeId(0)), &[NodeId(0)][..]), "{name}");
        assert_eq!(first.ended, Some(EndedMove { move_id: MOVE, completed: false }), "{name}");
        assert_eq!(
            cluster.apply(&late),
            Outcome::Refused(Refusal::MoveCancelled(MOVE)),
            "{name}: the move is over"
        );
        // Nor does it decide a later move: neither the epoch nor the id is that one's.
        for node in [0, 1] {
            let present = cluster.state.nodes[&NodeId(node)].incarnation.0;
            cluster.apply(&cluster.up(node, present));
        }
        cluster.begin_again(MoveId(2));
        assert_eq!(cluster.refused(SWITCH), Refusal::MoveCancelled(MOVE), "{name}");
        cluster.change(Change::CancelMove { move_id: MoveId(2) });
        cluster.begin_again(MoveId(3));
        let outcome = cluster.apply(&late);
        assert!(matches!(outcome, Outcome::Refused(Refusal::EpochMismatch { .. })), "{outcome:?}");
        assert_eq!(cluster.refused(SWITCH), Refusal::NoSuchMove(MOVE), "{name}");
    }
}

#[test]
fn a_handover_that_was_decided_holds_whatever_becomes_of_the_two() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(SWITCH);
    let epoch = cluster.first().epoch;
    cluster.restart(0, 100);
    assert_eq!(cluster.first().epoch, epoch, "the former source has no part in it any more");
    // It had restarted before the switch was committed: it has all of it on its disk.
    cluster.restart(1, 101);
    let first = cluster.first();
    assert_eq!((first.primary, &first.isr[..]), (Some(NodeId(1)), &[NodeId(1)][..]));
    assert!(first.epoch > epoch && !first.recovering);
    cluster.down(1);
    assert_eq!(cluster.refused(promote(0)), Refusal::NotInSync(NodeId(0)));
    assert_eq!(cluster.state.serving_owner(PartitionId(0)), None);
    cluster.ok(cluster.up(1, 101));
    assert_eq!(cluster.state.serving_owner(PartitionId(0)), Some(NodeId(1)));
}

/// A target may see the table before the handover, then the one behind all of this: it must not
/// take what it has received for the rest of a move that came to nothing.
#[test]
fn that_a_primary_came_by_a_switch_is_known_whichever_move_ended_last() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(SWITCH);
    let (move_id, back) = (MoveId(2), Some(NodeId(1)));
    cluster.change(begin_as(move_id, 0, Then::BecomePrimary, back));
    cluster.down(0);
    let first = cluster.first();
    assert_eq!(first.ended, Some(EndedMove { move_id, completed: false }));
    assert_eq!((first.primary, first.serve_from), (back, StreamSequence(9)));
    cluster.restart(1, 101);
    assert_eq!(cluster.first().serve_from, StreamSequence(9));
    cluster.down(1);
    cluster.restart(0, 100);
    cluster.change(Change::AssignEmpty { to: NodeId(0) });
    assert_eq!(cluster.first().serve_from, StreamSequence(0), "nobody has sent it anything");
}

#[test]
fn one_copy_of_several_moves_and_the_old_one_is_dropped_last() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(JOIN);
    assert_eq!(cluster.first().isr, [NodeId(0), NodeId(1)]);
    assert_eq!(cluster.first().primary, Some(NodeId(0)));
    cluster.change(SWITCH);
    assert_eq!(cluster.first().primary, Some(NodeId(1)));
    assert_eq!(cluster.first().serve_from, StreamSequence(9));
    assert_eq!(cluster.refused(CANCEL), Refusal::MoveDecided(MOVE));
    cluster.change(Change::ShrinkIsr { remove: NodeId(0) });
    assert_eq!(cluster.first().isr, [NodeId(1)]);
    assert_eq!(cluster.first().joining, None);
    assert_eq!(cluster.state.held_by(NodeId(0)), None);
    for late in [begin(1), JOIN, SWITCH] {
        assert_eq!(cluster.apply(&cluster.entry(late)), Outcome::AlreadyApplied, "{late:?}");
    }
    assert_eq!(cluster.refused(CANCEL), Refusal::MoveDecided(MOVE));
}

#[test]
fn a_switch_that_comes_behind_the_cancellation_does_nothing() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(JOIN);
    let late = cluster.entry(SWITCH);
    cluster.change(CANCEL);
    assert_eq!(cluster.first().isr, [NodeId(0)]);
    assert_eq!(cluster.apply(&late), Outcome::Refused(Refusal::MoveCancelled(MOVE)));
    assert_eq!(cluster.refused(JOIN), Refusal::MoveCancelled(MOVE));
    let mut handover = Cluster::of(2, 1);
    handover.begin();
    let late = handover.entry(SWITCH);
    handover.change(CANCEL);
    assert_eq!(handover.apply(&late), Outcome::Refused(Refusal::MoveCancelled(MOVE)));
    assert_eq!(handover.refused(SWITCH), Refusal::MoveCancelled(MOVE), "nor in this epoch");
}

#[test]
fn a_move_to_a_replica_needs_no_copy_and_its_cancellation_keeps_the_replica() {
    let mut cluster = Cluster::of(2, 1);
    cluster.change(begin_as(MOVE, 1, Then::Replica, None));
    cluster.change(JOIN);
    assert_eq!(cluster.first().joining, None);
    let move_id = MoveId(2);
    cluster.change(begin_as(move_id, 1, Then::BecomePrimary, None));
    cluster.change(Change::CancelMove { move_id });
    assert_eq!(cluster.first().isr, [NodeId(0), NodeId(1)]);
    let (move_id, from, to) = (MoveId(3), NodeId(0), NodeId(1));
    cluster.change(begin_as(move_id, 1, Then::BecomePrimary, None));
    cluster.change(Change::Switch { move_id, from, to, sequence: StreamSequence(1) });
    assert_eq!(cluster.first().primary, Some(to));
    assert_eq!(cluster.first().isr, [NodeId(0), NodeId(1)]);
}

#[test]
fn moves_go_only_to_members_that_can_hold_data_and_run_as_announced() {
    let mut cluster = Cluster::of(5, 1);
    let witness = Announcement { role: Role::Witness, ..announce(9) };
    cluster.ok(Entry::NodeJoin { node: NodeId(9), announcement: witness });
    cluster.ok(Entry::NodeLeaving { node: NodeId(2) });
    cluster.down(3);
    cluster.restart(4, 40);
    assert_eq!(cluster.refused(begin(0)), Refusal::IsPrimary(NodeId(0)));
    for node in [2, 3, 9] {
        assert_eq!(cluster.refused(begin(node)), Refusal::TakesNoPartitions(NodeId(node)));
    }
    let (node, current) = (NodeId(4), Incarnation(40));
    assert_eq!(cluster.refused(begin(4)), Refusal::StaleIncarnation { node, current });
    assert_eq!(cluster.refused(begin(8)), Refusal::UnknownNode(NodeId(8)));
    let itself = begin_as(MOVE, 1, Then::BecomePrimary, Some(NodeId(1)));
    assert_eq!(cluster.refused(itself), Refusal::CannotDrop(NodeId(1)));
    cluster.begin();
    let change = begin_as(MoveId(2), 1, Then::BecomePrimary, Some(NodeId(0)));
    assert_eq!(cluster.refused(change), Refusal::MoveUnderWay(MOVE));
}
