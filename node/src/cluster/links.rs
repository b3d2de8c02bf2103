//! Consensus and membership over the bus: their calls go out on it, and it answers for them.
//!
//! The calls are of class control; their kinds have the numbers of [`CallKind`].

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;

use super::bus::{Bus, BusError, Class, Kind, PeerIdentity};
use super::membership::{Peers, Probed, Probing, Unprobed};
use super::raft::{CallFuture, CallKind, Consensus, RaftTransport, TransportError};
use super::table::{ClusterId, NodeId};

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
                Ok(peer) => Ok(Probed { node: peer.node, cluster: peer.cluster }),
                Err(error @ (BusError::NotDistcache { .. } | BusError::Refused { .. })) => {
                    Err(Unprobed::Refused(error.to_string()))
                }
                Err(_) => Err(Unprobed::Silent),
            }
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
    from: &PeerIdentity,
    kind: Kind,
    body: &[u8],
) -> Option<Result<Bytes, String>> {
    let kind = CallKind::from_number(kind.number())?;
    // A node that was taken in may still use the connection on which it asked for that.
    let is_member = from.cluster.is_some()
        || consensus.table().borrow().nodes.contains_key(&from.node)
        || consensus.standing().is_member(from.node);
    let answer = match is_member {
        true => consensus.serve(kind, body).await,
        false => consensus.serve_stranger(from.node, kind, body).await,
    };
    Some(answer.map(Bytes::from))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;

    use distcache_recovery::raft_directory::RaftDirectory;
    use tempfile::TempDir;

    use super::*;
    use crate::clock;
    use crate::cluster::bus::{BusConfig, Handling, Service, unknown_kind};
    use crate::cluster::membership::Membership;
    use crate::cluster::table::{Announcement, Entry, Incarnation, NodeAddresses, Outcome, Role};

    /// Longer than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    struct Answering(OnceLock<Consensus>);

    impl Service for Answering {
        fn handle(&self, from: PeerIdentity, class: Class, kind: Kind, body: Bytes) -> Handling {
            let consensus = self.0.get().cloned();
            Box::pin(async move {
                let consensus = consensus.ok_or("the node is starting")?;
                let served = serve(&consensus, &from, kind, &body).await;
                served.unwrap_or_else(|| Err(unknown_kind(class, kind)))
            })
        }
    }

    struct Node {
        _dir: TempDir,
        bus: Bus,
        consensus: Consensus,
    }

    async fn start(id: u64, listener: TcpListener, seeds: Vec<String>) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let directory = RaftDirectory::open(dir.path(), id).unwrap();
        let links = Arc::new(BusLinks::default());
        let transport: Arc<dyn RaftTransport> = Arc::clone(&links) as _;
        let consensus = Consensus::start(directory, transport).await.unwrap();
        let service = Arc::new(Answering(OnceLock::new()));
        service.0.set(consensus.clone()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (node, incarnation) = (NodeId(id), Incarnation(id));
        let config = BusConfig { node, incarnation, cluster: None, secret: None };
        let bus = Bus::start(config, listener, service).unwrap();
        links.connect(bus.clone());
        let announcement = Announcement {
            incarnation,
            addresses: NodeAddresses { bus: address, ..NodeAddresses::default() },
            zone: String::new(),
            weight: 100,
            role: Role::Data,
        };
        let mut membership = Membership::new(consensus.clone(), links, seeds, announcement);
        tokio::spawn(async move {
            membership.bootstrap(ClusterId(id.into())).await.unwrap();
            // Ends with consensus.
            let _ = membership.run().await;
        });
        Node { _dir: dir, bus, consensus }
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
        for kind in CallKind::ALL {
            let answer = serve(&node.consensus, &stranger, Kind::new(kind.number()), &[]).await;
            assert!(answer.unwrap().is_err());
        }
        assert!(serve(&node.consensus, &stranger, Kind::new(0), &[]).await.is_none());
        node.consensus.stop().await.unwrap();
        node.bus.stop(LIMIT).await;
    }
}
