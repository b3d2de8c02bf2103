//! Which figure is which metric.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::families::{Distribution, Families};
use crate::clock::{self, Ticks};
use crate::cluster::bus::Direction;
use crate::cluster::table::{Role, Status};
use crate::cluster::view::Owner;
use crate::command::{Figures, Parts, TABLE, parts};
use crate::config::FsyncPolicy;
use crate::http::health::Health;
use crate::keyspace::location::SLOTS_PER_PARTITION;
use crate::node::REDIS_VERSION;
use crate::process;
use crate::shard::CommandStats;

/// Adds the metrics of one subject.
pub(super) type Section = fn(&Figures<'_>, &mut Families);

/// All of them.
pub(super) const ALL: &[Section] = &[
    process, clients, commands, errors, keyspace, memory, log, loading, cluster, moves, links, raft,
];

fn process(figures: &Figures<'_>, families: &mut Families) {
    let node = figures.node;
    let version = [("version", env!("CARGO_PKG_VERSION")), ("redis_version", REDIS_VERSION)];
    families.info("distcache_build_info", "The version, as labels; always 1.", &version);
    let started = Duration::from_millis(node.started.0);
    families.gauge("distcache_start_time_seconds", "When the node started, Unix time.", started);
    families.gauge(
        "distcache_uptime_seconds",
        "Time since the node started.",
        Ticks::now().since(node.started_ticks),
    );
    let times = process::cpu_times();
    families.counters(
        "distcache_cpu_seconds_total",
        "Processor time that the process took.",
        "mode",
        [("user", times.user), ("system", times.system)],
    );
    families.gauge("distcache_shards", "Shards, each with a thread.", node.shards.len());
    let is_ready = Health::of(node).obstacle().is_none();
    families.gauge("distcache_ready", "Whether /health/ready answers 200.", is_ready);
}

fn clients(figures: &Figures<'_>, families: &mut Families) {
    let counters = &figures.node.counters;
    let blocked = figures.clients.iter().filter(|client| client.blocked.load(Relaxed)).count();
    families.gauge("distcache_connected_clients", "Clients connected.", figures.clients.len());
    families.gauge("distcache_blocked_clients", "Clients that wait in a command.", blocked);
    families.gauge(
        "distcache_max_clients",
        "Clients that may be connected (maxclients).",
        u64::from(figures.config.maxclients),
    );
    families.counter(
        "distcache_connections_received_total",
        "Connections of clients accepted.",
        counters.connections.load(Relaxed),
    );
    families.counter(
        "distcache_connections_rejected_total",
        "Connections of clients refused because of maxclients.",
        counters.rejected_connections.load(Relaxed),
    );
    families.counters(
        "distcache_clients_closed_total",
        "Clients closed because a buffer of theirs was over its limit.",
        "buffer",
        [
            ("input", counters.input_limit_closed.load(Relaxed)),
            ("output", counters.output_limit_closed.load(Relaxed)),
        ],
    );
    let totals = counters.totals();
    families.counter(
        "distcache_network_input_bytes_total",
        "Bytes read from clients.",
        totals.input_bytes,
    );
    families.counter(
        "distcache_network_output_bytes_total",
        "Bytes written to clients.",
        totals.output_bytes,
    );
    families.counter(
        "distcache_commands_processed_total",
        "Commands of clients, refused ones included.",
        totals.commands,
    );
}

fn commands(figures: &Figures<'_>, families: &mut Families) {
    // A command appears when it is first sent, so that those that nobody uses cost nothing.
    let used: Vec<(&str, &CommandStats)> = (0..)
        .zip(&figures.commands)
        .filter(|(_, stats)| stats.calls + stats.rejected > 0)
        .map(|(index, stats)| (TABLE.full_name(index), stats))
        .collect();
    let each = |of: fn(&CommandStats) -> u64| {
        used.iter().map(move |(name, stats)| (*name, of(stats))).collect::<Vec<_>>()
    };
    families.counters(
        "distcache_command_calls_total",
        "Times a command was executed.",
        "command",
        each(|stats| stats.calls),
    );
    families.counters(
        "distcache_command_seconds_total",
        "Time that executing a command took.",
        "command",
        used.iter().map(|(name, stats)| (*name, clock::duration_of(stats.raw_ticks))),
    );
    let timed = used.iter().filter(|(_, stats)| stats.times.count() > 0);
    families.histograms(
        "distcache_command_duration_seconds",
        "How long executing a command took, while the option latency-tracking is on.",
        "command",
        timed.map(|(name, stats)| (*name, distribution(stats))),
    );
    families.counters(
        "distcache_command_failed_total",
        "Times a command was executed and answered with an error.",
        "command",
        each(|stats| stats.failed),
    );
    families.counters(
        "distcache_command_rejected_total",
        "Times a command was refused before it was executed.",
        "command",
        each(|stats| stats.rejected),
    );
}

fn distribution(stats: &CommandStats) -> Distribution {
    let up_to = stats.times.up_to_bounds().collect();
    // Not of all calls: some may have come while their times were not tracked.
    Distribution { sum: stats.times.sum(), count: stats.times.count(), up_to }
}

fn errors(figures: &Figures<'_>, families: &mut Families) {
    families.counters(
        "distcache_error_replies_total",
        "Replies that were errors, by the code they begin with.",
        "code",
        figures.errors.iter().map(|(code, count)| (code, *count)),
    );
}

fn keyspace(figures: &Figures<'_>, families: &mut Families) {
    let stats = &figures.keyspace;
    families.counter("distcache_keyspace_hits_total", "Lookups that found a key.", stats.hits);
    families.counter("distcache_keyspace_misses_total", "Lookups that found none.", stats.misses);
    families.counter(
        "distcache_keyspace_writes_total",
        "Changes of keys; CONFIG RESETSTAT leaves it.",
        stats.writes,
    );
    families.counter(
        "distcache_expired_keys_total",
        "Keys removed because their time was over.",
        stats.expired,
    );
    families.counter(
        "distcache_evicted_keys_total",
        "Keys removed because memory was short.",
        stats.evicted,
    );
    let databases = || (0..).map(|number: u16| number.to_string()).zip(&figures.databases);
    families.gauges(
        "distcache_keys",
        "Keys on this node.",
        "db",
        databases().map(|(number, database)| (number, database.keys)),
    );
    families.gauges(
        "distcache_expiring_keys",
        "Keys on this node that have a time to live.",
        "db",
        databases().map(|(number, database)| (number, database.volatile)),
    );
}

fn memory(figures: &Figures<'_>, families: &mut Families) {
    families.gauge(
        "distcache_memory_used_bytes",
        "Keys, values, and buffers of clients.",
        figures.used_bytes(),
    );
    families.gauge("distcache_memory_data_bytes", "Keys and values.", figures.data_bytes);
    families.gauge("distcache_memory_clients_bytes", "Buffers of clients.", figures.client_bytes);
    families.gauge(
        "distcache_memory_peak_bytes",
        "The most that distcache_memory_used_bytes was seen to be.",
        figures.peak_bytes(),
    );
    families.gauge(
        "distcache_memory_resident_bytes",
        "Memory of the process in the machine's memory.",
        figures.resident_bytes,
    );
    families.gauge(
        "distcache_memory_max_bytes",
        "Limit of keys and values (maxmemory); 0 is none.",
        figures.config.maxmemory_bytes,
    );
}

fn log(figures: &Figures<'_>, families: &mut Families) {
    let log = figures.node.log.as_ref();
    families.gauge("distcache_log_enabled", "Whether changes are logged.", log.is_some());
    let Some(log) = log else { return };
    let (status, now) = (&log.status, log.status.figures());
    let policy = status.policy();
    families.gauges(
        "distcache_log_fsync_policy",
        "When changes reach the disk: 1 for the policy in force.",
        "policy",
        FsyncPolicy::WORDS.iter().zip(FsyncPolicy::ALL).map(|(word, each)| (word, *each == policy)),
    );
    families.gauges(
        "distcache_log_bytes",
        "Bytes stored.",
        "part",
        [("frames", now.frame_bytes), ("snapshots", now.snapshot_bytes)],
    );
    families.gauge(
        "distcache_log_queued_bytes",
        "Bytes handed over and not stored yet.",
        status.queued_bytes(),
    );
    families.counter("distcache_log_records_total", "Records logged.", now.counters.records);
    families.counter(
        "distcache_log_stored_bytes_total",
        "Bytes stored for records, after compression.",
        now.counters.stored_bytes,
    );
    families.counter("distcache_log_syncs_total", "Successful syncs.", now.counters.syncs);
    families.gauge(
        "distcache_log_last_sync_timestamp_seconds",
        "When the last successful sync ended, Unix time; 0 before there was one.",
        Duration::from_millis(now.synced_at),
    );
    families.gauge(
        "distcache_log_last_sync_seconds",
        "How long the last sync took.",
        Duration::from_micros(now.sync_last_us),
    );
    families.gauge(
        "distcache_log_longest_sync_seconds",
        "How long the longest sync took.",
        Duration::from_micros(now.sync_longest_us),
    );
    families.gauge(
        "distcache_log_failed",
        "Whether writes are refused because they cannot be logged.",
        status.failure().is_some(),
    );
    families.gauge("distcache_log_compacting", "Whether the log is compacted now.", now.compacting);
    families.gauge(
        "distcache_log_compaction_failed",
        "Whether the last compaction failed.",
        now.compaction_failed,
    );
    families.gauge(
        "distcache_log_last_compaction_timestamp_seconds",
        "When the last compaction ended, Unix time; 0 before there was one.",
        now.compacted_at,
    );
}

fn loading(figures: &Figures<'_>, families: &mut Families) {
    let loading = &figures.node.loading;
    let ((records, records_total), (bytes, bytes_total)) = (loading.records(), loading.bytes());
    families.gauge("distcache_loading", "Whether the node is starting.", loading.is_active());
    families.gauges(
        "distcache_loading_records",
        "Records of the log at the start.",
        "which",
        [("read", records), ("all", records_total)],
    );
    families.gauges(
        "distcache_loading_bytes",
        "Bytes of the log at the start.",
        "which",
        [("read", bytes), ("all", bytes_total)],
    );
}

fn cluster(figures: &Figures<'_>, families: &mut Families) {
    let cluster = &figures.node.cluster;
    let view = cluster.view();
    let role = match figures.config.role {
        Role::Data => "data",
        Role::Witness => "witness",
    };
    let (node, of) = (view.myself.to_string(), view.table.cluster.unwrap_or_default().to_string());
    families.info(
        "distcache_node_info",
        "Which node this is, as labels; always 1.",
        &[("node", &node), ("cluster", &of), ("role", role)],
    );
    let members = |is: fn(&Status) -> bool| {
        view.table.nodes.values().filter(|member| is(&member.status)).count()
    };
    families.gauges(
        "distcache_cluster_members",
        "Members of the cluster.",
        "state",
        [
            ("up", members(|status| matches!(status, Status::Up))),
            ("leaving", members(|status| matches!(status, Status::Leaving))),
            ("down", members(|status| matches!(status, Status::Down { .. }))),
        ],
    );
    let Parts { served, receiving, giving } = parts(&view);
    families.gauge("distcache_cluster_partitions_served", "Partitions served here.", served);
    families.gauges(
        "distcache_cluster_moves",
        "Partitions on their way to this node, and from it.",
        "direction",
        [("in", receiving), ("out", giving)],
    );
    let first_slots = (0..distcache_protocol::slot::SLOTS).step_by(SLOTS_PER_PARTITION.into());
    let unserved = first_slots.filter(|slot| view.owner(*slot) == Owner::Nobody).count();
    families.gauge(
        "distcache_cluster_partitions_unserved",
        "Partitions of the cluster that, as far as this node knows, nobody serves.",
        unserved,
    );
    let lease = cluster.ownership().lease_left(Ticks::now());
    families.gauge(
        "distcache_cluster_lease_remaining_seconds",
        "How long this node may serve yet if it gets no other lease; 0 is not at all.",
        if view.is_leased() { lease } else { Duration::ZERO },
    );
}

fn moves(figures: &Figures<'_>, families: &mut Families) {
    let [given, failed, bytes, frozen_max_us] = figures.node.cluster.moves.read();
    families.counters(
        "distcache_cluster_moves_ended_total",
        "Moves of partitions from this node that have ended.",
        "result",
        [("done", given), ("failed", failed)],
    );
    families.counter("distcache_cluster_moved_bytes_total", "Bytes of moves that are done.", bytes);
    families.gauge(
        "distcache_cluster_longest_freeze_seconds",
        "The longest that a partition was not served while it moved.",
        Duration::from_micros(frozen_max_us),
    );
}

fn links(figures: &Figures<'_>, families: &mut Families) {
    let count = |is: Direction| figures.links.iter().filter(|link| link.direction == is).count();
    families.gauges(
        "distcache_cluster_links",
        "Open connections to and from other nodes, up to three a node and direction.",
        "direction",
        [Direction::To, Direction::From].map(|direction| (direction.name(), count(direction))),
    );
    families.gauge(
        "distcache_memory_cluster_links_bytes",
        "Buffers of connections to and from other nodes.",
        figures.link_bytes(),
    );
}

fn raft(figures: &Figures<'_>, families: &mut Families) {
    let cluster = &figures.node.cluster;
    let view = cluster.view();
    families.gauge(
        "distcache_cluster_table_version",
        "Index of the last entry in this node's table.",
        view.table.version,
    );
    let Some(standing) = cluster.standing() else { return };
    let is_leader = standing.leader == Some(view.myself);
    families.gauge("distcache_raft_is_leader", "Whether this node believes to lead.", is_leader);
    families.gauge(
        "distcache_raft_has_leader",
        "Whether it knows of one.",
        standing.leader.is_some(),
    );
    families.gauge("distcache_raft_voters", "Nodes that vote.", standing.voters.len());
    families.gauge("distcache_raft_term", "The term.", standing.term);
    families.gauge(
        "distcache_raft_applied_index",
        "Index of the last entry that this node has applied.",
        standing.applied.unwrap_or(0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_sums_the_times_that_it_counts() {
        let mut stats = CommandStats { calls: 3, raw_ticks: 1_000_000, ..CommandStats::default() };
        stats.times.add(40);
        let mut others = CommandStats::default();
        others.times.add(2);
        stats.times.merge(&others.times);
        let told = distribution(&stats);
        assert_eq!((told.count, told.sum), (2, clock::duration_of(42)));
    }
}
