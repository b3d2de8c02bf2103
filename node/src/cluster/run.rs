//! A node's part in its cluster, from its start to its end: the bus, consensus, membership and the
//! follower, started in this order and stopped in the other.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};
use distcache_recovery::raft_directory::{RaftDirectory, RaftDirectoryError};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::addresses;
use super::admin::serve::Admin;
use super::bus::{Bus, BusConfig, Secret, Threads};
use super::follow::{FollowError, Follower, partition_sizes};
use super::lease::Lease;
use super::leases::{Leases, Reports};
use super::links::BusLinks;
use super::membership::{Left, Membership, MembershipError};
use super::moves::source::Source;
use super::moves::target::Target;
use super::raft::{Consensus, ConsensusError, RaftTransport};
use super::service::NodeService;
use super::table::{Announcement, ClusterId, Incarnation, NodeId, PartitionId};
use crate::actors;
use crate::actors::membership::MembershipHandle;
use crate::clock;
use crate::node::Node;

/// How often the sizes of partitions are looked at, for the planner.
const LOOK_AT_SIZES: Duration = Duration::from_secs(1);

/// Why a node has no part in a cluster, or no more.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Its part in consensus on disk.
    #[error(transparent)]
    Directory(#[from] RaftDirectoryError),
    /// Consensus.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// Membership.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// What the table says cannot be carried out.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// A thread or a socket.
    #[error("the cluster's bus: {0}")]
    Io(#[from] io::Error),
}

/// What a process is to others.
#[derive(Debug, Clone)]
pub struct Process {
    /// The node, as its directory has it.
    pub node: NodeId,
    /// What it says of itself.
    pub announcement: Announcement,
    /// Whether no cluster has accepted the keys in its directory yet.
    pub is_new: bool,
}

/// A node's part in its cluster.
pub struct ClusterPart {
    node: Arc<Node>,
    process: Process,
    bus: Bus,
    consensus: Consensus,
    membership: MembershipHandle,
    lease: watch::Receiver<Lease>,
    /// The bus runs here, but for the calls of class control, which are with consensus, and those
    /// of class forward, which are where the clients are: neither copies nor commands delay a
    /// heartbeat.
    _threads: [Arbiter; 2],
}

impl ClusterPart {
    /// Starts to look for the cluster. `arbiters` are the threads that execute what clients of
    /// other nodes want.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn start(
        node: Arc<Node>,
        process: Process,
        directory: RaftDirectory,
        listener: TcpListener,
        arbiters: Vec<ArbiterHandle>,
    ) -> Result<Self, ClusterError> {
        let config = node.config.current();
        let threads = [actors::arbiter("bus")?, actors::arbiter("consensus")?];
        let [for_bus, for_consensus] = &threads;
        let links = Arc::new(BusLinks::default());
        let transport: Arc<dyn RaftTransport> = links.clone();
        let cluster = directory.identity().cluster.map(ClusterId);
        let starting =
            on(for_consensus.handle(), async move { Consensus::start(directory, transport).await });
        let consensus = starting.await??;
        let leases = on(for_consensus.handle(), {
            let consensus = consensus.clone();
            async move { Leases::new(consensus) }
        });
        let leases = leases.await?;
        let service = NodeService::new();
        let bus_config = BusConfig {
            node: process.node,
            incarnation: process.announcement.incarnation,
            cluster,
            secret: config.cluster_secret.as_ref().and_then(|secret| Secret::new(secret.reveal())),
        };
        let for_service = service.clone();
        let control = on(for_consensus.handle(), async { Handle::current() }).await?;
        let mut forward = Vec::new();
        for arbiter in &arbiters {
            forward.push(on(arbiter.clone(), async { Handle::current() }).await?);
        }
        let bus_threads = Threads { control, forward };
        let starting = on(for_bus.handle(), async move {
            Bus::start(bus_config, listener, for_service, bus_threads)
        });
        let bus = starting.await??;
        links.connect(bus.clone());
        let target = Arc::new(Target::new(node.clone(), consensus.clone()));
        let incarnation = process.announcement.incarnation;
        let admin =
            Admin::new(node.clone(), incarnation, bus.clone(), consensus.clone(), leases.clone());
        service.open(consensus.clone(), leases.clone(), node.clone(), target, admin);
        node.cluster.set_forward(Arc::new(bus.clone()));
        let for_info = bus.clone();
        node.cluster.set_links(move || for_info.links());
        let for_info = consensus.clone();
        node.cluster.set_standing(move || for_info.standing());
        let sizes = Arc::new(Sizes::default());
        actix_rt::spawn(watch_sizes(node.clone(), sizes.clone()));
        let seeds = addresses::seeds(&config, node.ports.bus);
        let announcement = process.announcement.clone();
        let membership =
            Membership::new(consensus.clone(), leases, links, sizes, seeds, announcement);
        let lease = membership.lease();
        let new = u128::from(clock::random_seed()) << 64 | u128::from(clock::random_seed());
        let membership =
            MembershipHandle::start(&for_consensus.handle(), membership, ClusterId(new));
        Ok(ClusterPart { node, process, bus, consensus, membership, lease, _threads: threads })
    }

    /// Becomes a member of the cluster, once its keys are there, and serves what is its own from
    /// then on. Returns `Left` where it hears that it is no member any more: it was removed, and
    /// started again.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn join(&mut self) -> Result<Option<Left>, ClusterError> {
        let keys = partition_sizes(&self.node).await.map_err(FollowError::from)?;
        self.membership.announce(keys.iter().map(|(_, size)| size.keys).sum()).await;
        let (node, consensus) = (self.node.clone(), self.consensus.clone());
        let source = Source::new(node.clone(), self.bus.clone(), consensus.clone());
        let incarnation: Incarnation = self.process.announcement.incarnation;
        let mut follower = Follower::new(node, consensus, Arc::new(source), incarnation);
        tokio::select! {
            begun = follower.begin(self.process.is_new) => begun?,
            ended = &mut self.membership.ended => return of_membership(ended).map(Some),
        }
        let lease = self.lease.clone();
        let mut held = lease.clone();
        let first_lease = held.wait_for(|lease| lease.until.is_some());
        // Whoever has asked so far hears that the node is loading; from now on, what is true.
        let _ = clock::within(Some(super::lease::LEASE), first_lease).await;
        let first_lease = *lease.borrow();
        follower.take_up(first_lease).await?;
        actix_rt::spawn(async move {
            // Ends with the shards or with consensus, and so with the node.
            let Err(error) = follower.run(lease).await;
            log::debug!(error = error.to_string().as_str(); "the table is followed no more");
        });
        Ok(None)
    }

    /// Waits until the node is no member any more.
    ///
    /// # Errors
    /// See [`ClusterError`]: it did not end in order.
    pub async fn ended(&mut self) -> Result<Left, ClusterError> {
        let ended = (&mut self.membership.ended).await;
        of_membership(ended)
    }

    /// Ends the node's part: it answers nobody any more. Nothing moves by that; others take it for
    /// down until it is back. Requests under way have `patience` to end.
    ///
    /// Dropping the future leaves consensus as a crash does, which it survives.
    pub async fn stop(self, patience: Duration) {
        self.bus.stop(patience).await;
        if let Err(error) = self.consensus.stop().await {
            log::warn!(error = error.to_string().as_str(); "consensus did not stop in order");
        }
    }
}

