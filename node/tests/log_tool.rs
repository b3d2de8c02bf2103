//! What the log tool reads is what a node writes: entries of Raft's log, and records of moves.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use distcache_node::cluster::raft::Consensus;
use distcache_node::cluster::raft::limits::SNAPSHOT_ENTRIES;
use distcache_node::cluster::raft::memory_transport::MemoryNetwork;
use distcache_node::cluster::table::{
    Announcement, Change, ClusterId, Entry, Epoch, Incarnation, MoveId, NodeAddresses, NodeId,
    Role, StreamSequence, Then,
};
use distcache_node::keyspace::{KeyHasher, Keyspace, ShardId};
use distcache_node::records::{Operation, PartitionId, Record, StoredValue};
use distcache_recovery::raft_directory::RaftDirectory;
use distcache_recovery::raft_entry::RaftEntry;
use distcache_recovery::raft_inspection::RaftInspection;
use distcache_recovery::{CopyPlan, state};
use tokio::task::JoinSet;

/// Longer than anything here takes; no test waits for it to pass.
const LIMIT: Duration = Duration::from_secs(30);

/// Entries that are proposed one after the other; the others go together.
const ALONE: usize = 6;

const CLUSTER: ClusterId = ClusterId(0xc1);
const OTHER: NodeId = NodeId(2);

fn announcement(node: u64, role: Role) -> Announcement {
    let port = |port: u64| format!("host:{}", port + node);
    Announcement {
        incarnation: Incarnation(u64::MAX - node),
        addresses: NodeAddresses {
            bus: port(12050),
            client: port(2050),
            direct: port(3050),
            http: if node == 1 { String::new() } else { port(9100) },
        },
        zone: "z\n".repeat(node as usize - 1),
        weight: 100_000,
        role,
    }
}

/// Every kind of entry but `Create`, with what the tool must say of it.
fn entries() -> Vec<(Entry, &'static str)> {
    let (move_id, to) = (MoveId(0xabc), OTHER);
    let node = OTHER;
    let begin = |then, drop| Change::BeginMove {
        move_id,
        target: OTHER,
        incarnation: Incarnation(5),
        then,
        drop,
    };
    let change = |change| Entry::Partition {
        partition: PartitionId(1023),
        expect_epoch: Epoch(1 << 40),
        change,
    };
    let switch =
        Change::Switch { move_id, from: NodeId(1), to, sequence: StreamSequence(u64::MAX) };
    vec![
        (
            Entry::NodeJoin { node, announcement: announcement(2, Role::Witness) },
            "node-join node 0000000000000002  process fffffffffffffffd  bus host:12052  \
             client host:2052  direct host:3052  http host:9102  zone z\\n  weight 100000  witness",
        ),
        (
            Entry::NodeUp {
                node: NodeId(1),
                replaces: Incarnation(3),
                announcement: announcement(1, Role::Data),
            },
            "node-up node 0000000000000001  replaces process 0000000000000003  \
             process fffffffffffffffe  bus host:12051  client host:2051  direct host:3051  \
             weight 100000  data",
        ),
        (
            Entry::NodeDown { node, incarnation: Incarnation(4) },
            "node-down node 0000000000000002  process 0000000000000004",
        ),
        (Entry::NodeLeaving { node }, "node-leaving node 0000000000000002"),
        (Entry::NodeForget { node }, "node-forget node 0000000000000002"),
        (
            change(begin(Then::BecomePrimary, Some(NodeId(1)))),
            "begin-move p1023 if in epoch 1099511627776  move 0000000000000abc  \
             to node 0000000000000002  process 0000000000000005  as primary  \
             instead of node 0000000000000001",
        ),
        (
            change(begin(Then::Replica, None)),
            "begin-move p1023 if in epoch 1099511627776  move 0000000000000abc  \
             to node 0000000000000002  process 0000000000000005  as replica",
        ),
        (
            change(Change::JoinIsr { move_id }),
            "join-isr p1023 if in epoch 1099511627776  move 0000000000000abc",
        ),
        (
            change(Change::ShrinkIsr { remove: OTHER }),
            "shrink-isr p1023 if in epoch 1099511627776  without node 0000000000000002",
        ),
        (
            change(switch),
            "switch p1023 if in epoch 1099511627776  move 0000000000000abc  \
             from node 0000000000000001 to node 0000000000000002  \
             at change 18446744073709551615",
        ),
        (
            change(Change::CancelMove { move_id }),
            "cancel-move p1023 if in epoch 1099511627776  move 0000000000000abc",
        ),
        (
            change(Change::Promote { to, unclean: true }),
            "promote p1023 if in epoch 1099511627776  to node 0000000000000002  unclean",
        ),
        (
            change(Change::AssignEmpty { to }),
            "assign-empty p1023 if in epoch 1099511627776  to node 0000000000000002",
        ),
    ]
}

