//! The bus: how nodes ask each other.
//!
//! A node has at most one connection to each peer in each class (control, replication, bulk), and
//! one a thread in class forward, on which it asks; the peer asks on connections of its own. A
//! connection is dialled at the first call, and again at the next call after it was lost, with
//! growing pauses in which calls fail at once. Many calls share it; replies come in any order.
//!
//! Each connection has its tasks on one runtime, see [`Threads`]; calls may come from any. The
//! rules of who talks to whom, and the bytes, are in [`distcache_protocol::peer`].
//!
//! Modules in reading order: this one, `service`, `error`, `link` and `dial` (calling),
//! `serve` and `admission` (answering), `wire`, `backoff`, `open` (what is open), [`limits`].

mod admission;
mod backoff;
mod dial;
mod error;
pub mod limits;
mod link;
mod open;
mod serve;
mod service;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use distcache_protocol::peer::{Identity, Local, VERSION_MAX};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use distcache_protocol::peer::{Class, Kind, Reason, Refusal, Secret};
pub use error::BusError;
pub use open::{Direction, OpenLink};
pub use service::{Handling, PeerIdentity, Service, unknown_kind};

use self::admission::Admissions;
use self::link::Link;
use self::open::OpenLinks;
use crate::clock;
use crate::cluster::table::{ClusterId, Incarnation, NodeId};
use crate::limits::WARNING_PAUSE;
use crate::logger::Seldom;

/// What a bus must know.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// This node.
    pub node: NodeId,
    /// This process.
    pub incarnation: Incarnation,
    /// The cluster, if the node is in one.
    pub cluster: Option<ClusterId>,
    /// What all nodes of the cluster know; without it, whoever reaches the port is a node.
    pub secret: Option<Secret>,
}

/// Where the tasks of connections run that are not of class replication or bulk: those are on the
/// runtime on which the bus was started.
#[derive(Debug, Clone)]
pub struct Threads {
    /// For class control.
    pub control: Handle,
    /// For class forward, by the connections' numbers, in turn; at least one.
    pub forward: Vec<Handle>,
}

impl Threads {
    /// All on the runtime that this is called on.
    pub fn here() -> Self {
        Threads { control: Handle::current(), forward: vec![Handle::current()] }
    }
}

/// The connections to and from other nodes. Clones are the same bus; it works until
/// [`Bus::stop`].
#[derive(Clone)]
pub struct Bus(Arc<Shared>);

struct Shared {
    node: NodeId,
    incarnation: Incarnation,
    secret: Option<Secret>,
    cluster: Mutex<Option<ClusterId>>,
    service: Arc<dyn Service>,
    runtime: Handle,
    threads: Threads,
    peers: Mutex<HashMap<NodeId, Peer>>,
    admissions: Mutex<Admissions>,
    open: OpenLinks,
    stopping: watch::Sender<bool>,
    /// Tasks of the answering side.
    serving: watch::Sender<usize>,
    /// Refused nodes.
    refused: Seldom,
    /// Connections that could not be accepted.
    not_accepted: Seldom,
}

struct Peer {
    address: watch::Sender<Arc<str>>,
    links: HashMap<Class, Arc<Link>>,
}

impl Bus {
    /// Starts answering on `listener`, and makes calls possible. Must be called on a runtime, which
    /// does what `threads` do not.
    ///
    /// # Errors
    /// The runtime does not take the listener.
    pub fn start(
        config: BusConfig,
        listener: std::net::TcpListener,
        service: Arc<dyn Service>,
        threads: Threads,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let shared = Shared::new(config, service, threads);
        let serving = Serving::new(shared.clone());
        tokio::spawn(serve::accept(listener, serving));
        Ok(Bus(shared))
    }

    /// Makes calls possible, and answers none: for a tool that is no node. Must be called on the
    /// runtime that shall do the work.
    pub fn client(config: BusConfig) -> Self {
        Bus(Shared::new(config, Arc::new(Nobody), Threads::here()))
    }

    /// Says which cluster this node is in, once it has joined one. Connections that there are
    /// stay.
    pub fn set_cluster(&self, cluster: ClusterId) {
        *locked(&self.0.cluster) = Some(cluster);
    }

    /// Says who the peers are, with the address of each one's bus as `host:port`. A peer that is
    /// not named any more, or has another address, loses its connections; calls that wait for a
    /// reply on them fail with [`BusError::Lost`].
    pub fn set_peers(&self, addresses: &HashMap<NodeId, String>) {
        let mut peers = locked(&self.0.peers);
        peers.retain(|node, _| addresses.contains_key(node));
        for (node, address) in addresses {
            let peer = peers.entry(*node).or_insert_with(|| Peer {
                address: watch::Sender::new(Arc::from(address.as_str())),
                links: HashMap::new(),
            });
            peer.address.send_if_modified(|known| {
                let is_new = **known != **address;
                if is_new {
                    *known = Arc::from(address.as_str());
                }
                is_new
            });
        }
    }

