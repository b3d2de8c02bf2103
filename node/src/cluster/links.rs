//! Consensus and membership over the bus: their calls go out on it, and it answers for them.
//!
//! The calls are of class control; their kinds have the numbers of [`CallKind`], and [`LEASE`].

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use super::bus::{Bus, BusError, Class, Kind, PeerIdentity};
use super::lease::{LeaseAnswer, LeaseRequest};
use super::leases::{Asking, Leases};
use super::membership::{Peers, Probed, Probing, Unprobed};
use super::raft::{CallFuture, CallKind, Consensus, RaftTransport, TransportError};
use super::table::{ClusterId, NodeId};

/// A node asks the leader for a lease.
pub const LEASE: Kind = Kind::new(16);

/// A node's way to the others. The bus answers with the help of what is built on this, so it is
/// put in when it is there; until then calls fail.
#[derive(Debug, Default)]
pub struct BusLinks(OnceLock<BusHandle>);

struct BusHandle(Bus);

impl std::fmt::Debug for BusHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bus")
    }
}

impl BusLinks {
    /// Uses this bus from now on; a second one is ignored.
    pub fn connect(&self, bus: Bus) {
        self.0.get_or_init(|| BusHandle(bus));
    }

    fn bus(&self) -> Option<&Bus> {
        self.0.get().map(|handle| &handle.0)
    }
}

impl RaftTransport for BusLinks {
    fn call<'a>(
        &'a self,
        peer: NodeId,
        _bus: &'a str,
        kind: CallKind,
        body: Vec<u8>,
        timeout: Duration,
    ) -> CallFuture<'a> {
        Box::pin(async move {
            let unreachable = |reason: String| TransportError::Unreachable { peer, reason };
            let bus = self.bus().ok_or_else(|| unreachable("the bus has not started".into()))?;
            let (class, kind) = (Class::Control, Kind::new(kind.number()));
            let called = bus.call(peer, class, kind, Bytes::from(body), timeout).await;
            match called {
                Ok(answer) => Ok(answer.to_vec()),
                Err(BusError::TimedOut { after, .. }) => {
                    Err(TransportError::Timeout { peer, timeout: after })
                }
                Err(BusError::Failed { text, .. }) => {
                    Err(TransportError::Refused { peer, reason: text })
                }
                Err(error) => Err(unreachable(error.to_string())),
            }
        })
    }
}

impl Peers for BusLinks {
    fn probe<'a>(&'a self, address: &'a str, limit: Duration) -> Probing<'a> {
        Box::pin(async move {
            let bus = self.bus().ok_or(Unprobed::Silent)?;
            match bus.probe(address, limit).await {
                Ok(PeerIdentity { node, incarnation, cluster, .. }) => {
                    Ok(Probed { node, incarnation, cluster })
                }
                Err(error @ (BusError::NotDistcache { .. } | BusError::Refused { .. })) => {
                    Err(Unprobed::Refused(error.to_string()))
                }
                Err(_) => Err(Unprobed::Silent),
            }
        })
    }

    fn ask_lease(&self, leader: NodeId, request: LeaseRequest, limit: Duration) -> Asking<'_> {
        Box::pin(async move {
            let body = Bytes::from(request.encode());
            let called = self.bus()?.call(leader, Class::Control, LEASE, body, limit).await;
            LeaseAnswer::decode(&called.ok()?).ok()
        })
    }

    fn set_peers(&self, addresses: &BTreeMap<NodeId, String>) {
        if let Some(bus) = self.bus() {
            let addresses: HashMap<NodeId, String> =
                addresses.iter().map(|(node, address)| (*node, address.clone())).collect();
            bus.set_peers(&addresses);
        }
    }

    fn set_cluster(&self, cluster: ClusterId) {
        if let Some(bus) = self.bus() {
            bus.set_cluster(cluster);
        }
    }
}

/// Answers a request of class control that is consensus' or membership's; `None` if its kind is
/// neither's.
pub async fn serve(
    consensus: &Consensus,
    leases: &Leases,
    from: &PeerIdentity,
    kind: Kind,
    body: &[u8],
) -> Option<Result<Bytes, String>> {
    let is_member = is_member(consensus, from);
    if kind == LEASE {
        return Some(match is_member {
            true => serve_lease(leases, from, body).await,
            false => Err(format!("node {} is in no cluster, so it gets no lease", from.node)),
        });
    }
    let kind = CallKind::from_number(kind.number())?;
    let answer = match is_member {
        true => consensus.serve(kind, body).await,
        false => consensus.serve_stranger(from.node, kind, body).await,
    };
    Some(answer.map(Bytes::from))
}

/// Whether a node may ask for more than to be taken in. One that was may still use the connection
/// on which it asked for that.
pub fn is_member(consensus: &Consensus, from: &PeerIdentity) -> bool {
    from.cluster.is_some()
        || consensus.table().borrow().nodes.contains_key(&from.node)
        || consensus.standing().is_member(from.node)
}

