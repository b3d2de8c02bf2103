//! Random histories, and the situations that the protocol is made for.

use proptest::prelude::*;

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

#[test]
fn a_lone_owner_that_restarts_stays_the_owner_in_a_new_epoch() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    let (before, late) = (cluster.first().epoch, cluster.entry(JOIN));
    cluster.restart(0, 100);
    assert_eq!(cluster.first().primary, Some(NodeId(0)));
    assert_eq!(cluster.first().epoch, Epoch(before.0 + 1));
    assert_eq!(cluster.apply(&late), Outcome::Refused(Refusal::MoveCancelled(MOVE)));
}

#[test]
fn a_source_that_dies_while_the_target_is_in_sync_is_replaced_by_it() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(JOIN);
    let late = cluster.entry(SWITCH);
    assert_eq!(cluster.refused(promote(1)), Refusal::PrimaryUp(NodeId(0)));
    cluster.down(0);
    cluster.change(promote(1));
    assert_eq!(cluster.first().isr, [NodeId(1)]);
    assert!(!cluster.apply(&late).is_success());
    cluster.restart(0, 100);
    assert_eq!(cluster.first().primary, Some(NodeId(1)));
}

#[test]
fn a_promotion_that_was_proposed_before_the_primary_came_back_does_nothing() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(JOIN);
    cluster.down(0);
    let late = cluster.entry(promote(1));
    cluster.ok(cluster.up(0, 0));
    assert!(!cluster.apply(&late).is_success());
    // It has a new lease by now, and is taken for down once more.
    cluster.down(0);
    let outcome = cluster.apply(&late);
    assert!(matches!(outcome, Outcome::Refused(Refusal::EpochMismatch { .. })), "{outcome:?}");
    cluster.change(promote(1));
}

#[test]
fn a_primary_that_is_down_is_waited_for_although_its_replica_restarted() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(JOIN);
    cluster.down(0);
    cluster.restart(1, 101);
    assert!(cluster.first().recovering);
    assert_eq!(cluster.first().primary, Some(NodeId(0)), "its lease may not be over");
    let mut replaced = Cluster { state: cluster.state.clone() };
    cluster.ok(cluster.up(0, 0));
    assert_eq!(cluster.first().isr, [NodeId(0)]);
    assert!(!cluster.first().recovering);
    replaced.change(promote(1));
    assert_eq!(replaced.first().isr, [NodeId(1)]);
}

#[test]
fn what_an_earlier_process_has_sent_does_not_take_the_partitions_of_the_present_one() {
    let mut cluster = Cluster::of(2, 1);
    cluster.begin();
    cluster.change(JOIN);
    let late = cluster.up(0, 50);
    cluster.restart(0, 100);
    cluster.change(promote(1));
    let (node, current) = (NodeId(0), Incarnation(100));
    let stale = Outcome::Refused(Refusal::StaleIncarnation { node, current });
    assert_eq!(cluster.apply(&late), stale);
}

#[test]
fn after_a_restart_of_all_the_whole_set_waits_until_one_is_chosen() {
    let mut cluster = Cluster::of(3, 1);
    cluster.begin();
    cluster.change(JOIN);
    cluster.down(0);
    cluster.down(1);
    cluster.restart(0, 100);
    assert!(cluster.first().recovering);
    cluster.restart(1, 101);
    assert_eq!(cluster.first().isr, [NodeId(0), NodeId(1)]);
    assert_eq!(cluster.state.serving_owner(PartitionId(0)), None);
    assert_eq!(cluster.refused(promote(2)), Refusal::NotInSync(NodeId(2)));
    assert_eq!(
        cluster.refused(Change::AssignEmpty { to: NodeId(2) }),
        Refusal::CopyExists(NodeId(0))
    );
    cluster.change(promote(1));
    assert_eq!(cluster.first().isr, [NodeId(1)]);
    assert!(!cluster.first().recovering);
}

