//! The sections of `INFO`. Fields that make no sense here, but that tools read, have the value
//! that Redis gives when the feature is unused.

use std::sync::atomic::Ordering::Relaxed;

use super::{Figures, Lines};
use crate::clock;
use crate::command::TABLE;
use crate::command::cluster::{Parts, parts, summary};
use crate::keyspace::DatabaseSize;
use crate::node::REDIS_VERSION;
use crate::process;
use crate::server::listen::Access;

/// Bytes as people read them: `1.50M`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.2}{}", UNITS[unit]) }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(super) fn server(figures: &Figures<'_>, lines: &mut Lines) {
    let (node, config) = (figures.node, &figures.config);
    let executable = std::env::current_exe().unwrap_or_default();
    let file = node.config.file().map(|file| file.display().to_string());
    lines.field("redis_version", REDIS_VERSION);
    lines.field("distcache_version", env!("CARGO_PKG_VERSION"));
    lines.field("redis_git_sha1", "00000000");
    lines.field("redis_git_dirty", 0);
    lines.field("redis_build_id", 0);
    lines.field("redis_mode", figures.access.redis_mode());
    lines.field("os", process::system_name());
    lines.field("arch_bits", usize::BITS);
    lines.field("monotonic_clock", "time-stamp counter or clock_gettime");
    lines.field("multiplexing_api", "epoll");
    lines.field("process_id", std::process::id());
    lines.field("process_supervised", "no");
    lines.field("run_id", &node.run_id);
    lines.field("tcp_port", node.ports.client);
    lines.field("direct_port", node.ports.direct);
    lines.field("http_port", node.ports.http.unwrap_or(0));
    lines.field("server_time_usec", clock::now_micros());
    lines.field("uptime_in_seconds", figures.uptime_s);
    lines.field("uptime_in_days", figures.uptime_s / 86_400);
    lines.field("hz", config.hz);
    lines.field("configured_hz", config.hz);
    lines.field("lru_clock", (figures.now.0 / 1000) & 0xff_ffff);
    lines.field("executable", executable.display());
    lines.field("config_file", file.unwrap_or_default());
    lines.field("io_threads_active", 0);
    lines.field("shards", node.shards.len());
}

pub(super) fn clients(figures: &Figures<'_>, lines: &mut Lines) {
    let most = |of: fn(&crate::server::registry::Client) -> usize| {
        figures.clients.iter().map(|client| of(client)).max().unwrap_or(0)
    };
    let blocked = figures.clients.iter().filter(|client| client.blocked.load(Relaxed)).count();
    lines.field("connected_clients", figures.clients.len());
    lines.field("cluster_connections", figures.links.len());
    lines.field("maxclients", figures.config.maxclients);
    let input = most(|client| client.input_bytes.load(Relaxed));
    lines.field("client_recent_max_input_buffer", input);
    let output = most(|client| client.output_bytes.load(Relaxed));
    lines.field("client_recent_max_output_buffer", output);
    lines.field("blocked_clients", blocked);
    lines.field("tracking_clients", 0);
    lines.field("clients_in_timeout_table", 0);
}

