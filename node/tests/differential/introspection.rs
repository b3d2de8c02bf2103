//! What a server says of itself: commands, connections, figures. Compared field by field, since
//! ours has fewer commands and a 7.2 client expects a few more fields than Redis 7.0 has.

use std::collections::BTreeMap;

use crate::compare::equal;
use crate::differences::Compare;
use crate::run::Pair;
use crate::support::server::Server;
use crate::support::text::show_tree;
use crate::support::wire::{Reply, Tree};

/// Fields of `INFO` that dashboards and alerts read, as `section field …`.
const MONITORED: &[&str] = &[
    "server redis_version redis_mode os arch_bits process_id run_id tcp_port uptime_in_seconds",
    "server uptime_in_days hz executable config_file multiplexing_api server_time_usec",
    "clients connected_clients maxclients blocked_clients tracking_clients cluster_connections",
    "clients client_recent_max_input_buffer client_recent_max_output_buffer",
    "memory used_memory used_memory_human used_memory_rss used_memory_peak used_memory_peak_human",
    "memory used_memory_overhead used_memory_startup used_memory_dataset used_memory_lua",
    "memory total_system_memory maxmemory maxmemory_human maxmemory_policy mem_allocator",
    "memory mem_fragmentation_ratio mem_fragmentation_bytes mem_clients_normal mem_aof_buffer",
    "memory allocator_active allocator_allocated allocator_resident lazyfree_pending_objects",
    "persistence loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time",
    "persistence rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec",
    "persistence aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled",
    "persistence aof_last_rewrite_time_sec aof_current_rewrite_time_sec",
    "persistence aof_last_bgrewrite_status aof_last_write_status",
    "stats total_connections_received total_commands_processed instantaneous_ops_per_sec",
    "stats total_net_input_bytes total_net_output_bytes instantaneous_input_kbps",
    "stats instantaneous_output_kbps rejected_connections expired_keys evicted_keys",
    "stats keyspace_hits keyspace_misses pubsub_channels pubsub_patterns latest_fork_usec",
    "stats total_error_replies sync_full sync_partial_ok sync_partial_err",
    "replication role connected_slaves master_replid master_repl_offset repl_backlog_active",
    "replication repl_backlog_size second_repl_offset master_failover_state",
    "cpu used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children",
    "cluster cluster_enabled",
];

impl Pair {
    /// The monitored fields are there, and figures are numbers where Redis has numbers.
    pub(crate) fn check_info(&self) {
        let mut wrong = Vec::new();
        for line in MONITORED {
            let mut words = line.split(' ');
            let section = words.next().unwrap();
            let [tested, reference] =
                [self.tested(), self.reference()].map(|server| fields(server, section));
            for field in words {
                let known = reference.get(field).unwrap_or_else(|| panic!("Redis has no {field}"));
                match tested.get(field) {
                    None => wrong.push(format!("{section}: {field} is missing")),
                    Some(value) if is_number(known) && !is_number(value) => {
                        wrong.push(format!("{section}: {field} is no number: {value}"));
                    }
                    Some(_) => {}
                }
            }
        }
        assert!(wrong.is_empty(), "INFO:\n{}", wrong.join("\n"));
    }

    /// `CLIENT LIST` has every field that Redis's has.
    pub(crate) fn check_client_fields(&self) {
        let [tested, reference] = [self.tested(), self.reference()].map(|server| {
            let text = text_of(&server.connect().call(&["CLIENT", "INFO"]));
            let names = text.split_whitespace().map(|pair| pair.split('=').next().unwrap());
            names.map(str::to_owned).collect::<Vec<_>>()
        });
        let missing: Vec<_> = reference.iter().filter(|name| !tested.contains(name)).collect();
        assert!(missing.is_empty(), "CLIENT INFO lacks {missing:?}");
    }

    /// Every command's row, documentation and key positions are Redis's own.
    pub(crate) fn check_command_table(&self) {
        let (mut tested, mut reference) = (self.tested().connect(), self.reference().connect());
        let Tree::Array(names) = tested.call(&["COMMAND", "LIST"]).tree else {
            panic!("COMMAND LIST is no array");
        };
        let mut wrong = Vec::new();
        for name in names.iter().map(text) {
            let [mine, other] =
                [&mut tested, &mut reference].map(|wire| wire.call(&["COMMAND", "INFO", &name]));
            // What Redis 7.0 does not know has nothing to be compared with.
            if matches!(&other.tree, Tree::Array(items) if items == &[Tree::Null]) {
                continue;
            }
            let [mine, other] = [mine, other].map(without_subcommands);
            if !equal(Compare::AnyOrder, &mine, &other) {
                let (mine, other) = (show_tree(&mine.tree), show_tree(&other.tree));
                wrong.push(format!("COMMAND INFO {name}\n  tested: {mine}\n  redis:  {other}"));
            }
            let [mine, other] = [&mut tested, &mut reference]
                .map(|wire| documentation(&wire.call(&["COMMAND", "DOCS", &name])));
            if mine != other {
                wrong.push(format!("COMMAND DOCS {name}\n  tested: {mine:?}\n  redis:  {other:?}"));
            }
        }
        assert!(names.len() > 50, "COMMAND LIST has only {} names", names.len());
        assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Returns the fields of a section of `INFO`.
fn fields(server: &Server, section: &str) -> BTreeMap<String, String> {
    let info = text_of(&server.connect().call(&["INFO", section]));
    let pairs = info.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Containers list their subcommands, of which ours has fewer: the last of a row's 10 parts.
fn without_subcommands(mut reply: Reply) -> Reply {
    if let Tree::Array(rows) = &mut reply.tree {
        for row in rows {
            if let Tree::Array(parts) = row {
                parts.truncate(9);
            }
        }
    }
    reply.raw = show_tree(&reply.tree).into_bytes();
    reply
}

/// Returns the version and group of one command's documentation. Its summary is prose, which
/// Redis 7.2 has written anew.
fn documentation(reply: &Reply) -> BTreeMap<String, String> {
    let Tree::Array(items) = &reply.tree else { panic!("COMMAND DOCS is no array") };
    let Some(Tree::Array(pairs)) = items.get(1) else { return BTreeMap::new() };
    let pairs = pairs.chunks(2).map(|pair| (text(&pair[0]), show_tree(&pair[1])));
    pairs.filter(|(name, _)| ["since", "group"].contains(&name.as_str())).collect()
}

fn text_of(reply: &Reply) -> String {
    text(&reply.tree)
}

fn text(tree: &Tree) -> String {
    match tree {
        Tree::Bulk(bytes) | Tree::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no text: {}", show_tree(other)),
    }
}

fn is_number(value: &str) -> bool {
    value.trim_end_matches(['M', 'G', 'K', 'B', '%']).parse::<f64>().is_ok()
}
