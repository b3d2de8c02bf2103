//! The node as its connections see it: shared, and the same on every thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::actors::oplog::LogHandle;
use crate::actors::shard::ShardHandle;
use crate::config::LiveConfig;
use crate::keyspace::KeyHasher;
use crate::shard::holds::Ticket;

/// What all connections of a node share.
pub struct Node {
    /// The shards by index.
    pub shards: Vec<ShardHandle>,
    /// The operation log, if the node has one.
    pub log: Option<LogHandle>,
    /// The configuration, which `CONFIG SET` changes.
    pub config: Arc<LiveConfig>,
    /// How keys are hashed.
    pub hasher: KeyHasher,
    tickets: AtomicU64,
    next_client: AtomicU64,
}

impl Node {
    /// Returns a node of these shards.
    pub fn new(
        shards: Vec<ShardHandle>,
        log: Option<LogHandle>,
        config: Arc<LiveConfig>,
        hasher: KeyHasher,
    ) -> Self {
        Node {
            shards,
            log,
            config,
            hasher,
            tickets: AtomicU64::new(1),
            next_client: AtomicU64::new(1),
        }
    }

    /// Returns a number for a new connection.
    pub fn next_client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a number for a new hold.
    pub fn next_ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Number of databases.
    pub fn databases(&self) -> u16 {
        self.config.current().databases
    }
}