/// A node gets a lease for the process that it has proved to be, and for no other.
async fn serve_lease(leases: &Leases, from: &PeerIdentity, body: &[u8]) -> Result<Bytes, String> {
    let request = LeaseRequest::decode(body).map_err(|error| error.to_string())?;
    if (request.node, request.incarnation) != (from.node, from.incarnation) {
        return Err(format!("node {} asks for a lease of another process", from.node));
    }
    Ok(Bytes::from(leases.request(request).await.encode()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;

    use crate::cluster::bus::Threads;
    use distcache_recovery::raft_directory::RaftDirectory;
    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::*;
    use crate::clock::{self, Ticks};
    use crate::cluster::bus::{BusConfig, Handling, Service, unknown_kind};
    use crate::cluster::lease::Lease;
    use crate::cluster::leases::Reports;
    use crate::cluster::membership::Membership;
    use crate::cluster::table::{
        Announcement, Entry, Incarnation, NodeAddresses, Outcome, PartitionId, Role,
    };

    /// Longer than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    struct Answering(OnceLock<(Consensus, Leases)>);

    impl Service for Answering {
        fn handle(&self, from: PeerIdentity, class: Class, kind: Kind, body: Bytes) -> Handling {
            let parts = self.0.get().cloned();
            Box::pin(async move {
                let (consensus, leases) = parts.ok_or("the node is starting")?;
                let served = serve(&consensus, &leases, &from, kind, &body).await;
                served.unwrap_or_else(|| Err(unknown_kind(class, kind)))
            })
        }
    }

    struct Node {
        _dir: TempDir,
        bus: Bus,
        consensus: Consensus,
        leases: Leases,
        lease: watch::Receiver<Lease>,
    }

    #[derive(Debug)]
    struct Nothing;

    impl Reports for Nothing {
        fn partition_bytes(&self) -> Vec<(PartitionId, u64)> {
            Vec::new()
        }
    }

    async fn start(id: u64, listener: TcpListener, seeds: Vec<String>) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let directory = RaftDirectory::open(dir.path(), id).unwrap();
        let links = Arc::new(BusLinks::default());
        let transport: Arc<dyn RaftTransport> = Arc::clone(&links) as _;
        let consensus = Consensus::start(directory, transport).await.unwrap();
        let service = Arc::new(Answering(OnceLock::new()));
        let leases = Leases::new(consensus.clone());
        assert!(service.0.set((consensus.clone(), leases.clone())).is_ok());
        let address = listener.local_addr().unwrap().to_string();
        let (node, incarnation) = (NodeId(id), Incarnation(id));
        let config = BusConfig { node, incarnation, cluster: None, secret: None };
        let bus = Bus::start(config, listener, service, Threads::here()).unwrap();
        links.connect(bus.clone());
        let announcement = Announcement {
            incarnation,
            addresses: NodeAddresses { bus: address, ..NodeAddresses::default() },
            zone: String::new(),
            weight: 100,
            role: Role::Data,
        };
        let mut membership = Membership::new(
            consensus.clone(),
            leases.clone(),
            links,
            Arc::new(Nothing),
            seeds,
            announcement,
        );
        let lease = membership.lease();
        let keys = watch::Sender::new(Some(0)).subscribe();
        tokio::spawn(async move {
            membership.bootstrap(ClusterId(id.into()), keys).await.unwrap();
            // Ends with consensus.
            let _ = membership.run().await;
        });
        Node { _dir: dir, bus, consensus, leases, lease }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nodes_form_a_cluster_over_sockets_and_any_of_them_proposes() {
        let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listeners = [listener(), listener(), listener()];
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let seeds: Vec<String> = listeners[..2].iter().map(address).collect();
        let mut nodes = Vec::new();
        for (id, listener) in (1..).zip(listeners) {
            nodes.push(start(id, listener, seeds.clone()).await);
        }
        let joined = async {
            for node in &nodes {
                let mut table = node.consensus.table();
                table.wait_for(|table| table.nodes.len() == 3).await.unwrap();
            }
        };
        clock::within(Some(LIMIT), joined).await.expect("all three join");
        let leased = async {
            for node in &mut nodes {
                node.lease.wait_for(|lease| lease.is_valid(Ticks::now())).await.unwrap();
            }
        };
        clock::within(Some(LIMIT), leased).await.expect("all three have a lease");
        let leave = Entry::NodeLeaving { node: NodeId(2) };
        let outcome = nodes[2].consensus.propose(leave, LIMIT).await;
        assert_eq!(outcome, Ok(Outcome::Applied));
        for node in nodes {
            node.consensus.stop().await.unwrap();
            node.bus.stop(LIMIT).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stranger_can_join_and_do_nothing_else() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let node = start(1, listener, vec![]).await;
        let mut table = node.consensus.table();
        let created = table.wait_for(|table| table.cluster.is_some());
        clock::within(Some(LIMIT), created).await.unwrap().unwrap();
        let address = "127.0.0.1:9".parse().unwrap();
        let (id, incarnation) = (NodeId(5), Incarnation(5));
        let stranger = PeerIdentity { node: id, incarnation, cluster: None, address };
        let answer = |from: PeerIdentity, kind: Kind, body: Vec<u8>| {
            let (consensus, leases) = (node.consensus.clone(), node.leases.clone());
            async move { serve(&consensus, &leases, &from, kind, &body).await }
        };
        for kind in CallKind::ALL.map(|kind| Kind::new(kind.number())).into_iter().chain([LEASE]) {
            assert!(answer(stranger, kind, Vec::new()).await.unwrap().is_err());
        }
        assert!(answer(stranger, Kind::new(0), Vec::new()).await.is_none());
        let (node_id, other) = (NodeId(1), Incarnation(9));
        let request =
            LeaseRequest { node: node_id, incarnation: other, applied: 0, report: Vec::new() };
        let member = PeerIdentity { node: node_id, cluster: Some(ClusterId(1)), ..stranger };
        let refused = answer(member, LEASE, request.encode()).await.unwrap();
        assert!(refused.unwrap_err().contains("another process"));
        node.consensus.stop().await.unwrap();
        node.bus.stop(LIMIT).await;
    }
}
