//! The cluster as the request path knows it: which partitions this node serves, and who serves
//! the others.
//!
//! - [`ClusterView`] is a copy of the table seen from one node. Connections keep the present one
//!   and take another when its number has changed, which costs one load a turn.
//! - [`Ownership`] says for each partition whether its commands may be executed here now. Shards
//!   ask it before they execute, so a connection that has an old view changes nothing. A cluster
//!   of one pays one load a command for it. It is a byte a partition, so that there is room for
//!   more states than two.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::bus::OpenLink;
use super::fault;
use super::raft::Standing;
use super::table::{
    Announcement, ClusterId, Entry, NodeId, PARTITIONS, Partition, PartitionId, State, apply,
};
use crate::clock::{SharedTicks, Ticks};
use crate::keyspace::location::partition_of;
use crate::server::forward::Forward;

/// Who serves a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This node.
    Local,
    /// Another one.
    Remote(NodeId),
    /// Nobody now: it has no primary, that is down, or it is this node, which may not serve.
    Nobody,
}

/// The cluster as one node sees it.
#[derive(Debug)]
pub struct ClusterView {
    /// This node.
    pub myself: NodeId,
    /// The table.
    pub table: State,
    /// Whether this node may serve what is its own: it was in touch with a majority lately.
    leased: bool,
    owners: Box<[Owner]>,
    whole: bool,
}

impl ClusterView {
    /// Returns how node `myself` sees the table; `leased` is whether it may serve what is its own.
    pub fn new(myself: NodeId, table: State, leased: bool) -> Self {
        let owner = |(id, _): (PartitionId, &Partition)| match table.serving_owner(id) {
            Some(node) if node != myself => Owner::Remote(node),
            Some(_) if leased => Owner::Local,
            _ => Owner::Nobody,
        };
        let owners: Box<[Owner]> = table.numbered().map(owner).collect();
        let whole = owners.iter().all(|owner| *owner == Owner::Local);
        ClusterView { myself, table, leased, owners, whole }
    }

    /// Returns how a node sees a cluster that it creates alone: it serves everything.
    pub fn alone(cluster: ClusterId, node: NodeId, announcement: Announcement) -> Self {
        let mut table = State::new();
        let entry = Entry::Create { cluster, node, announcement };
        apply(&mut table, 1, &entry);
        ClusterView::new(node, table, true)
    }

    /// Who serves a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> Owner {
        self.owners[usize::from(partition_of(slot).0)]
    }

    /// Whether this node serves all slots.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether this node serves all slots, and there is none that could take some of them.
    pub fn is_alone(&self) -> bool {
        self.whole && self.table.nodes.len() == 1
    }

    /// Whether a partition is on its way to this node.
    fn is_coming(&self, partition: PartitionId) -> bool {
        let joining = self.table.partition(partition).and_then(|partition| partition.joining);
        joining.is_some_and(|joining| joining.node == self.myself)
    }

    /// Whether this node may serve what is its own.
    pub fn is_leased(&self) -> bool {
        self.leased
    }

    /// Where clients that know the slots reach a member. What this node does not know of itself
    /// is `local`: the address that the client who asks has connected to. Another node that has
    /// not said its address is reached where its bus is.
    pub fn direct(&self, node: NodeId, local: &str) -> (String, u16) {
        let Some(member) = self.table.nodes.get(&node) else { return (String::new(), 0) };
        let (host, port) = host_and_port(&member.addresses.direct);
        let (bus, _) = host_and_port(&member.addresses.bus);
        let host = match host {
            "" if node == self.myself || bus.is_empty() => local,
            "" => bus,
            host => host,
        };
        (host.to_owned(), port)
    }
}

/// Writes `host:port` as the table has it, an IPv6 address in brackets.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Reads `host:port`; what is missing is empty, or 0.
pub fn host_and_port(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, port.parse().unwrap_or(0))
}

/// Whether commands of a partition may be executed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Service {
    Here,
    Elsewhere,
}

