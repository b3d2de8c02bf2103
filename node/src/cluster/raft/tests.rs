//! openraft's own tests of a store, and groups of nodes on the in-memory network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use distcache_recovery::raft_directory::RaftDirectory;
use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::disk::Disk;
use super::log_store::LogStore;
use super::machine::Machine;
use super::memory_transport::MemoryNetwork;
use super::{Consensus, ProposeError, TypeConfig};
use crate::cluster::table::{
    Announcement, ClusterId, Entry, Incarnation, NodeAddresses, NodeId, Outcome, Role, State,
};

/// Longer than anything here takes; no test waits for it to pass.
const LIMIT: Duration = Duration::from_secs(30);

/// How long something is tried that must not succeed.
const MOMENT: Duration = Duration::from_millis(400);

impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        NodeId(id)
    }
}

struct Stores;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Stores {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<NodeId>> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::start(RaftDirectory::open(dir.path(), 1).unwrap()).unwrap();
        let (machine, _) = Machine::open(disk.clone()).await.unwrap();
        Ok((dir, LogStore::new(disk), machine))
    }
}

#[test]
fn openrafts_tests_of_a_store_pass() {
    Suite::test_all(Stores).unwrap();
}

fn announcement(node: u64) -> Announcement {
    let port = |offset: u64| format!("host:{}", offset + node);
    Announcement {
        incarnation: Incarnation(node),
        addresses: NodeAddresses {
            bus: port(12050),
            client: port(2050),
            direct: port(3050),
            http: String::new(),
        },
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    }
}

/// Nodes on one network, whose directories stay when they stop.
struct Group {
    network: MemoryNetwork,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<Consensus>>,
}

impl Group {
    /// Starts so many nodes, of which the first creates a cluster that the others join as voters.
    async fn start(count: u64) -> Group {
        let dirs = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let nodes = (0..count).map(|_| None).collect();
        let mut group = Group { network: MemoryNetwork::new(7), dirs, nodes };
        for number in 0..count as usize {
            group.start_node(number).await;
        }
        let first = group.node(0).clone();
        let created = first.create(ClusterId(9), announcement(1), LIMIT).await;
        assert_eq!(created, Ok(Outcome::Applied));
        for number in 1..count as usize {
            let id = NodeId(number as u64 + 1);
            let announcement = announcement(id.0);
            let bus = announcement.addresses.bus.clone();
            let join = Entry::NodeJoin { node: id, announcement };
            assert_eq!(first.propose(join, LIMIT).await, Ok(Outcome::Applied));
            first.add_learner(id, bus, LIMIT).await.unwrap();
        }
        let all: BTreeSet<NodeId> = (1..=count).map(NodeId).collect();
        first.set_voters(all, LIMIT).await.unwrap();
        group
    }

    async fn start_node(&mut self, number: usize) {
        let id = NodeId(number as u64 + 1);
        let directory = RaftDirectory::open(self.dirs[number].path(), id.0).unwrap();
        let node = Consensus::start(directory, self.network.transport(id)).await.unwrap();
        self.network.attach(id, node.clone());
        self.nodes[number] = Some(node);
    }

    async fn stop_node(&mut self, number: usize) {
        let node = self.nodes[number].take().unwrap();
        self.network.detach(node.node());
        node.stop().await.unwrap();
    }

    fn node(&self, number: usize) -> &Consensus {
        self.nodes[number].as_ref().unwrap()
    }

    fn running(&self) -> impl Iterator<Item = &Consensus> {
        self.nodes.iter().flatten()
    }

