//! openraft's own tests of a store, and groups of nodes on the in-memory network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use distcache_recovery::raft_directory::RaftDirectory;
use openraft::storage::RaftStateMachine;
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    LeaderId, LogId, RaftSnapshotBuilder, SnapshotMeta, StorageError, StoredMembership,
};
use tempfile::TempDir;

use super::disk::Disk;
use super::limits::{BATCH_ENTRIES_MAX, ENTRY_BYTES_MAX, KEPT_ENTRIES, SNAPSHOT_ENTRIES};
use super::log_store::LogStore;
use super::machine::Machine;
use super::memory_transport::MemoryNetwork;
use super::{Consensus, ProposeError, TypeConfig};
use crate::cluster::table::{
    Announcement, Change, ClusterId, Entry, Epoch, Incarnation, MoveId, NodeAddresses, NodeId,
    Outcome, PartitionId, Refusal, Role, State, StreamSequence, Then, apply,
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

/// It replaced the newer one, and the entries between the two were purged.
#[tokio::test]
async fn a_snapshot_that_was_being_made_does_not_replace_a_newer_one_from_the_leader() {
    let (dir, log, mut machine) = Stores.build().await.unwrap();
    let mut builder = machine.get_snapshot_builder().await;
    let last = LogId::new(LeaderId::new(3, NodeId(2)), 500);
    let newer = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::default(),
        snapshot_id: "from-the-leader".to_owned(),
    };
    let state = Box::new(State::new().encode().unwrap());
    machine.install_snapshot(&newer, state).await.unwrap();
    builder.build_snapshot().await.unwrap();
    let current = machine.get_current_snapshot().await.unwrap();
    assert_eq!(current.unwrap().meta, newer);
    // Closes the directory.
    drop((builder, machine, log));
    let open = || RaftDirectory::open(dir.path(), 1).ok();
    while open().is_none() {
        tokio::task::yield_now().await;
    }
    let disk = Disk::start(open().unwrap()).unwrap();
    let (mut machine, _) = Machine::open(disk).await.unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0, Some(last));
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
    // More than the log keeps, one after the other, as those that come together are one: refused
    // ones count as well.
    for _ in 0..=SNAPSHOT_ENTRIES + KEPT_ENTRIES {
        group.node(0).propose(leaving(99), LIMIT).await.unwrap();
    }
    group.network.disturb(Duration::from_millis(2), 10);
    group.start_node(2).await;
    let table = group.equal_table().await;
    assert!(table.version > SNAPSHOT_ENTRIES + KEPT_ENTRIES);
}

/// Proposes entries in this order, all of them before the first is on its way: for tests on one
/// thread.
async fn propose_together(node: &Consensus, entries: &[Entry]) -> Vec<Outcome> {
    let propose = |entry: &Entry| {
        let (node, entry) = (node.clone(), entry.clone());
        tokio::spawn(async move { node.propose(entry, LIMIT).await })
    };
    let mut outcomes = Vec::new();
    for proposed in entries.iter().map(propose).collect::<Vec<_>>() {
        outcomes.push(proposed.await.unwrap().unwrap());
    }
    outcomes
}