/// Which partitions' commands may be executed here now; shared by all shards.
#[derive(Debug)]
pub struct Ownership {
    /// A [`Service`] for each partition.
    services: Box<[AtomicU8]>,
    /// How many are not served here.
    elsewhere: AtomicU32,
    /// Until when anything is served here.
    lease: SharedTicks,
}

impl Default for Ownership {
    /// Returns the ownership of a node that serves everything.
    fn default() -> Self {
        let service = |_| AtomicU8::new(Service::Here as u8);
        let services = (0..PARTITIONS).map(service).collect();
        let lease = SharedTicks::at(Ticks::NEVER);
        Ownership { services, elsewhere: AtomicU32::new(0), lease }
    }
}

impl Ownership {
    /// Whether all partitions are served here.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.elsewhere.load(Ordering::Acquire) == 0
    }

    /// Whether a slot is served here.
    #[inline]
    pub fn serves(&self, slot: u16) -> bool {
        let service = &self.services[usize::from(partition_of(slot).0)];
        service.load(Ordering::Acquire) == Service::Here as u8
    }

    /// Whether anything may be served at this time. Views say so too, but a process that stood
    /// still learns late that its view is old; who executes asks here.
    #[inline]
    pub fn is_leased(&self, now: Ticks) -> bool {
        now <= self.lease.get() || fault::is_off("lease")
    }

    /// How long anything may be served yet from this time on.
    pub fn lease_left(&self, now: Ticks) -> Duration {
        self.lease.get().since(now)
    }

    /// Says until when this node may serve what is its own; `None` is not now.
    pub fn set_lease(&self, until: Option<Ticks>) {
        self.lease.set(until.unwrap_or_else(Ticks::begin));
    }

    /// Refuses what this view does not have as served here, before this returns; grants nothing.
    pub fn withdraw(&self, view: &ClusterView) {
        let mut withdrawn = 0;
        for (service, owner) in self.services.iter().zip(&view.owners) {
            if *owner != Owner::Local {
                let before = service.swap(Service::Elsewhere as u8, Ordering::AcqRel);
                withdrawn += u32::from(before == Service::Here as u8);
            }
        }
        self.elsewhere.fetch_add(withdrawn, Ordering::AcqRel);
    }

    /// What is lost is refused before this returns. What is gained is served a moment later.
    fn follow(&self, view: &ClusterView) {
        // Not whole while it changes, so that no shard skips a partition that is lost.
        self.elsewhere.store(u32::MAX, Ordering::Release);
        let mut elsewhere = 0;
        for (service, owner) in self.services.iter().zip(&view.owners) {
            let now = if *owner == Owner::Local { Service::Here } else { Service::Elsewhere };
            elsewhere += u32::from(now == Service::Elsewhere);
            service.store(now as u8, Ordering::Release);
        }
        self.elsewhere.store(elsewhere, Ordering::Release);
    }
}

/// What became of the moves from this node, since it started.
#[derive(Debug, Default)]
pub struct MoveFigures {
    given: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    /// The longest that a partition was not served while it moved, in microseconds.
    frozen_max_us: AtomicU64,
    /// Bytes sent so far by the moves under way.
    sent: Mutex<BTreeMap<PartitionId, u64>>,
}

impl MoveFigures {
    /// Counts a partition that was given to another node.
    pub fn given(&self, bytes: u64, frozen: Option<Duration>) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let micros = frozen.map_or(0, |frozen| frozen.as_micros() as u64);
        self.frozen_max_us.fetch_max(micros, Ordering::Relaxed);
    }

    /// Counts a move that ended undecided.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many bytes of a partition have been sent; `None` when its move is over.
    pub fn set_sent(&self, partition: PartitionId, bytes: Option<u64>) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        match bytes {
            Some(bytes) => sent.insert(partition, bytes),
            None => sent.remove(&partition),
        };
    }

    /// The partitions that are on their way from here, with the bytes sent so far.
    pub fn sent(&self) -> BTreeMap<PartitionId, u64> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions given, moves that failed, bytes sent, and the longest freeze in microseconds.
    pub fn read(&self) -> [u64; 4] {
        [&self.given, &self.failed, &self.bytes, &self.frozen_max_us]
            .map(|figure| figure.load(Ordering::Relaxed))
    }
}

