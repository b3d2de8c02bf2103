//! What the sections of `INFO`, and the commands about memory, are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::{self, Ticks};
use crate::cluster::bus::OpenLink;
use crate::command::{CommandError, TABLE};
use crate::config::Config;
use crate::keyspace::{DatabaseSize, KeyspaceStats};
use crate::node::Node;
use crate::process;
use crate::records::UnixMillis;
use crate::server::for_all_shards;
use crate::server::listen::Access;
use crate::server::registry::Client;
use crate::shard::CommandStats;

/// The figures of one moment.
pub(crate) struct Figures<'a> {
    /// The node.
    pub(crate) node: &'a Node,
    /// By which port it is asked.
    pub(crate) access: Access,
    /// Its configuration.
    pub(crate) config: Arc<Config>,
    /// The wall-clock time.
    pub(crate) now: UnixMillis,
    /// Seconds since the start.
    pub(crate) uptime_s: u64,
    /// The clients.
    pub(crate) clients: Vec<Arc<Client>>,
    /// Open connections to and from other nodes.
    pub(crate) links: Vec<OpenLink>,
    /// Sizes of the databases, all shards together.
    pub(crate) databases: Vec<DatabaseSize>,
    /// Counters of all shards together.
    pub(crate) keyspace: KeyspaceStats,
    /// Counters by index in the table, of shards and connections together.
    pub(crate) commands: Vec<CommandStats>,
    /// Error replies by code, of shards and connections together.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Bytes of keys and values.
    pub(crate) data_bytes: u64,
    /// Bytes of the clients' buffers.
    pub(crate) client_bytes: u64,
    /// Resident memory of the process in bytes.
    pub(crate) resident_bytes: u64,
}

/// What one shard contributes.
type ShardFigures =
    (Vec<DatabaseSize>, KeyspaceStats, Vec<CommandStats>, BTreeMap<String, u64>, usize);

impl<'a> Figures<'a> {
    /// Asks all shards.
    pub(crate) async fn gather(node: &'a Node) -> Result<Self, CommandError> {
        let shards: Vec<ShardFigures> = for_all_shards(node, |state| {
            let keyspace = &state.keyspace;
            let commands = state.commands.clone();
            let errors = state.errors.clone();
            (keyspace.sizes(), keyspace.stats, commands, errors, keyspace.used_bytes())
        })
        .await?;
        let clients = node.clients.all();
        let client_bytes = node.memory.clients() as u64;
        let mut figures = Figures {
            node,
            access: Access::Any,
            config: node.config.current(),
            now: clock::now(),
            uptime_s: Ticks::now().since(node.started_ticks).as_secs(),
            clients,
            links: node.cluster.links(),
            databases: vec![DatabaseSize::default(); node.databases().into()],
            keyspace: KeyspaceStats::default(),
            commands: connection_stats(node),
            errors: node.errors.get(),
            data_bytes: 0,
            client_bytes,
            resident_bytes: process::resident_bytes(),
        };
        shards.into_iter().for_each(|shard| figures.add(shard));
        node.memory_peak.fetch_max(figures.used_bytes(), Relaxed);
        Ok(figures)
    }

    fn add(&mut self, (sizes, stats, commands, errors, bytes): ShardFigures) {
        for (sum, size) in self.databases.iter_mut().zip(sizes) {
            add_size(sum, size);
        }
        self.keyspace.hits += stats.hits;
        self.keyspace.misses += stats.misses;
        self.keyspace.expired += stats.expired;
        self.keyspace.evicted += stats.evicted;
        self.keyspace.writes += stats.writes;
        for (sum, counted) in self.commands.iter_mut().zip(commands) {
            sum.calls += counted.calls;
            sum.raw_ticks += counted.raw_ticks;
            sum.rejected += counted.rejected;
            sum.failed += counted.failed;
            sum.times.merge(&counted.times);
        }
        for (code, count) in errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.data_bytes += bytes as u64;
    }

    /// Bytes that the node accounts for: keys, values and buffers of clients.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.data_bytes + self.client_bytes
    }

    /// Bytes of the buffers of connections to and from other nodes.
    pub(crate) fn link_bytes(&self) -> usize {
        self.links.iter().map(|link| link.buffer_bytes).sum()
    }

    /// The most that [`Figures::used_bytes`] has been.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.node.memory_peak.load(Relaxed)
    }

    /// Number of keys.
    pub(crate) fn keys(&self) -> usize {
        self.databases.iter().map(|database| database.keys).sum()
    }
}

/// Adds a shard's part of a database to those of the others.
fn add_size(sum: &mut DatabaseSize, size: DatabaseSize) {
    // The mean of all keys with a deadline: each shard's counts by how many it has. Deadlines may
    // be so far away that a few of them do not fit 64 bits.
    let total = |size: &DatabaseSize| u128::from(size.average_ttl_millis) * size.volatile as u128;
    let millis = total(sum) + total(&size);
    sum.keys += size.keys;
    sum.volatile += size.volatile;
    let mean = millis.checked_div(sum.volatile as u128).unwrap_or(0);
    // No mean is more than the most.
    sum.average_ttl_millis = mean as u64;
}

fn connection_stats(node: &Node) -> Vec<CommandStats> {
    let stats = |index: usize| {
        let counter = node.commands.of(index as u16);
        CommandStats {
            calls: counter.calls.load(Relaxed),
            raw_ticks: counter.raw_ticks.load(Relaxed),
            rejected: counter.rejected.load(Relaxed),
            failed: counter.failed.load(Relaxed),
            times: counter.times.get(),
        }
    };
    (0..TABLE.len()).map(stats).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_deadlines_that_never_come_is_a_number() {
        let far = DatabaseSize { keys: 3, volatile: 3, average_ttl_millis: i64::MAX as u64 };
        let mut sum = DatabaseSize::default();
        for _ in 0..2 {
            add_size(&mut sum, far);
        }
        assert_eq!((sum.keys, sum.volatile, sum.average_ttl_millis), (6, 6, i64::MAX as u64));
    }
}
