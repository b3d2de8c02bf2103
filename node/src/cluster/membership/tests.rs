//! Clusters of nodes in one process, which find each other by seeds on an in-memory network.

use std::sync::Mutex;

use distcache_recovery::raft_db::Note;
use distcache_recovery::raft_directory::RaftDirectory;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::cluster::lease::{LEASE, LeaseAnswer};
use crate::cluster::raft::memory_transport::{MemoryNetwork, vote_note};
use crate::cluster::raft::{CallFuture, CallKind, RaftTransport, Standing, TransportError};
use crate::cluster::table::{Change, MovePhase, NodeAddresses, PartitionId, Role, StreamSequence};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Who listens where.
type Places = Arc<Mutex<BTreeMap<String, Probed>>>;

/// A node's end of the network, on which nodes are reached by their present addresses only.
#[derive(Debug)]
struct End {
    node: NodeId,
    places: Places,
    network: MemoryNetwork,
    transport: Arc<dyn RaftTransport>,
    book: Mutex<BTreeMap<NodeId, String>>,
    granting: Granting,
}

/// Who grants leases, as long as it runs.
type Granting = Arc<Mutex<BTreeMap<NodeId, Leases>>>;

#[derive(Debug)]
struct Nothing;

impl Reports for Nothing {
    fn partition_bytes(&self) -> Vec<(PartitionId, u64)> {
        vec![(PartitionId(0), 1)]
    }
}

impl Peers for End {
    fn probe<'a>(&'a self, address: &'a str, _limit: Duration) -> Probing<'a> {
        let found = self.places.lock().unwrap().get(address).copied();
        Box::pin(async move { found.ok_or(Unprobed::Silent) })
    }

    fn ask_lease(&self, leader: NodeId, request: LeaseRequest, limit: Duration) -> Asking<'_> {
        Box::pin(async move {
            let asked = async {
                let leases = self.granting.lock().unwrap().get(&leader).cloned()?;
                self.network.carry(self.node, leader).await.then_some(())?;
                let request = LeaseRequest::decode(&request.encode()).unwrap();
                let answer = leases.request(request).await;
                self.network.carry(leader, self.node).await.then_some(())?;
                Some(LeaseAnswer::decode(&answer.encode()).unwrap())
            };
            clock::within(Some(limit), asked).await.flatten()
        })
    }

    fn set_peers(&self, addresses: &BTreeMap<NodeId, String>) {
        *self.book.lock().unwrap() = addresses.clone();
    }

    fn set_cluster(&self, cluster: ClusterId) {
        let mut places = self.places.lock().unwrap();
        for probed in places.values_mut().filter(|probed| probed.node == self.node) {
            probed.cluster = Some(cluster);
        }
    }
}

impl RaftTransport for End {
    fn call<'a>(
        &'a self,
        peer: NodeId,
        bus: &'a str,
        kind: CallKind,
        body: Vec<u8>,
        timeout: Duration,
    ) -> CallFuture<'a> {
        let known = self.book.lock().unwrap().get(&peer).cloned();
        let address = known.unwrap_or_else(|| bus.to_owned());
        let there = self.places.lock().unwrap().get(&address).copied();
        if there.is_none_or(|there| there.node != peer) {
            let reason = format!("it is not at {address}");
            return Box::pin(async move { Err(TransportError::Unreachable { peer, reason }) });
        }
        self.transport.call(peer, bus, kind, body, timeout)
    }
}

/// What a node says that has loaded its log.
fn keys(count: u64) -> watch::Receiver<Option<u64>> {
    watch::Sender::new(Some(count)).subscribe()
}

/// A node that runs.
struct Node {
    consensus: Consensus,
    running: JoinHandle<Result<Left, MembershipError>>,
    address: String,
    lease: watch::Receiver<Lease>,
}

