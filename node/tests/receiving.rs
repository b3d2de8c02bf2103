//! A shard with a log that receives a partition: the order in which the log has it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use actix_rt::{Arbiter, System};
use distcache_node::actors::oplog::LogHandle;
use distcache_node::actors::shard::{Shard, ShardHandle};
use distcache_node::cluster::moves::{Assignment, Part};
use distcache_node::cluster::table::{
    Announcement, ClusterId, Epoch, Incarnation, MoveId, NodeAddresses, NodeId, PartitionId, Role,
    StreamSequence,
};
use distcache_node::cluster::view::ClusterView;
use distcache_node::config::{FsyncPolicy, LiveConfig, RawConfig};
use distcache_node::keyspace::{Keyspace, ShardId};
use distcache_node::node::{NodeParts, Ports};
use distcache_node::oplog::LogStatus;
use distcache_node::records::{Operation, Record};
use distcache_node::shard::ShardState;
use distcache_node::shard::memory::MemoryGate;
use distcache_node::shard::staging::Received;
use distcache_recovery::{FrameBuilder, OpenMode};
use tokio::sync::oneshot;

const MYSELF: NodeId = NodeId(1);
const SOURCE: NodeId = NodeId(2);
const PARTITION: PartitionId = PartitionId(7);

/// The only shard of a node, and its log.
async fn start(arbiter: &Arbiter, directory: &Path) -> (ShardHandle, LogHandle) {
    let live = Arc::new(LiveConfig::new(RawConfig::default(), None).unwrap());
    let ports = Ports { client: 0, direct: 0, bus: 0, http: None };
    let announcement = Announcement {
        incarnation: Incarnation(1),
        addresses: NodeAddresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    };
    let view = ClusterView::alone(ClusterId(1), MYSELF, announcement);
    let parts = NodeParts::new(live, 1, ports, view);
    let status = LogStatus::new(FsyncPolicy::EverySecond);
    let log = LogHandle::start(&arbiter.handle(), status.clone(), parts.monitor.clone());
    let mut replay = distcache_recovery::open(directory, OpenMode::Create).unwrap();
    assert!(replay.next().is_none());
    log.open(replay.finish().unwrap().0).await.unwrap();
    let gate = MemoryGate::new(parts.memory.clone(), 0, parts.config.clone());
    let (hasher, of_shard) = (parts.hasher.clone(), log.clone());
    let shard = ShardHandle::start(&arbiter.handle(), move |inbox| {
        let keyspace = Keyspace::new(ShardId { index: 0, count: 1 }, 16, hasher);
        Shard::new(ShardState::new(keyspace, gate, Some(status)), Some(of_shard), inbox)
    });
    (shard, log)
}

fn receives(move_id: u64) -> Vec<(PartitionId, Assignment)> {
    let part = Part::Receives(MoveId(move_id));
    let (epoch, owner) = (Epoch(move_id), Some(SOURCE));
    vec![(PARTITION, Assignment { part, epoch, owner, peer: owner })]
}

/// The partition is this node's, which has received one chunk of it.
fn serves(epoch: u64) -> Vec<(PartitionId, Assignment)> {
    let part = Part::Serves { giving: None, serve_from: StreamSequence(1) };
    vec![(PARTITION, Assignment { part, epoch: Epoch(epoch), owner: Some(MYSELF), peer: None })]
}

/// The first chunk of a move, with one record.
fn first_chunk(move_id: u64) -> Received {
    let mut frame = FrameBuilder::default();
    let operation = Operation::Append { key: b"key", bytes: b"value" };
    frame.push(&Record { partition: PARTITION, database: 0, operation });
    let (partition, move_id) = (PARTITION, MoveId(move_id));
    Received { partition, move_id, index: 0, from: SOURCE, log_failures: 0, frame }
}

/// Names of the operations in a log, in their order.
fn logged(directory: &Path) -> Vec<&'static str> {
    let replay = distcache_recovery::open(directory, OpenMode::Existing).unwrap();
    let names = |block: distcache_recovery::Block| {
        block.records().map(|record| record.unwrap().operation.name()).collect::<Vec<_>>()
    };
    replay.flat_map(|block| names(block.unwrap())).collect()
}

#[test]
fn what_is_received_stands_behind_what_was_given_up() {
    let directory = tempfile::tempdir().unwrap();
    System::new().block_on(async {
        let arbiter = Arbiter::new();
        let (shard, log) = start(&arbiter, directory.path()).await;
        for move_id in [1, 2] {
            // The second one, in a table that comes after one it has not seen, voids the first.
            shard.follow(receives(move_id)).await.unwrap();
            let (synced, on_disk) = oneshot::channel();
            shard.receive(first_chunk(move_id), Some(synced)).await.unwrap().unwrap();
            on_disk.await.unwrap().unwrap();
        }
        shard.hand_over().await.unwrap();
        log.close().await.unwrap();
    });
    let expected = ["move-in", "append", "move-out", "move-in", "append"];
    assert_eq!(logged(directory.path()), expected);
}

/// All said that they were of epoch 1.
#[test]
fn a_snapshot_states_the_epoch_of_a_partition_that_came_and_no_other() {
    const HERE: PartitionId = PartitionId(8);
    const OTHERS: PartitionId = PartitionId(9);
    let directory = tempfile::tempdir().unwrap();
    System::new().block_on(async {
        let arbiter = Arbiter::new();
        let (shard, log) = start(&arbiter, directory.path()).await;
        let (part, epoch) = (Part::None, Epoch(4));
        let others = Assignment { part, epoch, owner: Some(SOURCE), peer: None };
        shard.follow(vec![(OTHERS, others)]).await.unwrap();
        shard.follow(receives(1)).await.unwrap();
        shard.receive(first_chunk(1), None).await.unwrap().unwrap();
        shard.follow(serves(5)).await.unwrap();
        let partitions = [PARTITION, HERE, OTHERS].into_iter().collect();
        shard.copy_partitions(partitions).await.unwrap();
        log.close().await.unwrap();
    });
    let replay = distcache_recovery::open(directory.path(), OpenMode::Existing).unwrap();
    let snapshots = replay.snapshots();
    let found: Vec<_> = snapshots.iter().map(|found| (found.partition, found.epoch.0)).collect();
    assert_eq!(found, [(PARTITION, 5), (HERE, 0), (OTHERS, 0)]);
}
