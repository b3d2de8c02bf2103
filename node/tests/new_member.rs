//! A node that the cluster does not know any more keeps its keys: they may be the only copies.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may unwrap and read the clock"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use distcache_recovery::raft_directory::RaftDirectory;
use distcache_recovery::{
    FrameBuilder, InspectionCopy, OpenMode, Operation, PartitionId, Record, StoredValue,
    UnixMillis, open, state,
};
use support::cluster::{Node, start};
use support::process::{terminate, until};
use support::text::show_tree;
use support::wire::Wire;

/// Longer than anything here takes, on a machine busy with a build.
const LIMIT: Duration = Duration::from_secs(60);

const KEYS: usize = 200;

/// What is in a node's log, as `distcache-log state` shows it.
fn logged(data: &Path) -> BTreeMap<Vec<u8>, PartitionId> {
    let copy = InspectionCopy::new(data, |_, _| {}).unwrap();
    let mut keyspace = state::Keyspace::default();
    let replay = open(copy.path(), OpenMode::Create).unwrap();
    let cuts = *replay.cuts();
    for block in replay {
        keyspace.apply_block(&block.unwrap(), &cuts).unwrap();
    }
    keyspace.iter().map(|(_, partition, key, _)| (key.to_vec(), partition)).collect()
}

/// Adds keys to a node's log.
fn add(data: &Path, keys: &BTreeMap<Vec<u8>, PartitionId>) {
    let mut replay = open(data, OpenMode::Create).unwrap();
    for block in replay.by_ref() {
        block.unwrap();
    }
    let (mut log, _) = replay.finish().unwrap();
    let mut frame = FrameBuilder::new();
    for (key, partition) in keys {
        let operation = Operation::Put { key, value: StoredValue::Integer(1), deadline: None };
        frame.push(&Record { partition: *partition, database: 0, operation });
    }
    log.append(&mut frame, UnixMillis(1)).unwrap();
    log.close().unwrap();
}

/// Nodes of which each has its part of the keys.
fn filled(count: usize) -> Vec<Node> {
    let nodes = start(count, &["--fsync", "always"]);
    nodes.iter().for_each(|node| is_settled(node, count));
    let mut client = nodes[0].connect();
    for at in 0..KEYS {
        assert_eq!(client.call(&["SET", &format!("key:{at}"), "value"]).raw, b"+OK\r\n");
    }
    nodes
}

fn stop(node: &mut Node) {
    terminate(&node.child);
    let ended = until(LIMIT, "the process does not end", || node.child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0), "{}", node.said());
}

fn reaches(node: &Node, lines: &[&str]) {
    let addr = node.client().parse().unwrap();
    until(LIMIT, "the cluster is not as it should be", || {
        let info = show_tree(&Wire::try_connect(addr).ok()?.call(&["INFO", "cluster"]).tree);
        lines.iter().all(|line| info.contains(line)).then_some(())
    });
}

/// Waits until so many nodes have their shares.
fn is_settled(node: &Node, count: usize) {
    let size = format!("cluster_size:{count}");
    reaches(node, &["cluster_state:ok", &size, "cluster_partitions_moving:0"]);
}

/// Starts a node twice: it is refused each time, and has the keys that it had.
fn is_refused(node: &mut Node, keys: &BTreeMap<Vec<u8>, PartitionId>) {
    for _ in 0..2 {
        node.start_again();
        let ended = until(LIMIT, "it goes on", || node.child.try_wait().unwrap());
        let said = node.said();
        assert_eq!(ended.code(), Some(1), "{said}");
        assert!(said.contains("keys: start with an empty directory"), "{said}");
        assert_eq!(&logged(&node.data()), keys, "{said}");
    }
}

fn cluster(args: &[&str], seed: &Node) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distcache-node"));
    command.arg("cluster").args(args).args(["--seeds", &seed.bus()]).output().unwrap()
}