/// The present view, and the way to other nodes, for all threads.
pub struct Cluster {
    forward: OnceLock<Arc<dyn Forward>>,
    generation: AtomicU64,
    view: Mutex<Arc<ClusterView>>,
    ownership: Arc<Ownership>,
    /// Partitions that are here in full, and that the table is about to give to this node.
    expected: Mutex<BTreeSet<PartitionId>>,
    standing: OnceLock<Box<dyn Fn() -> Standing + Send + Sync>>,
    links: OnceLock<Box<dyn Fn() -> Vec<OpenLink> + Send + Sync>>,
    /// What became of the moves from this node.
    pub moves: MoveFigures,
}

impl Cluster {
    /// Begins with this view.
    pub fn new(view: ClusterView) -> Self {
        let ownership = Arc::<Ownership>::default();
        ownership.follow(&view);
        let (generation, view) = (AtomicU64::new(0), Mutex::new(Arc::new(view)));
        let moves = MoveFigures::default();
        let (forward, standing, links) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let expected = Mutex::default();
        Cluster { forward, generation, view, ownership, expected, standing, links, moves }
    }

    /// Says which way leads to other nodes; before that, clients hear which node has their keys.
    /// The first call counts.
    pub fn set_forward(&self, forward: Arc<dyn Forward>) {
        // A second way would be a second cluster.
        let _ = self.forward.set(forward);
    }

    /// The way to other nodes, if there is one.
    pub fn forward(&self) -> Option<&Arc<dyn Forward>> {
        self.forward.get()
    }

    /// Says whom to ask who leads and who votes; asking must not wait. The first call counts.
    pub fn set_standing(&self, standing: impl Fn() -> Standing + Send + Sync + 'static) {
        // A second one would be a second cluster.
        let _ = self.standing.set(Box::new(standing));
    }

    /// What this node knows of who leads and who votes, once it takes part in that.
    pub fn standing(&self) -> Option<Standing> {
        self.standing.get().map(|standing| standing())
    }

    /// Says whom to ask which connections of the bus are open; asking must not wait. The first
    /// call counts.
    pub fn set_links(&self, links: impl Fn() -> Vec<OpenLink> + Send + Sync + 'static) {
        // A second one would be a second bus.
        let _ = self.links.set(Box::new(links));
    }

    /// The open connections to and from other members.
    pub fn links(&self) -> Vec<OpenLink> {
        let mut links = self.links.get().map(|links| links()).unwrap_or_default();
        let view = self.view();
        links.retain(|link| view.table.nodes.contains_key(&link.peer));
        links
    }