/// Numbers the kinds of entries. Whoever adds one adds it to [`entries`] too, and to the tool.
fn kind(entry: &Entry) -> usize {
    match entry {
        Entry::NodeJoin { .. } => 0,
        Entry::NodeUp { .. } => 1,
        Entry::NodeDown { .. } => 2,
        Entry::NodeLeaving { .. } => 3,
        Entry::NodeForget { .. } => 4,
        Entry::Partition { change, .. } => match change {
            Change::BeginMove { .. } => 5,
            Change::JoinIsr { .. } => 6,
            Change::ShrinkIsr { .. } => 7,
            Change::Switch { .. } => 8,
            Change::CancelMove { .. } => 9,
            Change::Promote { .. } => 10,
            Change::AssignEmpty { .. } => 11,
        },
        Entry::Create { .. } => 12,
    }
}

fn inspect(dir: &Path) -> (tempfile::TempDir, RaftInspection) {
    let scratch = tempfile::tempdir().unwrap();
    let copy = CopyPlan::of_raft(dir, scratch.path()).unwrap().copy(|_| {}).unwrap();
    let raft = copy.open_raft().unwrap();
    // The inspection has files of the copy open, which may go.
    (scratch, raft)
}

fn lines(raft: &RaftInspection) -> Vec<String> {
    let entries = raft.entries(0, u64::MAX).map(Result::unwrap);
    let text = |entry: RaftEntry| {
        let parts = entry.parts();
        parts.iter().map(|part| format!("{} {part}", part.kind())).collect::<Vec<_>>()
    };
    entries.flat_map(text).collect()
}

