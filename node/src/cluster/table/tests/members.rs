//! Nodes that go down, restart, leave and come.

use super::*;

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