#[tokio::test]
async fn what_is_proposed_together_is_one_entry_of_the_log_and_applies_in_order() {
    let mut group = Group::start(1).await;
    let node = group.node(0).clone();
    for id in 2..4 {
        let join = Entry::NodeJoin { node: NodeId(id), announcement: announcement(id) };
        node.propose(join, LIMIT).await.unwrap();
    }
    let before = State::clone(&node.table().borrow());
    let change =
        |expect_epoch, change| Entry::Partition { partition: PartitionId(3), expect_epoch, change };
    let begin = |move_id, target| Change::BeginMove {
        move_id: MoveId(move_id),
        target: NodeId(target),
        incarnation: Incarnation(target),
        then: Then::BecomePrimary,
        drop: Some(NodeId(1)),
    };
    let (from, sequence) = (NodeId(1), StreamSequence(5));
    let switch = |move_id, to| Change::Switch { move_id: MoveId(move_id), from, to, sequence };
    let old = before.partitions[3].epoch;
    let new = Epoch(old.0 + 1);
    let entries = [
        change(old, begin(1, 2)),
        // The move before is under way, but only since the entry before.
        change(old, begin(2, 3)),
        change(old, Change::CancelMove { move_id: MoveId(1) }),
        change(old, begin(3, 3)),
        change(new, begin(4, 3)),
        change(new, switch(4, NodeId(3))),
        leaving(77),
        leaving(2),
    ];
    let outcomes = propose_together(&node, &entries).await;
    let together = State::clone(&node.table().borrow());
    assert_eq!(together.version, before.version + 1, "one entry of the log");
    // Each has done what it does when it stands in the log alone.
    let mut alone = before.clone();
    let expected: Vec<Outcome> = (before.version + 1..)
        .zip(&entries)
        .map(|(index, entry)| apply(&mut alone, index, entry))
        .collect();
    assert_eq!(outcomes, expected);
    assert_eq!(expected.iter().filter(|outcome| outcome.is_success()).count(), 5, "{expected:?}");
    assert_eq!(together, State { version: together.version, ..alone });
    // It comes back from the log as it was.
    group.stop_node(0).await;
    group.start_node(0).await;
    let after = group.equal_table().await;
    assert_eq!(*after, State { version: after.version, ..together });
}

#[tokio::test]
async fn everybody_hears_of_the_own_entry_and_a_long_one_gets_into_no_log() {
    let group = Group::start(3).await;
    let follower = group.running().find(|node| !node.standing().claims_lead).unwrap();
    let before = group.equal_table().await.version;
    // More than go together, and handed on by a node that does not lead.
    let entries: Vec<Entry> = (100..100 + BATCH_ENTRIES_MAX as u64 * 3 / 2).map(leaving).collect();
    let outcomes = propose_together(follower, &entries).await;
    let unknown = |entry: &Entry| match entry {
        Entry::NodeLeaving { node } => Outcome::Refused(Refusal::UnknownNode(*node)),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcomes, entries.iter().map(unknown).collect::<Vec<_>>());
    let version = group.equal_table().await.version;
    assert!(version - before < entries.len() as u64 / 4, "{} entries of the log", version - before);
    let zone = "z".repeat(ENTRY_BYTES_MAX);
    let long = Announcement { zone, ..announcement(4) };
    let long = Entry::NodeJoin { node: NodeId(4), announcement: long };
    let refused = Outcome::Refused(Refusal::AnnouncementTooLong);
    assert_eq!(follower.propose(long, LIMIT).await, Ok(refused));
    assert_eq!(group.equal_table().await.version, version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_that_waits_for_a_majority_holds_others_up_only_while_it_is_waited_for() {
    let group = Group::start(3).await;
    let leader = group.running().find(|node| node.standing().claims_lead).unwrap();
    let followers: Vec<NodeId> =
        group.running().map(Consensus::node).filter(|node| *node != leader.node()).collect();
    // What the leader sends arrives, so it stays what it is, but no answer does.
    for follower in &followers {
        group.network.cut(*follower, leader.node());
    }
    let first = leader.propose(leaving(50), MOMENT);
    let given_up = async {
        tokio::time::sleep(MOMENT / 4).await;
        leader.propose(leaving(2), MOMENT / 4).await
    };
    let patient = async {
        tokio::time::sleep(MOMENT / 4).await;
        leader.propose(leaving(3), LIMIT).await
    };
    let heal = async {
        tokio::time::sleep(2 * MOMENT).await;
        group.network.heal();
    };
    let (first, given_up, patient, ()) = tokio::join!(first, given_up, patient, heal);
    assert_eq!((first, given_up), (Err(ProposeError::Unknown), Err(ProposeError::Unknown)));
    assert_eq!(patient, Ok(Outcome::Applied));
    // Nobody waited for it when its turn came.
    let table = group.equal_table().await;
    assert!(!table.nodes[&NodeId(2)].status.is_leaving());
    assert!(table.nodes[&NodeId(3)].status.is_leaving());
}