fn of_membership(
    ended: Result<Result<Left, MembershipError>, oneshot::error::RecvError>,
) -> Result<Left, ClusterError> {
    let ended = ended.map_err(|_| ConsensusError::Stopped("its thread has ended".to_owned()));
    Ok(ended??)
}

/// Runs a future on an arbiter, and returns its result.
async fn on<T: Send + 'static>(
    arbiter: ArbiterHandle,
    future: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    arbiter.spawn(async move {
        // Nobody waits where the start was given up.
        let _ = sender.send(future.await);
    });
    receiver.await.map_err(|_| io::Error::other("a thread has ended"))
}

/// Bytes of each partition here, as of a second ago.
#[derive(Debug, Default)]
struct Sizes(std::sync::Mutex<Vec<(PartitionId, u64)>>);

impl Reports for Sizes {
    fn partition_bytes(&self) -> Vec<(PartitionId, u64)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

async fn watch_sizes(node: Arc<Node>, sizes: Arc<Sizes>) {
    loop {
        // The node is stopping.
        let Ok(all) = partition_sizes(&node).await else { return };
        let all = all.iter().map(|(partition, size)| (*partition, size.bytes)).collect();
        *sizes.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = all;
        clock::sleep(LOOK_AT_SIZES).await;
    }
}
