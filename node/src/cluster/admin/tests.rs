use super::*;
use crate::cluster::links::LEASE;
use crate::cluster::raft::CallKind;
use crate::cluster::table::{Announcement, Change, Entry, MoveId, Then, apply};

fn announcement(node: u64) -> Announcement {
    let bus = format!("127.0.0.1:{}", 12_000 + node);
    let addresses = NodeAddresses { bus, ..NodeAddresses::default() };
    let (zone, weight, role) = (String::new(), 100, Role::Data);
    Announcement { incarnation: Incarnation(node), addresses, zone, weight, role }
}

/// Node 1 has everything, and gives partition 7 to node 2.
fn two_nodes() -> State {
    let mut table = State::new();
    let change = Change::BeginMove {
        move_id: MoveId(5),
        target: NodeId(2),
        incarnation: Incarnation(2),
        then: Then::BecomePrimary,
        drop: Some(NodeId(1)),
    };
    let create =
        Entry::Create { cluster: ClusterId(9), node: NodeId(1), announcement: announcement(1) };
    let partition = PartitionId(7);
    let entries = [
        create,
        Entry::NodeJoin { node: NodeId(2), announcement: announcement(2) },
        Entry::Partition { partition, expect_epoch: crate::cluster::table::Epoch(1), change },
    ];
    for (index, entry) in (1..).zip(&entries) {
        assert!(apply(&mut table, index, entry).is_success(), "{entry:?}");
    }
    table
}

fn standing() -> Standing {
    Standing {
        leader: Some(NodeId(1)),
        claims_lead: true,
        term: 1,
        quorum_silence: None,
        voters: [NodeId(1)].into(),
        is_changing: false,
        learners: [NodeId(2)].into(),
        lag: BTreeMap::new(),
        applied: Some(3),
        failure: None,
    }
}

fn report(bytes: u64) -> Report {
    Report {
        incarnation: Incarnation(1),
        version: "0.1.0".to_owned(),
        uptime_s: 1,
        is_leased: true,
        keys: 10,
        bytes,
        clients: 2,
        given: 0,
        failed: 0,
        given_bytes: 0,
        frozen_max_us: 0,
        sending: vec![Sending { partition: PartitionId(7), sent: 30, bytes: 100 }],
    }
}

#[test]
fn the_kinds_are_nobody_elses() {
    for kind in [STATUS, REPORT, LEAVE, GIVE_UP] {
        assert_eq!(CallKind::from_number(kind.number()), None);
        assert_ne!(kind, LEASE);
    }
}

#[test]
fn a_status_says_what_moves_and_how_much_is_left() {
    let reports = BTreeMap::from([(NodeId(1), report(1024 * 100))]);
    let status = status(NodeId(2), &two_nodes(), &standing(), reports);
    assert_eq!((status.nodes[0].partitions, status.nodes[0].giving), (1024, 1));
    assert_eq!((status.nodes[1].partitions, status.nodes[1].receiving), (0, 1));
    assert!(status.nodes[0].report.is_some() && status.nodes[1].report.is_none());
    assert_eq!(status.moves.len(), 1);
    assert_eq!(status.moves_left, 511);
    assert_eq!(status.bytes_left, 511 * 100 + 70);
    assert_eq!(status.unserved, 0);
    assert_eq!(decode(&encode(&status)), Ok(status));
}

#[test]
fn a_node_that_is_down_leaves_its_partitions_unserved() {
    let mut table = two_nodes();
    let down = Entry::NodeDown { node: NodeId(1), incarnation: Incarnation(1) };
    apply(&mut table, 4, &down);
    let status = status(NodeId(2), &table, &standing(), BTreeMap::new());
    assert_eq!((status.unserved, status.bytes_left), (1024, 0));
}

/// With no majority every key was answered CLUSTERDOWN, and all partitions were said to be served.
#[test]
fn a_node_that_says_it_has_no_lease_serves_nothing() {
    let without = Report { is_leased: false, ..report(5) };
    let reports = BTreeMap::from([(NodeId(1), without)]);
    let status = status(NodeId(1), &two_nodes(), &standing(), reports);
    assert_eq!(status.unserved, 1024);
    assert!(status.is_without_lease() && status.silent_voters().is_empty());
    let reports = BTreeMap::from([(NodeId(2), Report { is_leased: false, ..report(5) })]);
    let status = super::status(NodeId(2), &two_nodes(), &standing(), reports);
    assert_eq!(status.unserved, 0, "of who is silent and not down nothing is known");
    let silent: Vec<NodeId> = status.silent_voters().iter().map(|node| node.node).collect();
    assert_eq!(silent, [NodeId(1)]);
}

#[test]
fn what_is_no_message_is_refused_and_never_panics() {
    let reports = BTreeMap::from([(NodeId(1), report(5))]);
    let bytes = encode(&status(NodeId(2), &two_nodes(), &standing(), reports));
    for end in 0..bytes.len() {
        assert!(decode::<Status>(&bytes[..end]).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(decode::<Status>(&longer).is_err());
    // A flipped byte gives another status, or none.
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let _ = decode::<Status>(&damaged);
        let _ = decode::<Report>(&damaged);
        let _ = decode::<Leave>(&damaged);
        let _ = decode::<GiveUp>(&damaged);
        let _ = decode::<LeaveAnswer>(&damaged);
    }
    let too_long = Report { version: "v".repeat(TEXT_BYTES_MAX + 1), ..report(1) };
    assert!(decode::<Report>(&encode(&too_long)).is_err());
    let too_many = LeaveAnswer::Refused("x".repeat(TEXT_BYTES_MAX + 1));
    assert!(decode::<LeaveAnswer>(&encode(&too_many)).is_err());
    // A list that claims more than there can be costs no memory.
    assert!(decode::<Status>(&[0, 0, 0, 0, 253, 255, 255, 255, 255, 255, 255, 255, 127]).is_err());
}

#[test]
fn the_fullest_status_fits_into_a_message() {
    let mut table = two_nodes();
    let long = "x".repeat(ANNOUNCED_BYTES_MAX);
    let addresses =
        NodeAddresses { bus: long.clone(), client: long.clone(), direct: long.clone(), http: long };
    let member = Member { addresses, ..table.nodes[&NodeId(1)].clone() };
    table.nodes = (0..NODES_MAX as u64).map(|id| (NodeId(u64::MAX - id), member.clone())).collect();
    let joining = table.partitions[7].joining;
    table.partitions.iter_mut().for_each(|at| at.joining = joining);
    let sending = |id| Sending { partition: PartitionId(id), sent: u64::MAX, bytes: u64::MAX };
    // Together they send each partition once.
    let share = PARTITIONS / NODES_MAX as u16;
    let of = |at: u16| Report {
        sending: (at * share..(at + 1) * share).map(sending).collect(),
        ..report(u64::from(u32::MAX))
    };
    let reports = (0..).zip(table.nodes.keys()).map(|(at, node)| (*node, of(at))).collect();
    let status = status(NodeId(1), &table, &standing(), reports);
    let bytes = encode(&status);
    assert_eq!(decode(&bytes), Ok(status));
}
