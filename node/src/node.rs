//! The node as its connections see it: shared, and the same on every thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use crate::actors::oplog::LogHandle;
use crate::actors::shard::{ShardHandle, Stopped};
use crate::clock::{self, Ticks};
use crate::cluster::view::{Cluster, ClusterView};
use crate::command::TABLE;
use crate::config::{Config, LiveConfig};
use crate::files;
use crate::keyspace::{KeyHasher, ShardId};
use crate::monitor::Monitor;
use crate::oplog::load::LoadProgress;
use crate::records::UnixMillis;
use crate::server::counters::{CommandCounters, Counters, ErrorCounters};
use crate::server::pause::Pause;
use crate::server::registry::Registry;
use crate::shard::holds::Ticket;
use crate::shard::memory::MemoryUsage;

/// The Redis whose commands and replies this node has; clients decide by it what they may use.
pub const REDIS_VERSION: &str = "7.2.4";

/// What all connections of a node share.
pub struct Node {
    /// The shards by index.
    pub shards: Vec<ShardHandle>,
    /// The operation log, if the node has one.
    pub log: Option<LogHandle>,
    /// The rest, which is there before the shards are.
    pub parts: NodeParts,
    /// The wish that the node stops.
    pub stop: Arc<Stop>,
    /// Whether a compaction begins when the one under way ends.
    pub compaction_scheduled: AtomicBool,
    tickets: AtomicU64,
}

impl std::ops::Deref for Node {
    type Target = NodeParts;

    fn deref(&self) -> &NodeParts {
        &self.parts
    }
}

/// TCP ports that a node listens on, as the system gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For any client.
    pub client: u16,
    /// For clients that know the slots.
    pub direct: u16,
    /// For other nodes.
    pub bus: u16,
    /// For operators, if there is one.
    pub http: Option<u16>,
}

/// What a node is made of beside its shards.
pub struct NodeParts {
    /// The configuration, which `CONFIG SET` changes.
    pub config: Arc<LiveConfig>,
    /// How keys are hashed.
    pub hasher: KeyHasher,
    /// What the shards use for keys.
    pub memory: Arc<MemoryUsage>,
    /// The most bytes that keys and clients' buffers have taken.
    pub memory_peak: AtomicU64,
    /// How far the rebuilding from the log has come.
    pub loading: Arc<LoadProgress>,
    /// The connected clients.
    pub clients: Arc<Registry>,
    /// What connections count.
    pub counters: Counters,
    /// What commands count that run on their connection, and refusals of all commands.
    pub commands: CommandCounters,
    /// Errors that connections answered with, by code.
    pub errors: ErrorCounters,
    /// What was slow.
    pub monitor: Arc<Monitor>,
    /// `CLIENT PAUSE`.
    pub pause: Pause,
    /// Number of this run: 40 hexadecimal digits.
    pub run_id: String,
    /// TCP ports that clients connect to.
    pub ports: Ports,
    /// The cluster, as far as this node knows.
    pub cluster: Cluster,
    /// When the node started.
    pub started: UnixMillis,
    /// The same in monotonic time.
    pub started_ticks: Ticks,
}

impl NodeParts {
    /// Returns the parts of a node with this many threads that sees the cluster like this.
    pub fn new(config: Arc<LiveConfig>, threads: usize, ports: Ports, view: ClusterView) -> Self {
        let digits = || format!("{:016x}", clock::random_seed());
        let mut run_id = digits() + &digits() + &digits();
        run_id.truncate(40);
        let clients: Arc<Registry> = Arc::default();
        let monitor = Arc::new(Monitor::new(clients.clone(), &config.current()));
        let cluster = Cluster::new(view);
        NodeParts {
            config,
            hasher: KeyHasher::new(clock::random_seed()),
            memory: Arc::new(MemoryUsage::new(threads)),
            memory_peak: AtomicU64::new(0),
            loading: Arc::default(),
            clients,
            monitor,
            counters: Counters::new(threads),
            commands: CommandCounters::new(TABLE.len()),
            errors: ErrorCounters::default(),
            pause: Pause::default(),
            run_id,
            ports,
            cluster,
            started: clock::now(),
            started_ticks: Ticks::now(),
        }
    }
}

impl Node {
    /// Returns a node of these shards, which ends when `stop` says so.
    pub fn new(
        parts: NodeParts,
        shards: Vec<ShardHandle>,
        log: Option<LogHandle>,
        stop: Arc<Stop>,
    ) -> Self {
        Node {
            shards,
            log,
            parts,
            stop,
            compaction_scheduled: AtomicBool::new(false),
            tickets: AtomicU64::new(1),
        }
    }

    /// Waits until every write executed before survives a power cut.
    ///
    /// # Errors
    /// Why the log cannot promise it; so too where the node has none.
    pub async fn sync_log(&self) -> Result<(), String> {
        let log = self.log.as_ref().ok_or("the node keeps no log")?;
        for shard in &self.shards {
            shard.hand_over().await.map_err(|stopped| stopped.to_string())?;
        }
        let (reply, receiver) = oneshot::channel();
        log.sync(reply);
        receiver.await.unwrap_or_else(|_| Err(Stopped.to_string()))?;
        match log.status.figures().is_behind {
            true => Err("the log lacks writes until a snapshot is made".to_owned()),
            false => Ok(()),
        }
    }

    /// Returns the shard that a slot belongs to.
    pub fn shard_of(&self, slot: u16) -> &ShardHandle {
        &self.shards[usize::from(ShardId::owner_of(slot, self.shards.len() as u16))]
    }

    /// Returns a number for a new hold.
    pub fn next_ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the log is being compacted.
    pub fn is_compacting(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.status.figures().compacting)
    }

    /// Open files that are kept from clients, with this configuration and the present cluster.
    pub fn files_reserved(&self, config: &Config) -> u64 {
        let members = self.cluster.view().table.nodes.len();
        files::reserved(self.shards.len(), files::peers(config, members))
    }

    /// Number of databases.
    pub fn databases(&self) -> u16 {
        self.config.current().databases
    }
}

/// The wish that the node stops: expressed by a command or a signal, waited for by the start-up
/// code.
#[derive(Default)]
pub struct Stop {
    asked: Notify,
    /// Since when.
    wanted: OnceLock<Ticks>,
    begun: AtomicBool,
}

impl Stop {
    /// Asks the node to stop.
    pub fn request(&self) {
        self.wanted.get_or_init(Ticks::now);
        self.asked.notify_one();
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        self.asked.notified().await;
    }

    /// Notes that the node ends, for whatever reason.
    pub fn begin(&self) {
        self.wanted.get_or_init(Ticks::now);
        self.begun.store(true, Ordering::Release);
    }

    /// Whether the node ends.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// How long ago it was first asked to, or began to; nothing before.
    pub fn elapsed(&self) -> Duration {
        self.wanted.get().map_or(Duration::ZERO, |wanted| Ticks::now().since(*wanted))
    }
}