    /// Asks `peer`, and waits for its reply at most for `timeout`, connecting included.
    ///
    /// Requests are written in the order in which calls were first polled, as long as there is room
    /// for them; those that go in parts are passed by others. `timeout` begins anew where parts of
    /// a long message have moved meanwhile, so that its length has time. Dropping the future gives
    /// the call up; the peer may still carry it out.
    ///
    /// # Errors
    /// See [`BusError`]; [`BusError::is_outcome_unknown`] tells whether the peer may have done
    /// what was asked.
    pub async fn call(
        &self,
        peer: NodeId,
        class: Class,
        kind: Kind,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        let (bytes, max) = (body.len(), class.request_bytes_max(VERSION_MAX));
        if bytes > max {
            return Err(BusError::TooLong { bytes, class, max });
        }
        let link = self.link(peer, class)?;
        link.call(kind, body, timeout).await
    }

    fn link(&self, peer: NodeId, class: Class) -> Result<Arc<Link>, BusError> {
        if *self.0.stopping.borrow() {
            return Err(BusError::Stopped);
        }
        let mut peers = locked(&self.0.peers);
        let Peer { address, links } = peers.get_mut(&peer).ok_or(BusError::UnknownPeer(peer))?;
        let start = || Link::start(peer, class, address.subscribe(), self.0.clone());
        Ok(links.entry(class).or_insert_with(start).clone())
    }

    /// Asks who is at `address` (`host:port` of a bus): its id and process, and its cluster unless
    /// it is in none. The answer is this node itself if the address is its own; it may be of
    /// another cluster, or another process of this node.
    ///
    /// # Errors
    /// [`BusError::Unreachable`], also when `timeout` is over; [`BusError::NotDistcache`];
    /// [`BusError::Refused`], as when it has another secret.
    pub async fn probe(&self, address: &str, timeout: Duration) -> Result<PeerIdentity, BusError> {
        let probe = dial::dial(&self.0, address, Class::Control, None);
        match clock::within(Some(timeout), probe).await {
            Some(probed) => probed.map(|dialled| dialled.peer),
            None => {
                let why = format!("no answer within {} ms", timeout.as_millis());
                Err(BusError::Unreachable { address: address.to_owned(), why })
            }
        }
    }

    /// Returns the connections that are open now, in both directions.
    pub fn links(&self) -> Vec<OpenLink> {
        self.0.open.list()
    }

    /// Stops: no call and no connection begins any more; calls and handlers under way have
    /// `patience` to end, then all connections are closed.
    pub async fn stop(&self, patience: Duration) {
        self.0.stopping.send_replace(true);
        let links: Vec<Arc<Link>> = (locked(&self.0.peers).values())
            .flat_map(|peer| peer.links.values().cloned())
            .collect();
        let all_done = async {
            for link in &links {
                link.finish().await;
            }
            let mut serving = self.0.serving.subscribe();
            // An error means that the sender is gone, and with it all tasks.
            let _ = serving.wait_for(|tasks| *tasks == 0).await;
        };
        if clock::within(Some(patience), all_done).await.is_none() {
            log::warn!("stopping although requests of other nodes are not done");
        }
        locked(&self.0.peers).clear();
        *locked(&self.0.admissions) = Admissions::default();
    }
}

/// Answers where nothing listens.
struct Nobody;

impl Service for Nobody {
    fn handle(&self, _: PeerIdentity, class: Class, kind: Kind, _: Bytes) -> Handling {
        Box::pin(std::future::ready(Err(unknown_kind(class, kind))))
    }
}

impl Shared {
    fn new(config: BusConfig, service: Arc<dyn Service>, threads: Threads) -> Arc<Self> {
        Arc::new(Shared {
            node: config.node,
            incarnation: config.incarnation,
            secret: config.secret,
            cluster: Mutex::new(config.cluster),
            service,
            runtime: Handle::current(),
            threads,
            peers: Mutex::default(),
            admissions: Mutex::default(),
            open: OpenLinks::default(),
            stopping: watch::Sender::new(false),
            serving: watch::Sender::new(0),
            refused: Seldom::new(WARNING_PAUSE),
            not_accepted: Seldom::new(WARNING_PAUSE),
        })
    }

    /// Where the tasks of a connection run.
    fn runtime_of(&self, class: Class) -> &Handle {
        match class {
            Class::Control => &self.threads.control,
            Class::Replication | Class::Bulk => &self.runtime,
            Class::Forward(number) => {
                let forward = &self.threads.forward;
                &forward[usize::from(number) % forward.len()]
            }
        }
    }

    /// Returns what this node brings to a handshake.
    fn local(&self) -> io::Result<Local> {
        let identity = Identity {
            node: self.node.0,
            incarnation: self.incarnation.0,
            cluster: locked(&self.cluster).map(|cluster| cluster.0),
        };
        Ok(Local { identity, secret: self.secret.clone(), nonce: clock::nonce()? })
    }
}

/// Counts a task of the answering side while it runs.
struct Serving(Arc<Shared>);

impl Serving {
    fn new(shared: Arc<Shared>) -> Self {
        shared.serving.send_modify(|tasks| *tasks += 1);
        Serving(shared)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.send_modify(|tasks| *tasks -= 1);
    }
}

/// Locks what is never left half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
