//! The nodes of these tests, each with a thread, and how they reach each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::support::wire::Wire;
use actix_rt::{Arbiter, ArbiterHandle, System};
use bytes::Bytes;
use distcache_node::actors::shard::{Shard, ShardHandle};
use distcache_node::cluster::bus::{
    Bus, BusConfig, Class, Handling, Kind, PeerIdentity, Service, Threads,
};
use distcache_node::cluster::table::{
    Announcement, ClusterId, Entry, Incarnation, NodeAddresses, NodeId, Role, State, apply,
};
use distcache_node::cluster::view::{ClusterView, address};
use distcache_node::config::{LiveConfig, RawConfig};
use distcache_node::keyspace::{Keyspace, ShardId};
use distcache_node::node::{Node, NodeParts, Ports};
use distcache_node::server;
use distcache_node::server::forward::over_bus::FORWARD;
use distcache_node::server::forward::{Forward, ForwardError, Forwarded, execute};
use distcache_node::server::listen::Access;
use distcache_node::shard::ShardState;
use distcache_node::shard::memory::MemoryGate;
use distcache_protocol::slot::slot_of;
use tokio::net::TcpListener;

/// What a node does with batches that are sent to it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Answers,
    IsNotReached,
    IsSilent,
    IsTooNarrow,
}

/// Nodes, with a thread of each, that reach each other through memory, or by their buses if there
/// are any.
#[derive(Default)]
pub(crate) struct Network {
    pub(crate) nodes: Mutex<BTreeMap<NodeId, Reached>>,
    pub(crate) buses: Mutex<BTreeMap<NodeId, Bus>>,
    /// Batches that were to go from one to another.
    pub(crate) batches: AtomicUsize,
}

pub(crate) type Reached = (Arc<Node>, Manner);

/// A node's way to the others.
pub(crate) struct Way(Arc<Network>, NodeId);

impl Forward for Way {
    fn forward(&self, thread: usize, node: NodeId, batch: Vec<u8>) -> Forwarded {
        self.0.batches.fetch_add(1, Relaxed);
        if let Some(bus) = self.0.buses.lock().unwrap().get(&self.1) {
            return bus.forward(thread, node, batch);
        }
        let (node, manner) = self.0.nodes.lock().unwrap()[&node].clone();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Box::pin(async move {
            match manner {
                Manner::Answers => {
                    let replies = execute(&node, peer, batch.into()).await;
                    replies.map(Bytes::from).map_err(ForwardError::Unknown)
                }
                Manner::IsTooNarrow => Err(ForwardError::Unsendable("too long".to_owned())),
                Manner::IsNotReached => Err(ForwardError::NotSent("no route".to_owned())),
                Manner::IsSilent => Err(ForwardError::Unknown("no answer in 1 s".to_owned())),
            }
        })
    }
}

/// A node's answers to what comes by the bus.
pub(crate) struct Answering(Arc<Node>);

impl Service for Answering {
    fn handle(&self, from: PeerIdentity, _: Class, kind: Kind, body: Bytes) -> Handling {
        assert_eq!(kind, FORWARD);
        let node = self.0.clone();
        Box::pin(async move { execute(&node, from.address, body).await.map(Bytes::from) })
    }
}

pub(crate) struct Cluster {
    pub(crate) network: Arc<Network>,
    pub(crate) table: State,
    /// Where any client of each node connects.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where those connect that know the slots.
    pub(crate) directs: Vec<SocketAddr>,
}

pub(crate) const NODES: u64 = 3;
pub(crate) const SHARDS: usize = 2;

pub(crate) fn announcement(direct: &str) -> Announcement {
    Announcement {
        incarnation: Incarnation(1),
        addresses: NodeAddresses { direct: direct.to_owned(), ..NodeAddresses::default() },
        zone: String::new(),
        weight: 100,
        role: Role::Data,
    }
}