    /// Proposes on any node but one until it is accepted, as the leader may have gone.
    async fn propose(&self, entry: Entry, not_at: Option<NodeId>) -> Outcome {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            for node in self.running().filter(|node| Some(node.node()) != not_at) {
                if let Ok(outcome) = node.propose(entry.clone(), Duration::from_secs(2)).await {
                    return outcome;
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "no leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all running nodes have the same table, and returns it.
    async fn equal_table(&self) -> Arc<State> {
        let applied = async {
            let leader = loop {
                let mut confirmed = None;
                for node in self.running() {
                    if node.confirm(MOMENT).await.is_ok() {
                        confirmed = Some(node);
                    }
                }
                match confirmed {
                    Some(leader) => break leader,
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let expected = Arc::clone(&leader.table().borrow());
            for node in self.running() {
                let mut table = node.table();
                let reached = |state: &Arc<State>| state.version >= expected.version;
                let state = Arc::clone(&*table.wait_for(reached).await.unwrap());
                assert!(state.version > expected.version || state == expected);
            }
            expected
        };
        tokio::time::timeout(LIMIT, applied).await.expect("the nodes do not become equal")
    }
}

fn leaving(node: u64) -> Entry {
    Entry::NodeLeaving { node: NodeId(node) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_leads_and_goes_on_from_its_disk() {
    let mut group = Group::start(1).await;
    let before = group.equal_table().await;
    assert_eq!(before.cluster, Some(ClusterId(9)));
    let again = group.node(0).create(ClusterId(9), announcement(1), LIMIT).await;
    assert_eq!(again, Ok(Outcome::AlreadyApplied));
    group.node(0).note_cluster(ClusterId(9)).await.unwrap();
    group.stop_node(0).await;
    group.start_node(0).await;
    assert_eq!(group.node(0).identity().await.unwrap().cluster, Some(9));
    let after = group.equal_table().await;
    assert_eq!((after.cluster, &after.nodes), (before.cluster, &before.nodes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_survive_the_loss_of_their_leader_and_a_restart_of_all() {
    let mut group = Group::start(3).await;
    // A node that does not lead hands its proposals on.
    let follower = group.running().find(|node| !node.standing().claims_lead).unwrap();
    assert_eq!(follower.propose(leaving(2), LIMIT).await, Ok(Outcome::Applied));
    let leader = follower.standing().leader.unwrap();
    group.stop_node(leader.0 as usize - 1).await;
    assert!(group.propose(leaving(3), None).await.is_success());
    group.start_node(leader.0 as usize - 1).await;
    let before = group.equal_table().await;
    assert!(before.nodes[&NodeId(3)].status.is_leaving());
    for number in 0..3 {
        group.stop_node(number).await;
    }
    for number in 0..3 {
        group.start_node(number).await;
    }
    assert_eq!(group.equal_table().await.nodes, before.nodes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_can_neither_confirm_nor_propose() {
    let group = Group::start(3).await;
    let cut = group.running().find(|node| node.standing().claims_lead).unwrap();
    let (old, everybody) = (cut.node(), group.equal_table().await.version);
    group.network.isolate(old);
    assert!(group.propose(leaving(2), Some(old)).await.is_success());
    assert!(cut.confirm(MOMENT).await.is_err());
    let proposed = cut.propose(leaving(3), MOMENT).await;
    assert_eq!(proposed, Err(ProposeError::Unknown));
    assert!(cut.table().borrow().version <= everybody, "it has applied what it cannot know");
    group.network.heal();
    // What it proposed in vain is gone: another leader's log took the place.
    let table = group.equal_table().await;
    assert!(table.nodes[&NodeId(2)].status.is_leaving());
    assert!(!table.nodes[&NodeId(3)].status.is_leaving());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_behind_the_log_gets_a_snapshot_and_messages_may_be_lost() {
    let mut group = Group::start(3).await;
    group.stop_node(2).await;
    // More entries than the log keeps: refused ones count as well.
    for _ in 0..25 {
        let node = group.node(0).clone();
        let proposals = (0..100).map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.propose(leaving(99), LIMIT).await })
        });
        for proposal in proposals.collect::<Vec<_>>() {
            proposal.await.unwrap().unwrap();
        }
    }
    group.network.disturb(Duration::from_millis(2), 10);
    group.start_node(2).await;
    let table = group.equal_table().await;
    assert!(table.version > 2000);
}