pub(super) fn memory(figures: &Figures<'_>, lines: &mut Lines) {
    let config = &figures.config;
    let (used, peak, resident) =
        (figures.used_bytes(), figures.peak_bytes(), figures.resident_bytes);
    let machine = process::machine_bytes();
    let fragmentation = ratio(resident, used);
    lines.field("used_memory", used);
    lines.field("used_memory_human", human(used));
    lines.field("used_memory_rss", resident);
    lines.field("used_memory_rss_human", human(resident));
    lines.field("used_memory_peak", peak);
    lines.field("used_memory_peak_human", human(peak));
    lines.field("used_memory_peak_perc", format!("{:.2}%", ratio(used, peak) * 100.0));
    lines.field("used_memory_overhead", figures.client_bytes);
    lines.field("used_memory_startup", 0);
    lines.field("used_memory_dataset", figures.data_bytes);
    let dataset = format!("{:.2}%", ratio(figures.data_bytes, used) * 100.0);
    lines.field("used_memory_dataset_perc", dataset);
    for name in ["allocator_allocated", "allocator_active"] {
        lines.field(name, used);
    }
    lines.field("allocator_resident", resident);
    lines.field("total_system_memory", machine);
    lines.field("total_system_memory_human", human(machine));
    for name in ["used_memory_lua", "used_memory_vm_eval", "used_memory_scripts_eval"] {
        lines.field(name, 0);
    }
    lines.field("used_memory_lua_human", human(0));
    for name in ["number_of_cached_scripts", "number_of_functions", "number_of_libraries"] {
        lines.field(name, 0);
    }
    lines.field("used_memory_scripts", 0);
    lines.field("used_memory_scripts_human", human(0));
    lines.field("maxmemory", config.maxmemory_bytes);
    lines.field("maxmemory_human", human(config.maxmemory_bytes));
    lines.field("maxmemory_policy", config.maxmemory_policy.name());
    for name in ["allocator_frag_ratio", "allocator_rss_ratio", "rss_overhead_ratio"] {
        lines.field(name, "1.00");
    }
    for name in ["allocator_frag_bytes", "allocator_rss_bytes", "rss_overhead_bytes"] {
        lines.field(name, 0);
    }
    lines.field("mem_fragmentation_ratio", format!("{fragmentation:.2}"));
    lines.field("mem_fragmentation_bytes", resident.saturating_sub(used));
    for name in [
        "mem_not_counted_for_evict",
        "mem_replication_backlog",
        "mem_total_replication_buffers",
        "mem_clients_slaves",
    ] {
        lines.field(name, 0);
    }
    lines.field("mem_clients_normal", figures.client_bytes);
    lines.field("mem_cluster_links", figures.link_bytes());
    let queued = figures.node.log.as_ref().map_or(0, |log| log.status.queued_bytes());
    lines.field("mem_aof_buffer", queued);
    lines.field("mem_allocator", "mimalloc");
    for name in ["active_defrag_running", "lazyfree_pending_objects", "lazyfreed_objects"] {
        lines.field(name, 0);
    }
}

pub(super) fn persistence(figures: &Figures<'_>, lines: &mut Lines) {
    let node = figures.node;
    let log = node.log.as_ref().map(|log| log.status.figures()).unwrap_or_default();
    let failure = node.log.as_ref().and_then(|log| log.status.failure());
    let saved = if log.compacted_at > 0 { log.compacted_at } else { node.started.0 / 1000 };
    let status = |failed: bool| if failed { "err" } else { "ok" };
    lines.field("loading", u8::from(node.loading.is_active()));
    lines.field("async_loading", 0);
    for name in ["current_cow_peak", "current_cow_size", "current_cow_size_age"] {
        lines.field(name, 0);
    }
    lines.field("current_fork_perc", "0.00");
    lines.field("current_save_keys_processed", 0);
    lines.field("current_save_keys_total", 0);
    let changes = figures.keyspace.writes.saturating_sub(log.writes_compacted);
    lines.field("rdb_changes_since_last_save", changes);
    lines.field("rdb_bgsave_in_progress", u8::from(log.compacting));
    lines.field("rdb_last_save_time", saved);
    lines.field("rdb_last_bgsave_status", status(log.compaction_failed));
    let last_seconds = log.compaction_seconds.map_or(-1, |seconds| seconds as i64);
    let current_seconds = match log.compacting {
        true => (figures.now.0.saturating_sub(log.compaction_began) / 1000) as i64,
        false => -1,
    };
    lines.field("rdb_last_bgsave_time_sec", last_seconds);
    lines.field("rdb_current_bgsave_time_sec", current_seconds);
    lines.field("rdb_last_cow_size", 0);
    lines.field("aof_enabled", u8::from(node.log.is_some()));
    lines.field("aof_rewrite_in_progress", u8::from(log.compacting));
    let scheduled = node.compaction_scheduled.load(Relaxed);
    lines.field("aof_rewrite_scheduled", u8::from(scheduled));
    lines.field("aof_last_rewrite_time_sec", last_seconds);
    lines.field("aof_current_rewrite_time_sec", current_seconds);
    lines.field("aof_last_bgrewrite_status", status(log.compaction_failed));
    lines.field("aof_last_write_status", status(failure.is_some()));
    lines.field("aof_last_cow_size", 0);
    if node.log.is_some() {
        lines.field("aof_current_size", log.frame_bytes + log.snapshot_bytes);
        lines.field("aof_base_size", log.base_bytes);
        lines.field("aof_pending_rewrite", 0);
        lines.field("aof_delayed_fsync", 0);
        lines.field("log_next_sequence", log.next_sequence);
        lines.field("log_synced_sequence", log.synced_sequence);
        lines.field("log_sync_last_usec", log.sync_last_us);
        lines.field("log_sync_longest_usec", log.sync_longest_us);
    }
    if node.loading.is_active() {
        let ((records, records_total), (bytes, bytes_total)) =
            (node.loading.records(), node.loading.bytes());
        lines.field("loading_start_time", node.started.0 / 1000);
        lines.field("loading_total_bytes", bytes_total);
        lines.field("loading_loaded_bytes", bytes);
        lines.field("loading_loaded_perc", format!("{:.2}", ratio(bytes, bytes_total) * 100.0));
        lines.field("loading_loaded_records", records);
        lines.field("loading_total_records", records_total);
    }
}