#[test]
fn a_lost_partition_is_given_up_only_when_that_is_said() {
    let mut cluster = Cluster::of(2, 1);
    cluster.down(0);
    assert_eq!(cluster.refused(promote(1)), Refusal::NotInSync(NodeId(1)));
    cluster.change(Change::AssignEmpty { to: NodeId(1) });
    cluster.restart(0, 100);
    cluster.down(1);
    cluster.change(Change::Promote { to: NodeId(0), unclean: true });
    assert_eq!(cluster.first().isr, [NodeId(0)]);
}

#[test]
fn a_node_leaves_when_it_has_nothing_left_and_remembers_that_it_was_leaving() {
    let mut cluster = Cluster::of(2, 1);
    let (zero, one) = (NodeId(0), NodeId(1));
    let forget = |node| Entry::NodeForget { node };
    assert_eq!(cluster.apply(&forget(one)), Outcome::Refused(Refusal::NotLeaving(one)));
    cluster.ok(Entry::NodeLeaving { node: zero });
    let left = Refusal::StillHolds { node: zero, partition: PartitionId(0) };
    assert_eq!(cluster.apply(&forget(zero)), Outcome::Refused(left));
    let last = Outcome::Refused(Refusal::LastDataNode(one));
    cluster.begin();
    assert_eq!(cluster.apply(&Entry::NodeLeaving { node: one }), last);
    cluster.down(0);
    cluster.restart(0, 100);
    assert_eq!(cluster.state.nodes[&zero].status, Status::Leaving);
    let move_id = MoveId(2);
    cluster.change(begin_as(move_id, 1, Then::BecomePrimary, Some(zero)));
    cluster.change(Change::JoinIsr { move_id });
    let sequence = StreamSequence(1);
    cluster.change(Change::Switch { move_id, from: zero, to: one, sequence });
    cluster.change(Change::ShrinkIsr { remove: zero });
    cluster.ok(forget(zero));
    assert_eq!(cluster.state.nodes.len(), 1);
}

#[test]
fn a_second_node_with_the_same_id_is_refused() {
    let mut cluster = Cluster::of(2, 1);
    let (node, incarnation) = (NodeId(1), Incarnation(1));
    let entry = Entry::NodeJoin { node, announcement: announce(50) };
    let known = Outcome::Refused(Refusal::NodeKnown { node, incarnation });
    assert_eq!(cluster.apply(&entry), known);
    let other = Entry::Create { cluster: ClusterId(8), node, announcement: announce(1) };
    let exists = Outcome::Refused(Refusal::ClusterExists(CLUSTER));
    assert_eq!(cluster.apply(&other), exists);
}

#[test]
fn announcements_and_the_number_of_members_are_bounded() {
    let mut cluster = Cluster::of(limits::NODES_MAX as u64, 1);
    let node = NodeId(9999);
    let entry = Entry::NodeJoin { node, announcement: announce(1) };
    assert_eq!(cluster.apply(&entry), Outcome::Refused(Refusal::TooManyNodes));
    let zone = "z".repeat(limits::ANNOUNCED_BYTES_MAX + 1);
    let announcement = Announcement { zone, ..announce(1) };
    let (node, replaces) = (NodeId(1), Incarnation(1));
    let entry = Entry::NodeUp { node, replaces, announcement };
    assert_eq!(cluster.apply(&entry), Outcome::Refused(Refusal::AnnouncementTooLong));
}

#[test]
fn nothing_happens_before_the_cluster_is_created() {
    let mut state = State::new();
    let entry = Entry::NodeJoin { node: NodeId(1), announcement: announce(1) };
    assert_eq!(apply(&mut state, 5, &entry), Outcome::Refused(Refusal::NoCluster));
    assert_eq!(state, State { version: 5, ..State::new() });
}

