//! What all shards and clients use together, and the limit (`maxmemory`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Ticks;
use crate::config::{Config, LiveConfig};
use crate::keyspace::Keyspace;
use crate::limits::EVICTED_KEYS_MAX;
use crate::monitor::Monitor;

/// Redis's refusal when memory is short and nothing may go.
pub const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// Bytes that the node accounts for, for everybody to read.
#[derive(Debug)]
pub struct MemoryUsage {
    /// What each shard uses for its keys.
    shards: Vec<Padded>,
    /// The buffers of all clients.
    clients: Padded,
}

/// A counter on a cache line of its own, as its shard writes it after every batch.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicUsize);

impl MemoryUsage {
    /// Returns the counters of so many shards.
    pub fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Padded::default()).collect();
        MemoryUsage { shards, clients: Padded::default() }
    }

    /// Bytes of all shards and all clients.
    pub fn total(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.0.load(Ordering::Relaxed));
        shards.sum::<usize>() + self.clients()
    }

    /// Bytes of the buffers of all clients.
    pub fn clients(&self) -> usize {
        self.clients.0.load(Ordering::Relaxed)
    }

    /// Counts that the buffers of a client take so many bytes instead of those before.
    pub fn change_clients(&self, before: usize, bytes: usize) {
        // Less is what wraps around.
        self.clients.0.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// A shard's view of memory and its limit.
pub struct MemoryGate {
    usage: Arc<MemoryUsage>,
    shard: usize,
    /// Bytes of what the shard receives and does not serve yet.
    staged: usize,
    live: Arc<LiveConfig>,
    generation: u64,
    config: Arc<Config>,
    monitor: Option<Arc<Monitor>>,
}

impl MemoryGate {
    /// Returns the view of shard number `shard`.
    pub fn new(usage: Arc<MemoryUsage>, shard: usize, live: Arc<LiveConfig>) -> Self {
        let config = live.current();
        // A generation that cannot be: the first `refresh` sets the keyspace up.
        let (staged, generation) = (0, u64::MAX);
        MemoryGate { usage, shard, staged, live, generation, config, monitor: None }
    }

    /// Tells the monitor of slow evictions from now on.
    pub fn set_monitor(&mut self, monitor: Arc<Monitor>) {
        self.monitor = Some(monitor);
    }

    /// Follows changes of the configuration. Costs one load where there are none.
    #[inline]
    pub fn refresh(&mut self, keyspace: &mut Keyspace) {
        let generation = self.live.generation();
        if generation != self.generation {
            self.generation = generation;
            self.config = self.live.current();
            keyspace.configure(&self.config);
        }
    }

    /// The configuration of this turn.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether there is a limit at all.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.config.maxmemory_bytes > 0
    }

    /// Evicts keys of this shard while the node is over its limit, a few at a time. Returns whether
    /// it is within the limit now, or on its way there.
    #[inline]
    pub fn make_room(&mut self, keyspace: &mut Keyspace) -> bool {
        self.publish(keyspace.used_bytes());
        let over = (self.usage.total() as u64).saturating_sub(self.config.maxmemory_bytes);
        over == 0 || self.evict(keyspace, over)
    }

    #[cold]
    fn evict(&mut self, keyspace: &mut Keyspace, over: u64) -> bool {
        let (policy, samples) = (self.config.maxmemory_policy, self.config.maxmemory_samples);
        let start = Ticks::now();
        let freed = keyspace.evict(policy, samples as usize, over as usize, EVICTED_KEYS_MAX);
        if let Some(monitor) = &self.monitor {
            monitor.note_event("eviction-cycle", Ticks::now().since(start));
        }
        self.publish(keyspace.used_bytes());
        freed > 0
    }

    /// Says how much this shard has received and does not serve yet.
    pub fn set_staged(&mut self, bytes: usize) {
        self.staged = bytes;
    }

    /// Publishes what this shard uses: `used` for the keys that it serves, and what is staged.
    #[inline]
    pub fn publish(&self, used: usize) {
        self.usage.shards[self.shard].0.store(used + self.staged, Ordering::Relaxed);
    }
}