pub(crate) fn start_node(network: &Arc<Network>, id: NodeId) -> (SocketAddr, SocketAddr) {
    let (sender, receiver) = mpsc::channel();
    let network = network.clone();
    thread::spawn(move || {
        System::new().block_on(async move {
            let arbiters: Vec<Arbiter> = (0..SHARDS).map(|_| Arbiter::new()).collect();
            let handles: Vec<ArbiterHandle> = arbiters.iter().map(Arbiter::handle).collect();
            let live = Arc::new(LiveConfig::new(RawConfig::default(), None).unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let local = listener.local_addr().unwrap();
            let direct = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let direct_local = direct.local_addr().unwrap();
            let ports = Ports { client: local.port(), direct: 0, bus: 0, http: None };
            let view = ClusterView::alone(ClusterId(1), id, announcement(&address("127.0.0.1", 0)));
            let parts = NodeParts::new(live, handles.len(), ports, view);
            let shards = handles.iter().enumerate().map(|(index, arbiter)| {
                let id = ShardId { index: index as u16, count: handles.len() as u16 };
                let hasher = parts.hasher.clone();
                let gate = MemoryGate::new(parts.memory.clone(), index, parts.config.clone());
                let ownership = parts.cluster.ownership().clone();
                let monitor = parts.monitor.clone();
                ShardHandle::start(arbiter, move |inbox| {
                    let mut state = ShardState::new(Keyspace::new(id, 16, hasher), gate, None);
                    state.set_ownership(ownership);
                    state.set_monitor(monitor);
                    Shard::new(state, None, inbox)
                })
            });
            let shards = shards.collect();
            let node = Arc::new(Node::new(parts, shards, None, Arc::default()));
            node.cluster.set_forward(Arc::new(Way(network.clone(), id)));
            let entry = (node.clone(), Manner::Answers);
            network.nodes.lock().unwrap().insert(id, entry);
            sender.send((local, direct_local)).unwrap();
            actix_rt::spawn(server::accept(direct, Access::Direct, node.clone(), handles.clone()));
            server::accept(listener, Access::Any, node, handles).await;
        });
    });
    receiver.recv().unwrap()
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let network = Arc::<Network>::default();
        let mut table = State::new();
        let (mut addresses, mut directs) = (Vec::new(), Vec::new());
        for number in 1..=NODES {
            let (local, direct) = start_node(&network, NodeId(number));
            let announcement = announcement(&address("127.0.0.1", local.port()));
            let entry = match number {
                1 => Entry::Create { cluster: ClusterId(7), node: NodeId(1), announcement },
                _ => Entry::NodeJoin { node: NodeId(number), announcement },
            };
            apply(&mut table, number, &entry);
            addresses.push(local);
            directs.push(direct);
        }
        for (index, partition) in table.partitions.iter_mut().enumerate() {
            let owner = NodeId(1 + index as u64 % NODES);
            (partition.primary, partition.isr) = (Some(owner), vec![owner]);
        }
        let cluster = Cluster { network, table, addresses, directs };
        (1..=NODES).for_each(|node| cluster.tell(node));
        cluster
    }

    /// Tells a node what the table is now.
    pub(crate) fn tell(&self, node: u64) {
        let nodes = self.network.nodes.lock().unwrap();
        let view = ClusterView::new(NodeId(node), self.table.clone(), true);
        nodes[&NodeId(node)].0.cluster.publish(view);
    }

    pub(crate) fn behave(&self, node: u64, manner: Manner) {
        self.network.nodes.lock().unwrap().get_mut(&NodeId(node)).unwrap().1 = manner;
    }

    /// Starts a bus of each node, which knows those of the others; returns them in the nodes' order.
    pub(crate) fn start_buses(&self) -> Vec<(NodeId, String, Bus)> {
        let (sender, receiver) = mpsc::channel();
        for number in 1..=NODES {
            let (node, _) = self.network.nodes.lock().unwrap()[&NodeId(number)].clone();
            let sender = sender.clone();
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async move {
                    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                    let address = listener.local_addr().unwrap().to_string();
                    let config = BusConfig {
                        node: NodeId(number),
                        incarnation: Incarnation(number),
                        cluster: Some(ClusterId(7)),
                        secret: None,
                    };
                    let bus =
                        Bus::start(config, listener, Arc::new(Answering(node)), Threads::here())
                            .unwrap();
                    sender.send((NodeId(number), address, bus)).unwrap();
                    std::future::pending::<()>().await;
                });
            });
        }
        let mut buses: Vec<_> = (0..NODES).map(|_| receiver.recv().unwrap()).collect();
        let peers_of = |own: NodeId| {
            let others = buses.iter().filter(|(node, _, _)| *node != own);
            others.map(|(node, address, _)| (*node, address.clone())).collect()
        };
        buses.iter().for_each(|(node, _, bus)| bus.set_peers(&peers_of(*node)));
        buses.sort_by_key(|(node, _, _)| *node);
        buses
    }

    /// Lets nodes reach each other by their buses.
    pub(crate) fn go_by_bus(&self) {
        let buses = self.start_buses().into_iter().map(|(node, _, bus)| (node, bus));
        *self.network.buses.lock().unwrap() = buses.collect();
    }

    /// Keys that a node serves, each on the shard of its number.
    pub(crate) fn keys_by_shard(&self, node: u64) -> [String; SHARDS] {
        let shard_of = |key: &str| usize::from(slot_of(key.as_bytes()) / 16) % SHARDS;
        let key_on = |shard| {
            let mut keys = (0..).map(|i| format!("k{i}"));
            keys.find(|key| self.owner(key) == node && shard_of(key) == shard).unwrap()
        };
        std::array::from_fn(key_on)
    }

    pub(crate) fn connect(&self, node: u64) -> Wire {
        Wire::connect(self.addresses[node as usize - 1])
    }

    pub(crate) fn owner(&self, key: &str) -> u64 {
        let partition = usize::from(slot_of(key.as_bytes()) / 16);
        self.table.partitions[partition].primary.unwrap().0
    }

    /// A key that a node serves.
    pub(crate) fn key_of(&self, node: u64) -> String {
        (0..).map(|i| format!("k{i}")).find(|key| self.owner(key) == node).unwrap()
    }
}