#[test]
fn bytes_that_are_no_table_are_refused() {
    let state = Cluster::of(3, PARTITIONS).state;
    let bytes = state.encode().unwrap();
    assert_eq!(State::decode(&bytes), Ok(state.clone()));
    assert_eq!(State::decode(&[]), Err(SnapshotError::Empty));
    assert_eq!(State::decode(&[9, 1, 2]), Err(SnapshotError::UnknownFormat(9)));
    for cut in 1..bytes.len() {
        assert!(State::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(State::decode(&longer).is_err());
    let mut wrong = state;
    wrong.partitions[3].primary = Some(NodeId(1));
    let error = State::decode(&wrong.encode().unwrap()).unwrap_err();
    assert!(error.to_string().contains("partition 3: its primary"), "{error}");
    let few = Cluster::of(1, 2).state.encode().unwrap();
    assert!(State::decode(&few).is_err());
}

/// What a random entry is made from: small numbers, read in the light of the state that it meets,
/// so that most entries have a chance.
#[derive(Debug, Clone, Copy)]
struct Dice {
    kind: u8,
    node: u64,
    other: u64,
    partition: u16,
    stale: bool,
    flag: bool,
}

/// The kind of an entry that takes a move one step further.
const STEP: u8 = 16;

fn dice() -> impl Strategy<Value = Dice> {
    let stale = prop_oneof![9 => Just(false), 1 => Just(true)];
    // Moves get on more often than members come and go, so many of them come to an end.
    let kind = prop_oneof![2 => 0..6u8, 3 => 6..16u8, 4 => Just(STEP)];
    (kind, 0..5u64, 0..5u64, 0..3u16, stale, any::<bool>()).prop_map(
        |(kind, node, other, partition, stale, flag)| Dice {
            kind,
            node,
            other,
            partition,
            stale,
            flag,
        },
    )
}

impl Dice {
    fn entry(self, state: &State, fresh: u64) -> Entry {
        let Dice { kind, partition, stale, flag, .. } = self;
        let node = NodeId(self.node);
        let known = state.nodes.get(&node).map(|member| member.incarnation.0);
        let present = if stale { fresh } else { known.unwrap_or(fresh) };
        let role = if self.node == 4 { Role::Witness } else { Role::Data };
        let announce = |incarnation| Announcement { role, ..announce(incarnation) };
        match kind {
            0 => Entry::Create { cluster: CLUSTER, node, announcement: announce(present) },
            1 => Entry::NodeJoin { node, announcement: announce(present) },
            2 | 3 => {
                let replaces = Incarnation(if flag { present } else { known.unwrap_or(fresh) });
                let announcement = announce(if kind == 2 { present } else { fresh });
                Entry::NodeUp { node, replaces, announcement }
            }
            4 => Entry::NodeDown { node, incarnation: Incarnation(present) },
            5 if flag && self.other == 0 => Entry::NodeLeaving { node },
            5 => Entry::NodeForget { node },
            _ => {
                let Some(at) = state.partition(PartitionId(partition)) else {
                    return Entry::NodeForget { node };
                };
                let expect_epoch = Epoch(at.epoch.0.saturating_sub(stale.into()));
                let change = self.change(at, Incarnation(present), fresh);
                Entry::Partition { partition: PartitionId(partition), expect_epoch, change }
            }
        }
    }

    fn change(self, partition: &Partition, incarnation: Incarnation, fresh: u64) -> Change {
        let target = NodeId(self.node);
        let move_id = match (self.stale, partition.joining, partition.ended) {
            (false, Some(joining), _) => joining.move_id,
            (_, _, Some(ended)) => ended.move_id,
            _ => MoveId(fresh),
        };
        let to = partition.joining.map_or(target, |joining| joining.node);
        let from = partition.primary.unwrap_or(target);
        let copies = partition.isr.len().max(1);
        let other = partition.isr.get(self.other as usize % copies).copied().unwrap_or(target);
        if let Some(step) = self.step(partition).filter(|_| self.kind == STEP) {
            return step;
        }
        match self.kind {
            6..=8 | STEP => {
                let then = if self.flag { Then::BecomePrimary } else { Then::Replica };
                let drop = match self.other {
                    0 => None,
                    1 => Some(target),
                    _ => Some(other),
                };
                let move_id = MoveId(fresh);
                Change::BeginMove { move_id, target, incarnation, then, drop }
            }
            9 | 10 => Change::JoinIsr { move_id },
            11 => Change::ShrinkIsr { remove: if self.flag { from } else { other } },
            12 => Change::Switch { move_id, from, to, sequence: StreamSequence(fresh) },
            13 => Change::CancelMove { move_id },
            14 => {
                let to = if self.flag { other } else { target };
                Change::Promote { to, unclean: self.other == 0 }
            }
            _ => Change::AssignEmpty { to: target },
        }
    }

    /// What the primary would propose next.
    fn step(self, partition: &Partition) -> Option<Change> {
        let Joining { node: to, move_id, phase, drop, then, .. } = partition.joining?;
        let (from, sequence) = (partition.primary?, StreamSequence(1));
        let is_handover =
            then == Then::BecomePrimary && drop == Some(from) && partition.isr == [from];
        Some(match phase {
            MovePhase::Copying if is_handover && self.flag => {
                Change::Switch { move_id, from, to, sequence }
            }
            MovePhase::Copying => Change::JoinIsr { move_id },
            MovePhase::InSync => Change::Switch { move_id, from, to, sequence },
            MovePhase::Dropping => Change::ShrinkIsr { remove: drop? },
        })
    }
}

fn started(partitions: u16) -> Cluster {
    Cluster::of(4, partitions)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_entries_keep_the_invariants_and_a_repetition_changes_nothing(
        steps in prop::collection::vec(dice(), 0..120),
    ) {
        let mut cluster = started(3);
        for (at, step) in steps.into_iter().enumerate() {
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            if cluster.apply(&entry) == Outcome::Applied {
                prop_assert_ne!(cluster.apply(&entry), Outcome::Applied, "{:?}", entry);
            }
        }
    }

    #[test]
    fn entries_from_any_earlier_time_keep_the_invariants(
        steps in prop::collection::vec((dice(), any::<prop::sample::Index>()), 1..120),
    ) {
        let mut cluster = started(3);
        let mut history = Vec::new();
        for (at, (step, late)) in steps.into_iter().enumerate() {
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            cluster.apply(&entry);
            history.push(entry);
            cluster.apply(&history[late.index(history.len())].clone());
        }
    }

    #[test]
    fn a_log_without_a_beginning_or_with_holes_keeps_the_invariants(
        steps in prop::collection::vec((dice(), any::<bool>()), 0..60),
    ) {
        let mut cluster = Cluster { state: State::with_partitions(3) };
        for (at, (step, is_kept)) in steps.into_iter().enumerate() {
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            if is_kept {
                cluster.apply(&entry);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_and_the_rest_of_the_log_give_what_the_whole_log_gives(
        steps in prop::collection::vec(dice(), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut cluster = started(PARTITIONS);
        let mut log = Vec::new();
        let mut snapshot = (cluster.state.encode().unwrap(), 0);
        let cut = cut.index(steps.len() + 1);
        for (at, step) in steps.into_iter().enumerate() {
            if at == cut {
                snapshot = (cluster.state.encode().unwrap(), log.len());
            }
            let entry = step.entry(&cluster.state, 1000 + at as u64);
            cluster.apply(&entry);
            log.push((cluster.state.version, entry));
        }
        let (bytes, from) = snapshot;
        let mut restored = State::decode(&bytes).unwrap();
        for (index, entry) in &log[from..] {
            apply(&mut restored, *index, entry);
        }
        prop_assert_eq!(restored, cluster.state);
    }
}
