//! The node as its connections see it: shared, and the same on every thread.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::actors::shard::ShardHandle;

/// What all connections of a node share.
pub struct Node {
    /// The shards by index.
    pub shards: Vec<ShardHandle>,
    next_client: AtomicU64,
}

impl Node {
    /// Returns a node of these shards.
    pub fn new(shards: Vec<ShardHandle>) -> Self {
        Node { shards, next_client: AtomicU64::new(1) }
    }

    /// Returns a number for a new connection.
    pub fn next_client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }
}