    /// Returns a number that changes with every view. Read it before [`Cluster::view`]: then a
    /// change between the two is seen next time.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns the present view. Cost: an uncontended lock.
    pub fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.lock())
    }

    /// What the shards ask.
    pub fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }

    /// Replaces the view. When this returns, no shard begins a command of a partition that is not
    /// served here any more.
    pub fn publish(&self, view: ClusterView) {
        let mut present = self.lock();
        self.ownership.follow(&view);
        self.expected().retain(|&partition| view.is_coming(partition));
        *present = Arc::new(view);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Says that a partition is here in full, and about to be served here.
    pub fn expect(&self, partition: PartitionId) {
        let present = self.lock();
        if present.is_coming(partition) {
            self.expected().insert(partition);
        }
    }

    /// Whether a slot is about to be served here. Cost: an uncontended lock.
    pub fn expects(&self, slot: u16) -> bool {
        self.expected().contains(&PartitionId(partition_of(slot).0))
    }

    fn expected(&self) -> MutexGuard<'_, BTreeSet<PartitionId>> {
        // It changes by one call at a time, so it is sound even if a holder panicked.
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<ClusterView>> {
        // A view is replaced as a whole, so it is sound even if a holder panicked.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Incarnation, Joining, MoveId, MovePhase, NodeAddresses, Role, Then};
    use super::*;

    fn announcement(host: &str) -> Announcement {
        let direct = address(host, 2051);
        let addresses = NodeAddresses { direct, ..NodeAddresses::default() };
        let (incarnation, zone, weight, role) = (Incarnation(1), String::new(), 100, Role::Data);
        Announcement { incarnation, addresses, zone, weight, role }
    }

    fn alone() -> ClusterView {
        ClusterView::alone(ClusterId(9), NodeId(1), announcement("::1"))
    }

    /// The same cluster when node 2 has partition 7, and nobody has partition 8.
    fn two_nodes() -> State {
        let mut table = alone().table;
        let entry = Entry::NodeJoin { node: NodeId(2), announcement: announcement("host2") };
        apply(&mut table, 2, &entry);
        table.partitions[7].primary = Some(NodeId(2));
        table.partitions[8].primary = None;
        table
    }

    #[test]
    fn a_node_alone_serves_everything() {
        let cluster = Cluster::new(alone());
        assert!(cluster.view().is_whole() && cluster.ownership().is_whole());
        assert!((0..16384).all(|slot| cluster.view().owner(slot) == Owner::Local));
        assert_eq!(cluster.view().direct(NodeId(1), "local"), ("::1".to_owned(), 2051));
    }

    #[test]
    fn ownership_follows_what_is_published() {
        let cluster = Cluster::new(alone());
        let before = cluster.generation();
        cluster.publish(ClusterView::new(NodeId(1), two_nodes(), true));
        assert_ne!(cluster.generation(), before);
        let (view, ownership) = (cluster.view(), cluster.ownership());
        assert!(!view.is_whole() && !ownership.is_whole());
        for (slot, owner) in
            [(111, Owner::Local), (112, Owner::Remote(NodeId(2))), (128, Owner::Nobody)]
        {
            assert_eq!(view.owner(slot), owner);
            assert_eq!(ownership.serves(slot), owner == Owner::Local);
        }
        assert_eq!(view.direct(NodeId(2), "local"), ("host2".to_owned(), 2051));
        cluster.publish(alone());
        assert!(ownership.is_whole() && ownership.serves(112));
    }

    #[test]
    fn a_partition_is_expected_until_its_move_is_decided() {
        let cluster = Cluster::new(alone());
        let mut table = two_nodes();
        table.partitions[7].joining = Some(Joining {
            node: NodeId(1),
            incarnation: Incarnation(1),
            move_id: MoveId(3),
            then: Then::BecomePrimary,
            drop: None,
            phase: MovePhase::Copying,
            had_copy: false,
        });
        cluster.expect(PartitionId(7));
        assert!(!cluster.expects(112), "nothing is on its way");
        cluster.publish(ClusterView::new(NodeId(1), table.clone(), true));
        cluster.expect(PartitionId(7));
        assert!(cluster.expects(112) && !cluster.expects(128));
        cluster.publish(ClusterView::new(NodeId(1), table.clone(), true));
        assert!(cluster.expects(112), "another change of the table");
        table.partitions[7].joining = None;
        cluster.publish(ClusterView::new(NodeId(1), table, true));
        assert!(!cluster.expects(112));
    }

    #[test]
    fn a_node_that_does_not_know_its_address_is_where_its_bus_is() {
        let mut table = two_nodes();
        for member in table.nodes.values_mut() {
            member.addresses.direct = ":2051".to_owned();
            member.addresses.bus = "host2:12050".to_owned();
        }
        let view = ClusterView::new(NodeId(1), table, true);
        assert_eq!(view.direct(NodeId(1), "local"), ("local".to_owned(), 2051));
        assert_eq!(view.direct(NodeId(2), "local"), ("host2".to_owned(), 2051));
        assert_eq!(view.direct(NodeId(3), "local"), (String::new(), 0));
    }

    #[test]
    fn without_a_lease_nothing_of_its_own_is_served() {
        let view = ClusterView::new(NodeId(1), two_nodes(), false);
        assert_eq!(view.owner(0), Owner::Nobody);
        assert_eq!(view.owner(112), Owner::Remote(NodeId(2)));
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for (host, port) in [("::1", 5), ("10.0.0.1", 6), ("name", 7), ("", 8)] {
            assert_eq!(host_and_port(&address(host, port)), (host, port));
        }
        assert_eq!(host_and_port(""), ("", 0));
    }
}