#[tokio::test]
async fn the_tool_says_what_every_entry_of_a_nodes_log_says() {
    let (network, dirs) = (MemoryNetwork::new(3), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let mut nodes = Vec::new();
    for (dir, id) in dirs.iter().zip([NodeId(1), OTHER]) {
        let directory = RaftDirectory::open(dir.path(), id.0).unwrap();
        let node = Consensus::start(directory, network.transport(id)).await.unwrap();
        network.attach(id, node.clone());
        node.note_cluster(CLUSTER).await.unwrap();
        nodes.push(node);
    }
    let first = &nodes[0];
    first.create(CLUSTER, announcement(1, Role::Data), LIMIT).await.unwrap();
    let kinds: BTreeSet<_> = entries().iter().map(|(entry, _)| kind(entry)).collect();
    assert_eq!(kinds, (0..12).collect(), "a kind of entry is not tried");
    // Most are refused by the table, and stand in the log like the others.
    let all = entries();
    let (alone, together) = all.split_at(ALONE);
    for (entry, _) in alone {
        first.propose(entry.clone(), LIMIT).await.unwrap();
    }
    let mut proposals = JoinSet::new();
    for (entry, _) in together.iter().cloned() {
        let node = first.clone();
        proposals.spawn(async move { node.propose(entry, LIMIT).await.unwrap() });
    }
    proposals.join_all().await;
    first.add_learner(OTHER, "host:12052".to_owned(), LIMIT).await.unwrap();
    first.set_voters(BTreeSet::from([NodeId(1), OTHER]), LIMIT).await.unwrap();
    let ids: Vec<_> = nodes.iter().map(Consensus::node).collect();
    for node in &nodes {
        network.detach(node.node());
        node.stop().await.unwrap();
    }
    drop(nodes);

    let (_scratch, raft) = inspect(dirs[0].path());
    assert!(raft.damages.is_empty() && raft.unknown.is_empty(), "{raft:?}");
    let identity = raft.identity.unwrap();
    assert_eq!((NodeId(identity.node), identity.cluster), (ids[0], Some(CLUSTER.0)));
    let vote = raft.vote.unwrap();
    assert_eq!((vote.leader.node.0, vote.is_committed), (1, true));
    assert!(raft.committed.unwrap().index >= 3 + ALONE as u64, "that of the last ones");
    let (first, end) = raft.extent();
    // A membership, a blank one and `Create`; the last ones are one; three memberships.
    assert_eq!(end - first, 3 + ALONE as u64 + 1 + 3);
    let lines = lines(&raft);
    let create = "create cluster 000000000000000000000000000000c1  node 0000000000000001  \
                  process fffffffffffffffe  bus host:12051  client host:2051  \
                  direct host:3051  weight 100000  data";
    let group = ["0000000000000001", "0000000000000002"];
    let expected = [
        vec![
            format!("membership voters {}", group[0]),
            format!("blank node {} begins its term", group[0]),
            create.to_owned(),
        ],
        entries().into_iter().map(|(_, text)| text.to_owned()).collect(),
        vec![
            format!("membership voters {}  learners {}", group[0], group[1]),
            format!("membership voters {} -> {} {}", group[0], group[0], group[1]),
            format!("membership voters {} {}", group[0], group[1]),
        ],
    ];
    assert_eq!(lines, expected.concat());
}

#[tokio::test]
async fn the_tool_reads_a_nodes_snapshot() {
    let (network, dir) = (MemoryNetwork::new(3), tempfile::tempdir().unwrap());
    let directory = RaftDirectory::open(dir.path(), 1).unwrap();
    let node = Consensus::start(directory, network.transport(NodeId(1))).await.unwrap();
    node.create(CLUSTER, announcement(1, Role::Data), LIMIT).await.unwrap();
    for _ in 0..SNAPSHOT_ENTRIES {
        // One after the other: what is proposed together is one entry of the log.
        node.propose(Entry::NodeForget { node: OTHER }, LIMIT).await.unwrap();
    }
    let written = async {
        while !dir.path().join("raft/snapshot").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.unwrap();
    node.stop().await.unwrap();
    drop(node);
    let (_scratch, raft) = inspect(dir.path());
    assert!(raft.damages.is_empty() && raft.unknown.is_empty(), "{raft:?}");
    let snapshot = raft.snapshot.unwrap();
    assert!(snapshot.last.unwrap().index >= SNAPSHOT_ENTRIES - 1, "{snapshot:?}");
    assert_eq!(snapshot.members, "voters 0000000000000001");
    assert!(snapshot.bytes > 1024, "a byte for each partition at least: {snapshot:?}");
}

#[test]
fn a_keyspace_makes_of_moves_what_the_tool_shows() {
    let mut keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 4, KeyHasher::new(5));
    let mut shown = state::Keyspace::default();
    // The slots of `n`, and of another partition.
    let [moved, other] = [(&b"n"[..], 214), (b"k", 476)];
    let (epoch, from) = (1, 9);
    let record = |(_, partition), database, operation| Record {
        partition: PartitionId(partition),
        database,
        operation,
    };
    let put = |(key, partition): (&'static [u8], u16), database| {
        let value = StoredValue::Integer(1);
        record((key, partition), database, Operation::Put { key, value, deadline: None })
    };
    let fill = [put(moved, 0), put(moved, 3), put(other, 0), put(other, 3)];
    for (last, keys) in [
        (Operation::MoveIn { epoch, from }, [1, 0, 0, 1]),
        (Operation::Own { epoch, from }, [2, 0, 0, 2]),
        (Operation::MoveOut { epoch, to: from }, [1, 0, 0, 1]),
    ] {
        for record in fill.iter().chain([&record(moved, 0, last)]) {
            keyspace.apply(record);
            shown.apply(record).unwrap();
        }
        let sizes = keyspace.sizes();
        assert_eq!(sizes.iter().map(|size| size.keys).collect::<Vec<_>>(), keys, "{last:?}");
        for (database, keys) in (0..4).zip(keys) {
            let found = shown.iter().filter(|(found, ..)| *found == database).count();
            assert_eq!(found, keys, "{last:?}");
        }
        assert_eq!(keyspace.database(), 0, "the record's database stays selected");
    }
}