/// Nothing on the command line made the partitions of a lost node usable again.
#[test]
fn a_node_whose_disk_is_lost_is_given_up_and_harms_nobody_when_it_is_found_again() {
    let mut nodes = filled(3);
    nodes[1].child.kill().unwrap();
    nodes[1].child.wait().unwrap();
    let (data, lost) = (nodes[1].data(), nodes[1].data().with_file_name("lost"));
    fs::rename(&data, &lost).unwrap();
    let name = nodes[1].client();
    // Not the leader, which is the first: it has to hand that on.
    let remove = |more: &[&str]| cluster(&[&["remove", &name][..], more].concat(), &nodes[2]);
    until(LIMIT, "nobody takes it for down", || {
        let said = String::from_utf8(remove(&["--lost"]).stderr).unwrap();
        said.contains("add --give-up-keys").then_some(())
    });
    let said = String::from_utf8(remove(&[]).stderr).unwrap();
    assert!(said.contains("partitions: start it again") && said.contains("--lost"), "{said}");
    let refused = cluster(&["remove", &nodes[0].client(), "--lost", "--give-up-keys"], &nodes[0]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not down"), "{refused:?}");

    let removed = remove(&["--lost", "--give-up-keys"]);
    let said = String::from_utf8_lossy(&removed.stdout);
    assert!(removed.status.success(), "{removed:?}");
    assert!(said.contains("partitions came back empty"), "{said}");
    let status = cluster(&["status"], &nodes[0]);
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(status.contains("2 nodes,") && status.contains("1024 of 1024"), "{status}");
    let keys = logged(&lost);
    let mut client = nodes[0].connect();
    for at in 0..KEYS {
        let key = format!("key:{at}");
        let expected: &[u8] = match keys.contains_key(key.as_bytes()) {
            true => b"$-1\r\n",
            false => b"$5\r\nvalue\r\n",
        };
        assert_eq!(client.call(&["GET", &key]).raw, expected, "{key}");
        assert_eq!(client.call(&["SET", &key, "again"]).raw, b"+OK\r\n");
    }

    // Its disk turns up.
    fs::rename(&lost, &data).unwrap();
    nodes[1].start_again();
    let ended = until(LIMIT, "it goes on", || nodes[1].child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0), "{}", nodes[1].said());
    assert!(nodes[1].said().contains("has left the cluster"), "{}", nodes[1].said());
    assert_eq!(logged(&data), keys);
    fs::remove_dir_all(data.join("raft")).unwrap();
    is_refused(&mut nodes[1], &keys);

    // An empty one is a new node.
    fs::remove_dir_all(&data).unwrap();
    nodes[1].start_again();
    is_settled(&nodes[1], 3);
    let mut client = nodes[1].connect();
    for at in 0..KEYS {
        assert_eq!(client.call(&["GET", &format!("key:{at}")]).raw, b"$5\r\nagain\r\n");
    }
}

/// The first start was refused, but noted the cluster on its way: the next one took the node for a
/// member, and deleted its keys as those of others.
#[test]
fn a_node_that_lost_its_place_is_refused_at_every_start_and_keeps_its_keys() {
    let mut nodes = filled(2);
    stop(&mut nodes[1]);
    let keys = logged(&nodes[1].data());
    assert!(keys.len() > KEYS / 4 && keys.len() < KEYS, "{}", keys.len());
    let raft = nodes[1].data().join("raft");
    let kept = nodes[1].data().join("kept");
    let has_no_new_member = |node: &Node| reaches(node, &["cluster_members:2"]);

    // As a damaged log was to be dealt with.
    fs::rename(&raft, &kept).unwrap();
    is_refused(&mut nodes[1], &keys);
    has_no_new_member(&nodes[0]);

    // As it goes by itself, where a byte rots.
    fs::remove_dir_all(&raft).unwrap();
    fs::rename(&kept, &raft).unwrap();
    let identity = fs::read(raft.join("identity")).unwrap();
    let mut damaged = identity.clone();
    damaged[21] ^= 1;
    fs::write(raft.join("identity"), damaged).unwrap();
    is_refused(&mut nodes[1], &keys);
    assert!(nodes[1].data().join("raft-unusable-1").is_dir());
    has_no_new_member(&nodes[0]);

    // As a member that stopped before anybody looked at its keys, whatever they are.
    stop(&mut nodes[0]);
    let all: BTreeMap<_, _> = logged(&nodes[0].data()).into_iter().chain(keys).collect();
    assert_eq!(all.len(), KEYS);
    fs::remove_dir_all(&raft).unwrap();
    fs::rename(nodes[1].data().join("raft-unusable-1"), &raft).unwrap();
    fs::write(raft.join("identity"), identity).unwrap();
    add(&nodes[1].data(), &all);
    let mut directory = RaftDirectory::open(&nodes[1].data(), 1).unwrap();
    directory.set_cluster(directory.identity().cluster.unwrap()).unwrap();
    drop(directory);
    nodes[0].start_again();
    is_refused(&mut nodes[1], &all);
}