pub(super) fn stats(figures: &Figures<'_>, lines: &mut Lines) {
    let counters = &figures.node.counters;
    let (totals, rate) = (counters.totals(), counters.per_second());
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    let keyspace = &figures.keyspace;
    lines.field("total_connections_received", counters.connections.load(Relaxed));
    lines.field("total_commands_processed", totals.commands);
    lines.field("instantaneous_ops_per_sec", rate.commands);
    lines.field("total_net_input_bytes", totals.input_bytes);
    lines.field("total_net_output_bytes", totals.output_bytes);
    lines.field("total_net_repl_input_bytes", 0);
    lines.field("total_net_repl_output_bytes", 0);
    lines.field("instantaneous_input_kbps", kilobytes(rate.input_bytes));
    lines.field("instantaneous_output_kbps", kilobytes(rate.output_bytes));
    lines.field("rejected_connections", counters.rejected_connections.load(Relaxed));
    for name in ["sync_full", "sync_partial_ok", "sync_partial_err"] {
        lines.field(name, 0);
    }
    lines.field("expired_keys", keyspace.expired);
    lines.field("expired_stale_perc", "0.00");
    lines.field("expired_time_cap_reached_count", 0);
    lines.field("evicted_keys", keyspace.evicted);
    lines.field("evicted_clients", 0);
    lines.field("keyspace_hits", keyspace.hits);
    lines.field("keyspace_misses", keyspace.misses);
    for name in [
        "pubsub_channels",
        "pubsub_patterns",
        "latest_fork_usec",
        "total_forks",
        "migrate_cached_sockets",
        "slave_expires_tracked_keys",
        "active_defrag_hits",
        "active_defrag_misses",
        "tracking_total_keys",
        "tracking_total_items",
        "unexpected_error_replies",
    ] {
        lines.field(name, 0);
    }
    lines.field("total_error_replies", figures.errors.values().sum::<u64>());
    let closed = counters.output_limit_closed.load(Relaxed);
    lines.field("client_output_buffer_limit_disconnections", closed);
    let closed = counters.input_limit_closed.load(Relaxed);
    lines.field("client_query_buffer_limit_disconnections", closed);
}

pub(super) fn replication(figures: &Figures<'_>, lines: &mut Lines) {
    lines.field("role", "master");
    lines.field("connected_slaves", 0);
    lines.field("master_failover_state", "no-failover");
    lines.field("master_replid", &figures.node.run_id);
    lines.field("master_replid2", "0".repeat(40));
    lines.field("master_repl_offset", 0);
    lines.field("second_repl_offset", -1);
    lines.field("repl_backlog_active", 0);
    lines.field("repl_backlog_size", 1_048_576);
    lines.field("repl_backlog_first_byte_offset", 0);
    lines.field("repl_backlog_histlen", 0);
}