/// Nodes, whose directories stay when they stop.
struct Cluster {
    network: MemoryNetwork,
    places: Places,
    granting: Granting,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<Node>>,
    seeds: Vec<String>,
    /// Counts processes, and names them.
    incarnation: u64,
}

impl Cluster {
    fn of(count: usize) -> Cluster {
        Cluster {
            network: MemoryNetwork::new(3),
            places: Places::default(),
            granting: Granting::default(),
            dirs: (0..count).map(|_| tempfile::tempdir().unwrap()).collect(),
            nodes: (0..count).map(|_| None).collect(),
            seeds: vec!["first:0".to_owned(), "second:0".to_owned()],
            incarnation: 0,
        }
    }

    /// Starts a node at an address; the seeds are the same for all.
    async fn start(&mut self, number: usize, address: &str) {
        self.incarnation += 1;
        let new = NodeId(100 * self.incarnation);
        let directory = RaftDirectory::open(self.dirs[number].path(), new.0).unwrap();
        let identity = directory.identity();
        let (node, cluster) = (NodeId(identity.node), identity.cluster.map(ClusterId));
        let incarnation = Incarnation(self.incarnation);
        let probed = Probed { node, incarnation, cluster };
        self.places.lock().unwrap().insert(address.to_owned(), probed);
        let end = self.end(node);
        let transport: Arc<dyn RaftTransport> = Arc::clone(&end) as _;
        let consensus = Consensus::start(directory, transport).await.unwrap();
        self.network.attach(node, consensus.clone());
        let addresses = NodeAddresses { bus: address.to_owned(), ..NodeAddresses::default() };
        let announcement = Announcement {
            incarnation,
            addresses,
            zone: String::new(),
            weight: 100,
            role: Role::Data,
        };
        let seeds = self.seeds.clone();
        let leases = Leases::new(consensus.clone());
        self.granting.lock().unwrap().insert(node, leases.clone());
        let reports = Arc::new(Nothing);
        let mut membership =
            Membership::new(consensus.clone(), leases, end, reports, seeds, announcement);
        let lease = membership.lease();
        let new_cluster = ClusterId(self.incarnation.into());
        let running = tokio::spawn(async move {
            membership.bootstrap(new_cluster, keys(0)).await?;
            membership.run().await
        });
        let address = address.to_owned();
        self.nodes[number] = Some(Node { consensus, running, address, lease });
    }

    fn end(&self, node: NodeId) -> Arc<End> {
        Arc::new(End {
            node,
            places: Arc::clone(&self.places),
            network: self.network.clone(),
            transport: self.network.transport(node),
            book: Mutex::default(),
            granting: Arc::clone(&self.granting),
        })
    }

    async fn stop(&mut self, number: usize) {
        let node = self.nodes[number].take().unwrap();
        node.running.abort();
        self.granting.lock().unwrap().remove(&node.consensus.node());
        self.network.detach(node.consensus.node());
        self.places.lock().unwrap().remove(&node.address);
        node.consensus.stop().await.unwrap();
    }

    fn running(&self) -> impl Iterator<Item = &Consensus> {
        self.nodes.iter().flatten().map(|node| &node.consensus)
    }