pub(super) fn cpu(_: &Figures<'_>, lines: &mut Lines) {
    let times = process::cpu_times();
    lines.field("used_cpu_sys", format!("{:.6}", times.system));
    lines.field("used_cpu_user", format!("{:.6}", times.user));
    lines.field("used_cpu_sys_children", format!("{:.6}", times.system_children));
    lines.field("used_cpu_user_children", format!("{:.6}", times.user_children));
}

pub(super) fn command_stats(figures: &Figures<'_>, lines: &mut Lines) {
    for (index, stats) in figures.commands.iter().enumerate() {
        if stats.calls + stats.rejected == 0 {
            continue;
        }
        let micros = clock::duration_of(stats.raw_ticks).as_micros();
        let per_call = micros as f64 / stats.calls.max(1) as f64;
        lines.field(
            &format!("cmdstat_{}", TABLE.full_name(index as u16)),
            format_args!(
                "calls={},usec={micros},usec_per_call={per_call:.2},rejected_calls={},\
                 failed_calls={}",
                stats.calls, stats.rejected, stats.failed
            ),
        );
    }
}

pub(super) fn latency_stats(figures: &Figures<'_>, lines: &mut Lines) {
    for (index, stats) in figures.commands.iter().enumerate() {
        if stats.times.count() == 0 {
            continue;
        }
        let micros = |percent: f64| stats.times.percentile(percent).as_nanos() as f64 / 1000.0;
        let percentiles = figures.config.latency_percentiles.iter();
        let texts: Vec<String> =
            percentiles.map(|(percent, text)| format!("p{text}={:.3}", micros(percent))).collect();
        lines.field(
            &format!("latency_percentiles_usec_{}", TABLE.full_name(index as u16)),
            texts.join(","),
        );
    }
}

pub(super) fn error_stats(figures: &Figures<'_>, lines: &mut Lines) {
    for (code, count) in &figures.errors {
        lines.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

pub(super) fn cluster(figures: &Figures<'_>, lines: &mut Lines) {
    let cluster = &figures.node.cluster;
    let (view, standing) = (cluster.view(), cluster.standing());
    let leader = standing.as_ref().and_then(|standing| standing.leader);
    lines.field("cluster_enabled", u8::from(figures.access == Access::Direct));
    for (name, value) in summary(&view, leader) {
        lines.field(name, value);
    }
    lines.field("cluster_node_id", view.myself);
    lines.field("cluster_members", view.table.nodes.len());
    lines.field("cluster_is_leader", u8::from(leader == Some(view.myself)));
    lines.field("cluster_voters", standing.map_or(0, |standing| standing.voters.len()));
    lines.field("cluster_table_version", view.table.version);
    lines.field("cluster_leased", if view.is_leased() { "yes" } else { "no" });
    let Parts { served, receiving, giving } = parts(&view);
    lines.field("cluster_partitions_served", served);
    lines.field("cluster_partitions_receiving", receiving);
    lines.field("cluster_partitions_giving", giving);
    let [given, failed, bytes, frozen_max_us] = cluster.moves.read();
    lines.field("cluster_moves_done", given);
    lines.field("cluster_moves_failed", failed);
    lines.field("cluster_moved_bytes", bytes);
    lines.field("cluster_freeze_max_us", frozen_max_us);
}

pub(super) fn keyspace(figures: &Figures<'_>, lines: &mut Lines) {
    for (index, size) in figures.databases.iter().enumerate().filter(|(_, size)| size.keys > 0) {
        let DatabaseSize { keys, volatile, average_ttl_millis } = size;
        let value = format_args!("keys={keys},expires={volatile},avg_ttl={average_ttl_millis}");
        lines.field(&format!("db{index}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_shown_with_a_unit() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (1 << 30, "1.00G"), (1 << 50, "1024.00T")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