    /// Waits until all running nodes have the same table, which is as wanted.
    async fn reaches(&self, wanted: impl Fn(&State) -> bool) -> Arc<State> {
        let tables = async {
            loop {
                let mut tables = self.running().map(|node| Arc::clone(&node.table().borrow()));
                let first = tables.next().unwrap();
                if wanted(&first) && tables.all(|table| table == first) {
                    return first;
                }
                clock::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = clock::within(Some(LIMIT), tables).await;
        reached.unwrap_or_else(|| {
            let tables: Vec<_> =
                self.running().map(|n| (n.standing(), n.table().borrow().nodes.clone())).collect();
            panic!("not reached: {tables:#?}")
        })
    }
}

fn up(table: &State) -> usize {
    table.nodes.values().filter(|member| member.status.is_up()).count()
}

const ADDRESSES: [&str; 5] = ["first:0", "second:0", "third:0", "fourth:0", "fifth:0"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_in_any_order_form_one_cluster_and_survive_what_happens_to_it() {
    let mut cluster = Cluster::of(3);
    for number in [2, 1, 0] {
        cluster.start(number, ADDRESSES[number]).await;
    }
    let table = cluster.reaches(|table| up(table) == 3).await;
    assert_eq!(table.cluster, Some(ClusterId(3)), "the first seed has created it");
    let ids: Vec<NodeId> = cluster.running().map(Consensus::node).collect();
    // Until the change to three voters has ended, the one voter of before cannot be lost.
    let is_open = |standing: Standing| standing.is_changing || standing.voters.len() < 3;
    let all_vote = async {
        while cluster.running().any(|node| is_open(node.standing())) {
            clock::sleep(Duration::from_millis(50)).await;
        }
    };
    clock::within(Some(LIMIT), all_vote).await.expect("all three vote");
    // The leader is lost.
    let leader = cluster.running().find_map(|node| node.standing().leader).unwrap();
    let place = ids.iter().position(|id| *id == leader).unwrap();
    cluster.stop(place).await;
    cluster.reaches(|table| up(table) == 2).await;
    cluster.start(place, ADDRESSES[place]).await;
    cluster.reaches(|table| up(table) == 3).await;
    // All restart, at other addresses.
    for number in 0..3 {
        cluster.stop(number).await;
    }
    cluster.seeds = vec!["a:0".to_owned(), "b:0".to_owned()];
    for (number, address) in ["a:0", "b:0", "c:0"].into_iter().enumerate() {
        cluster.start(number, address).await;
    }
    let are_there =
        |table: &State| up(table) == 3 && table.nodes.values().all(|m| m.addresses.bus.len() == 3);
    let table = cluster.reaches(are_there).await;
    assert_eq!(table.cluster, Some(ClusterId(3)));
    assert_eq!(cluster.running().map(Consensus::node).collect::<Vec<_>>(), ids);
    // One loses its disk: it is a new node, and the old one is down.
    cluster.stop(1).await;
    cluster.dirs[1] = tempfile::tempdir().unwrap();
    cluster.start(1, "b:0").await;
    cluster.reaches(|table| table.nodes.len() == 4 && up(table) == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_form_a_cluster_within_moments() {
    let mut cluster = Cluster::of(5);
    for (number, address) in ADDRESSES.into_iter().enumerate() {
        cluster.start(number, address).await;
    }
    let table = cluster.reaches(|table| up(table) == 5).await;
    assert_eq!(table.cluster, Some(ClusterId(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_other_seeds_is_a_cluster_and_two_of_them_refuse_each_other() {
    let mut cluster = Cluster::of(2);
    cluster.seeds = vec![];
    cluster.start(0, "a:0").await;
    cluster.start(1, "b:0").await;
    for node in cluster.running() {
        let mut table = node.table();
        let created = table.wait_for(|table| table.cluster.is_some());
        clock::within(Some(LIMIT), created).await.unwrap().unwrap();
    }
    let is_noted = |address: &str| cluster.places.lock().unwrap()[address].cluster.is_some();
    let both = async {
        while !is_noted("a:0") || !is_noted("b:0") {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::within(Some(LIMIT), both).await.expect("both have noted their clusters");
    cluster.stop(0).await;
    let directory = RaftDirectory::open(cluster.dirs[0].path(), 9).unwrap();
    let node = NodeId(directory.identity().node);
    let end = cluster.end(node);
    let consensus = Consensus::start(directory, Arc::clone(&end) as _).await.unwrap();
    let announcement = announced(&consensus.table().borrow().nodes[&node]);
    let (leases, seeds) = (Leases::new(consensus.clone()), vec!["b:0".to_owned()]);
    let reports = Arc::new(Nothing);
    let mut membership = Membership::new(consensus, leases, end, reports, seeds, announcement);
    let refused = membership.bootstrap(ClusterId(77), keys(0)).await.unwrap_err();
    assert!(refused.to_string().contains("the seed b:0 is in cluster"), "{refused}");
}

/// It looked again every quarter of a second, and said nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_group_that_has_not_noted_its_cluster_says_whom_it_waits_for() {
    let cluster = Cluster::of(1);
    let mut directory = RaftDirectory::open(cluster.dirs[0].path(), 9).unwrap();
    directory.db.set_note(Note::Vote, &vote_note(3, NodeId(1))).unwrap();
    let end = cluster.end(NodeId(9));
    let consensus = Consensus::start(directory, Arc::clone(&end) as _).await.unwrap();
    assert!(consensus.is_initialised().await.unwrap());
    let announcement = Announcement {
        incarnation: Incarnation(1),
        addresses: NodeAddresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    };
    let (leases, seeds) = (Leases::new(consensus.clone()), cluster.seeds.clone());
    let reports = Arc::new(Nothing);
    let mut membership = Membership::new(consensus, leases, end, reports, seeds, announcement);
    let waiting = membership.bootstrap(ClusterId(7), keys(0));
    assert!(clock::within(Some(ASK_AGAIN * 3), waiting).await.is_none());
    let said = membership.announcer.said().unwrap().to_string();
    assert!(said.contains("first:0 does not answer, second:0 does not answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_started_with_the_directory_of_a_node_that_runs_ends_and_disturbs_nobody() {
    // Two processes of one id took each other's connections, and ended the leader.
    let mut cluster = Cluster::of(3);
    for (number, address) in ADDRESSES.into_iter().take(3).enumerate() {
        cluster.start(number, address).await;
    }
    cluster.reaches(|table| up(table) == 3).await;
    let original = cluster.nodes[2].as_ref().unwrap().consensus.node();
    cluster.stop(2).await;
    // A closed directory is a consistent copy of itself; the copy is started in a network where
    // the original's process is to be seen.
    let running = Probed { node: original, incarnation: Incarnation(77), cluster: None };
    for (place, address) in [("third:0", "elsewhere:0"), ("first:0", "third:0")] {
        // Once where its own table has it, and once where one of its seeds is.
        let former = cluster.places.lock().unwrap().insert(place.to_owned(), running);
        cluster.start(2, address).await;
        let copy = cluster.nodes[2].as_mut().unwrap();
        let ended = clock::within(Some(LIMIT), &mut copy.running).await.expect("it ends");
        let error = ended.unwrap().unwrap_err().to_string();
        assert!(error.contains(place) && error.contains("must not be copied"), "{error}");
        cluster.stop(2).await;
        let mut places = cluster.places.lock().unwrap();
        match former {
            Some(former) => places.insert(place.to_owned(), former),
            None => places.remove(place),
        };
    }
    // The other one's process was dead after all: a start at a new address is nothing special.
    cluster.start(2, "elsewhere:0").await;
    cluster.reaches(|table| up(table) == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_log_is_an_older_one_does_not_end_the_leader() {
    // openraft takes it for impossible that a log gets shorter; a directory that was put back is
    // one. It is no voter here: one that forgot a vote could do worse.
    let mut cluster = Cluster::of(2);
    for (number, address) in ADDRESSES.into_iter().take(2).enumerate() {
        cluster.start(number, address).await;
    }
    cluster.reaches(|table| up(table) == 2).await;
    cluster.stop(1).await;
    let older = tempfile::tempdir().unwrap();
    copy(cluster.dirs[1].path(), older.path());
    for _ in 0..3 {
        cluster.start(1, "second:0").await;
        let incarnation = Incarnation(cluster.incarnation);
        cluster.reaches(|table| table.nodes.values().any(|at| at.incarnation == incarnation)).await;
        cluster.stop(1).await;
    }
    cluster.dirs[1] = older;
    cluster.start(1, "second:0").await;
    let incarnation = Incarnation(cluster.incarnation);
    cluster.reaches(|table| table.nodes.values().any(|at| at.incarnation == incarnation)).await;
    for node in cluster.nodes.iter().flatten() {
        assert_eq!(node.consensus.standing().failure, None);
        assert!(!node.running.is_finished());
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_no_seed_answered_at_its_start_goes_on_asking_them() {
    // It is no seed and does not vote, so after a restart of all at other addresses nobody knew
    // where it was, and it knew of nobody: it stayed out for ever.
    let mut cluster = Cluster::of(4);
    for (number, address) in ADDRESSES.into_iter().take(4).enumerate() {
        cluster.start(number, address).await;
    }
    cluster.reaches(|table| up(table) == 4).await;
    for number in 0..4 {
        cluster.stop(number).await;
    }
    cluster.seeds = vec!["a:0".to_owned(), "b:0".to_owned()];
    for number in [3, 2] {
        cluster.start(number, ["a:0", "b:0", "c:0", "d:0"][number]).await;
    }
    // Longer than they wait for seeds at their start.
    clock::sleep(PROBE_LIMIT).await;
    for number in [1, 0] {
        cluster.start(number, ["a:0", "b:0", "c:0", "d:0"][number]).await;
    }
    let moved = |table: &State| table.nodes.values().all(|member| member.addresses.bus.len() == 3);
    cluster.reaches(|table| up(table) == 4 && moved(table)).await;
}

#[test]
fn each_change_of_membership_is_one_line_and_nothing_else_is() {
    let mut old = State::new();
    let announcement = Announcement {
        incarnation: Incarnation(1),
        addresses: NodeAddresses { bus: "a:0".to_owned(), ..NodeAddresses::default() },
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    };
    let mut index = 0;
    let mut change = |entry: Entry| {
        index += 1;
        let new = {
            let mut new = old.clone();
            assert!(super::super::table::apply(&mut new, index, &entry).is_success());
            new
        };
        let lines = differences(&old, &new);
        old = new;
        lines
    };
    let (one, two) = (NodeId(1), NodeId(2));
    let create =
        Entry::Create { cluster: ClusterId(1), node: one, announcement: announcement.clone() };
    assert_eq!(change(create).len(), 1);
    let join = Entry::NodeJoin { node: two, announcement: announcement.clone() };
    assert_eq!(change(join.clone()), ["node 0000000000000002 at a:0 has joined, and is up"]);
    assert_eq!(change(join), [""; 0]);
    let down = Entry::NodeDown { node: two, incarnation: Incarnation(1) };
    assert_eq!(change(down), ["node 0000000000000002 at a:0 is down"]);
    let mut moved = announcement;
    moved.incarnation = Incarnation(2);
    let up = Entry::NodeUp { node: two, replaces: Incarnation(1), announcement: moved };
    assert_eq!(change(up), ["node 0000000000000002 at a:0 is up"]);
}

/// Carries out the moves of a table as the nodes will: every step is an entry.
async fn make_moves(cluster: &Cluster) {
    let Some(node) = cluster.running().find(|node| node.standing().claims_lead) else { return };
    let table = Arc::clone(&node.table().borrow());
    let mut steps = tokio::task::JoinSet::new();
    for (partition, at) in table.numbered() {
        let (Some(joining), Some(from)) = (at.joining, at.primary) else { continue };
        let (move_id, to, sequence) = (joining.move_id, joining.node, StreamSequence::default());
        let change = match joining.phase {
            MovePhase::Copying => Change::JoinIsr { move_id },
            MovePhase::InSync => Change::Switch { move_id, from, to, sequence },
            MovePhase::Dropping => Change::ShrinkIsr { remove: joining.drop.unwrap() },
        };
        let entry = Entry::Partition { partition, expect_epoch: at.epoch, change };
        let node = node.clone();
        steps.spawn(async move { node.propose(entry, PROPOSE_LIMIT).await });
    }
    while steps.join_next().await.is_some() {}
}

impl Cluster {
    /// Makes moves until the table of all that run is as wanted.
    async fn moves_until(&self, wanted: impl Fn(&State) -> bool) {
        let reached = async {
            loop {
                let is_wanted = |node: &Consensus| wanted(&node.table().borrow());
                if self.running().all(is_wanted) {
                    return;
                }
                make_moves(self).await;
                clock::sleep(Duration::from_millis(10)).await;
            }
        };
        if clock::within(Some(LIMIT), reached).await.is_none() {
            let standing =
                |node: &Consensus| (node.standing(), node.table().borrow().nodes.clone());
            panic!("not reached: {:#?}", self.running().map(standing).collect::<Vec<_>>());
        }
    }

    fn place_of(&self, node: NodeId) -> usize {
        let is_it = |at: &Option<Node>| at.as_ref().is_some_and(|at| at.consensus.node() == node);
        self.nodes.iter().position(is_it).unwrap()
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |node: &&Consensus| node.standing().claims_lead;
        self.running().find(leads).map(Consensus::node)
    }

    /// Lets a node leave, and waits until its membership has ended by itself.
    async fn drain(&mut self, place: usize) {
        let leaving = self.nodes[place].as_ref().unwrap().consensus.clone();
        let entry = Entry::NodeLeaving { node: leaving.node() };
        let left = async {
            while leaving.propose(entry.clone(), PROPOSE_LIMIT).await.is_err() {}
            while !self.nodes[place].as_ref().unwrap().running.is_finished() {
                make_moves(self).await;
                clock::sleep(Duration::from_millis(10)).await;
            }
        };
        let left = clock::within(Some(LIMIT), left).await;
        left.unwrap_or_else(|| panic!("it stays: {:#?}", leaving.standing()));
        let node = self.nodes[place].as_mut().unwrap();
        assert_eq!((&mut node.running).await.unwrap().unwrap(), Left);
        assert_eq!(*node.lease.borrow(), Lease::default());
        self.stop(place).await;
    }
}

fn shares(table: &State) -> Vec<usize> {
    let owned = |node| table.partitions.iter().filter(|at| at.primary == Some(node)).count();
    table.nodes.keys().copied().map(owned).collect()
}

fn is_settled(table: &State) -> bool {
    !super::super::leader::is_open(table)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_has_its_lease_at_once_also_after_a_restart() {
    let mut cluster = Cluster::of(1);
    cluster.seeds = vec![];
    for _ in 0..2 {
        cluster.start(0, "a:0").await;
        let lease = &mut cluster.nodes[0].as_mut().unwrap().lease;
        let leased = lease.wait_for(|lease| lease.is_valid(Ticks::now()));
        clock::within(Some(LIMIT), leased).await.expect("a lease").unwrap();
        cluster.stop(0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_loses_its_lease_and_the_others_keep_theirs() {
    let mut cluster = Cluster::of(3);
    for (number, address) in ADDRESSES.into_iter().take(3).enumerate() {
        cluster.start(number, address).await;
    }
    let has_voters = |node: &Consensus| {
        let standing = node.standing();
        standing.voters.len() == 3 && !standing.is_changing
    };
    cluster.moves_until(|table| up(table) == 3 && is_settled(table)).await;
    let all_vote = async {
        while !cluster.running().all(has_voters) {
            clock::sleep(Duration::from_millis(50)).await;
        }
    };
    clock::within(Some(LIMIT), all_vote).await.expect("all three vote");
    for node in cluster.nodes.iter_mut().flatten() {
        let leased = node.lease.wait_for(|lease| lease.is_valid(Ticks::now()));
        clock::within(Some(LIMIT), leased).await.expect("a lease").unwrap();
    }
    // Once the leader is cut off, and once another one.
    for is_leader in [true, false] {
        let leader = cluster.leader().unwrap();
        let ids: Vec<NodeId> = cluster.running().map(Consensus::node).collect();
        let alone = *ids.iter().find(|node| (**node == leader) == is_leader).unwrap();
        let place = cluster.place_of(alone);
        cluster.network.isolate(alone);
        let before = Ticks::now();
        let lease = &mut cluster.nodes[place].as_mut().unwrap().lease;
        let until = lease.borrow().until.unwrap();
        assert!(until <= before.after(LEASE), "it lasts no longer than from the last question");
        let ended = lease.wait_for(|lease| lease.until.is_none());
        clock::within(Some(LIMIT), ended).await.expect("its lease ends").unwrap();
        for other in ids.into_iter().filter(|node| *node != alone) {
            let place = cluster.place_of(other);
            let lease = &mut cluster.nodes[place].as_mut().unwrap().lease;
            let renewed = lease.wait_for(|lease| lease.until > Some(before.after(LEASE)));
            clock::within(Some(LIMIT), renewed).await.expect("it is renewed").unwrap();
        }
        cluster.network.heal();
        let lease = &mut cluster.nodes[place].as_mut().unwrap().lease;
        let leased = lease.wait_for(|lease| lease.is_valid(Ticks::now()));
        clock::within(Some(LIMIT), leased).await.expect("a lease again").unwrap();
        cluster.reaches(|table| up(table) == 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_and_then_the_one_that_votes_leaves() {
    for voter_leaves in [true, false] {
        let mut cluster = Cluster::of(2);
        for (number, address) in ADDRESSES.into_iter().take(2).enumerate() {
            cluster.start(number, address).await;
        }
        cluster.moves_until(|table| up(table) == 2 && is_settled(table)).await;
        let leader = cluster.place_of(cluster.leader().unwrap());
        let leaving = if voter_leaves { leader } else { 1 - leader };
        cluster.drain(leaving).await;
        let stays = cluster.nodes[1 - leaving].as_ref().unwrap().consensus.clone();
        let table = cluster.reaches(|table| table.nodes.len() == 1).await;
        assert_eq!(shares(&table), [1024]);
        let alone = async {
            while !stays.standing().voters.iter().eq([&stays.node()])
                || !stays.standing().learners.is_empty()
            {
                clock::sleep(Duration::from_millis(50)).await;
            }
        };
        clock::within(Some(LIMIT), alone).await.expect("raft's group is this node alone");
        let last = Entry::NodeLeaving { node: stays.node() };
        let refused = Ok(Outcome::Refused(Refusal::LastDataNode(stays.node())));
        assert_eq!(stays.propose(last, LIMIT).await, refused);
        // A process that is started again with the directory of a node that has left is told so.
        cluster.start(leaving, "again:0").await;
        let told = &mut cluster.nodes[leaving].as_mut().unwrap().running;
        let told = clock::within(Some(LIMIT), told).await.expect("it is told");
        assert_eq!(told.unwrap().unwrap(), Left);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_leave_one_after_the_other_until_one_node_is_left() {
    let mut cluster = Cluster::of(4);
    for (number, address) in ADDRESSES.into_iter().take(4).enumerate() {
        cluster.start(number, address).await;
    }
    cluster.moves_until(|table| up(table) == 4 && is_settled(table)).await;
    assert_eq!(shares(&cluster.running().next().unwrap().table().borrow()), [256; 4]);
    for left in [3, 2, 1] {
        let leader = async {
            loop {
                match cluster.leader() {
                    Some(leader) => return leader,
                    None => clock::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let leader = clock::within(Some(LIMIT), leader).await.expect("a leader");
        cluster.drain(cluster.place_of(leader)).await;
        cluster.reaches(|table| table.nodes.len() == left && up(table) == left).await;
    }
}
