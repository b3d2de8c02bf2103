//! What `COMMAND` says of commands beyond what follows from their rows: categories, tips, and
//! how keys are used. The words are Redis's.

/// How a command uses some of its keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySpec {
    /// Words such as `RO` and `access`.
    pub(super) flags: &'static str,
    /// A remark, or nothing.
    pub(super) notes: &'static str,
    /// Index of the first key.
    pub(super) first: i64,
    /// The last key, counted from the first; negative: from the end.
    pub(super) last: i64,
    /// Distance between keys.
    pub(super) step: i64,
}

/// What is said of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Full name: `config|set`.
    pub(super) name: &'static str,
    /// Categories that do not follow from the flags, without `@`.
    pub(super) categories: &'static str,
    /// Hints for clients and proxies.
    pub(super) tips: &'static str,
    /// Its keys.
    pub(super) keys: &'static [KeySpec],
}

/// Returns what is said of a command; nothing for one that has no entry.
pub(super) fn find(name: &str) -> Entry {
    match ENTRIES.binary_search_by(|entry| entry.name.cmp(name)) {
        Ok(at) => ENTRIES[at],
        Err(_) => entry("", "", "", &[]),
    }
}

const fn entry(
    name: &'static str,
    categories: &'static str,
    tips: &'static str,
    keys: &'static [KeySpec],
) -> Entry {
    Entry { name, categories, tips, keys }
}

const fn key(flags: &'static str, first: i64, last: i64, step: i64) -> KeySpec {
    KeySpec { flags, notes: "", first, last, step }
}

/// Sorted by name.
#[rustfmt::skip]
const ENTRIES: &[Entry] = &[
    entry("append", "string", "", &[key("RW insert", 1, 0, 1)]),
    entry("asking", "connection", "", &[]),
    entry("auth", "connection", "", &[]),
    entry("client|caching", "connection", "", &[]),
    entry("client|getname", "connection", "", &[]),
    entry("client|getredir", "connection", "", &[]),
    entry("client|help", "connection", "", &[]),
    entry("client|id", "connection", "", &[]),
    entry("client|info", "connection", "nondeterministic_output", &[]),
    entry("client|kill", "connection", "", &[]),
    entry("client|list", "connection", "nondeterministic_output", &[]),
    entry("client|no-evict", "connection", "", &[]),
    entry("client|no-touch", "connection", "", &[]),
    entry("client|pause", "connection", "", &[]),
    entry("client|reply", "connection", "", &[]),
    entry(
        "client|setinfo",
        "connection",
        "request_policy:all_nodes response_policy:all_succeeded",
        &[],
    ),
    entry("client|setname", "connection", "", &[]),
    entry("client|tracking", "connection", "", &[]),
    entry("client|trackinginfo", "connection", "", &[]),
    entry("client|unblock", "connection", "", &[]),
    entry("client|unpause", "connection", "", &[]),
    entry("cluster|count-failure-reports", "", "nondeterministic_output", &[]),
    entry("cluster|getkeysinslot", "", "nondeterministic_output", &[]),
    entry("cluster|info", "", "nondeterministic_output", &[]),
    entry("cluster|links", "", "nondeterministic_output", &[]),
    entry("cluster|myshardid", "", "nondeterministic_output", &[]),
    entry("cluster|nodes", "", "nondeterministic_output", &[]),
    entry("cluster|replicas", "", "nondeterministic_output", &[]),
    entry("cluster|shards", "", "nondeterministic_output", &[]),
    entry("cluster|slaves", "", "nondeterministic_output", &[]),
    entry(
        "cluster|slot-stats",
        "",
        "nondeterministic_output request_policy:all_shards",
        &[],
    ),
    entry("cluster|slots", "", "nondeterministic_output", &[]),
    entry("command", "connection", "nondeterministic_output_order", &[]),
    entry("command|count", "connection", "", &[]),
    entry("command|docs", "connection", "nondeterministic_output_order", &[]),
    entry("command|getkeys", "connection", "", &[]),
    entry("command|getkeysandflags", "connection", "", &[]),
    entry("command|help", "connection", "", &[]),
    entry("command|info", "connection", "nondeterministic_output_order", &[]),
    entry("command|list", "connection", "nondeterministic_output_order", &[]),
    entry("config|set", "", "request_policy:all_nodes response_policy:all_succeeded", &[]),
    entry("copy", "keyspace", "", &[key("RO access", 1, 0, 1), key("OW update", 2, 0, 1)]),
    entry("dbsize", "keyspace", "request_policy:all_shards response_policy:agg_sum", &[]),
    entry("decr", "string", "", &[key("RW access update", 1, 0, 1)]),
    entry("decrby", "string", "", &[key("RW access update", 1, 0, 1)]),
    entry("del", "keyspace", "request_policy:multi_shard response_policy:agg_sum", &[
        key("RM delete", 1, -1, 1),
    ]),
    entry("dump", "keyspace", "nondeterministic_output", &[key("RO access", 1, 0, 1)]),
    entry("echo", "connection", "", &[]),
    entry("exists", "keyspace", "request_policy:multi_shard response_policy:agg_sum", &[
        key("RO", 1, -1, 1),
    ]),
    entry("expire", "keyspace", "", &[key("RW update", 1, 0, 1)]),
    entry("expireat", "keyspace", "", &[key("RW update", 1, 0, 1)]),
    entry("expiretime", "keyspace", "", &[key("RO access", 1, 0, 1)]),
    entry(
        "flushall",
        "dangerous keyspace",
        "request_policy:all_shards response_policy:all_succeeded",
        &[],
    ),
    entry(
        "flushdb",
        "dangerous keyspace",
        "request_policy:all_shards response_policy:all_succeeded",
        &[],
    ),
    entry(
        "function|delete",
        "scripting",
        "request_policy:all_shards response_policy:all_succeeded",
        &[],
    ),
    entry("function|dump", "scripting", "", &[]),
    entry(
        "function|flush",
        "scripting",
        "request_policy:all_shards response_policy:all_succeeded",
        &[],
    ),
    entry("function|help", "scripting", "", &[]),
    entry(
        "function|kill",
        "scripting",
        "request_policy:all_shards response_policy:one_succeeded",
        &[],
    ),
    entry("function|list", "scripting", "nondeterministic_output_order", &[]),
    entry(
        "function|load",
        "scripting",
        "request_policy:all_shards response_policy:all_succeeded",
        &[],
    ),
    entry(
        "function|restore",
        "scripting",
        "request_policy:all_shards response_policy:all_succeeded",
        &[],
    ),
    entry(
        "function|stats",
        "scripting",
        "nondeterministic_output request_policy:all_shards response_policy:special",
        &[],
    ),
    entry("get", "string", "", &[key("RO access", 1, 0, 1)]),
    entry("getdel", "string", "", &[key("RW access delete", 1, 0, 1)]),
    entry("getex", "string", "", &[
        KeySpec {
        notes: "RW and UPDATE because it changes the TTL",
        ..key("RW access update", 1, 0, 1)
    },
    ]),
    entry("getrange", "string", "", &[key("RO access", 1, 0, 1)]),
    entry("getset", "string", "", &[key("RW access update", 1, 0, 1)]),
    entry("hello", "connection", "", &[]),
    entry("incr", "string", "", &[key("RW access update", 1, 0, 1)]),
    entry("incrby", "string", "", &[key("RW access update", 1, 0, 1)]),
    entry("incrbyfloat", "string", "", &[key("RW access update", 1, 0, 1)]),
    entry(
        "info",
        "dangerous",
        "nondeterministic_output request_policy:all_shards response_policy:special",
        &[],
    ),
    entry(
        "keys",
        "dangerous keyspace",
        "request_policy:all_shards nondeterministic_output_order",
        &[],
    ),
    entry("lastsave", "admin dangerous", "nondeterministic_output", &[]),
    entry(
        "latency|doctor",
        "",
        "nondeterministic_output request_policy:all_nodes response_policy:special",
        &[],
    ),
    entry(
        "latency|graph",
        "",
        "nondeterministic_output request_policy:all_nodes response_policy:special",
        &[],
    ),
    entry(
        "latency|histogram",
        "",
        "nondeterministic_output request_policy:all_nodes response_policy:special",
        &[],
    ),
    entry(
        "latency|history",
        "",
        "nondeterministic_output request_policy:all_nodes response_policy:special",
        &[],
    ),
    entry(
        "latency|latest",
        "",
        "nondeterministic_output request_policy:all_nodes response_policy:special",
        &[],
    ),
    entry("latency|reset", "", "request_policy:all_nodes response_policy:all_succeeded", &[]),
    entry("lcs", "string", "", &[key("RO access", 1, 1, 1)]),
    entry(
        "memory|doctor",
        "",
        "nondeterministic_output request_policy:all_shards response_policy:special",
        &[],
    ),
    entry(
        "memory|malloc-stats",
        "",
        "nondeterministic_output request_policy:all_shards response_policy:special",
        &[],
    ),
    entry("memory|purge", "", "request_policy:all_shards response_policy:all_succeeded", &[]),
    entry(
        "memory|stats",
        "",
        "nondeterministic_output request_policy:all_shards response_policy:special",
        &[],
    ),
    entry("memory|usage", "", "", &[key("RO", 2, 0, 1)]),
    entry("mget", "string", "request_policy:multi_shard", &[key("RO access", 1, -1, 1)]),
    entry("move", "keyspace", "", &[key("RW access update", 1, 0, 1)]),
    entry("mset", "string", "request_policy:multi_shard response_policy:all_succeeded", &[
        key("OW update", 1, -1, 2),
    ]),
    entry("msetnx", "string", "request_policy:multi_shard response_policy:agg_min", &[
        key("OW insert", 1, -1, 2),
    ]),
    entry("object|encoding", "keyspace", "nondeterministic_output", &[key("RO", 2, 0, 1)]),
    entry("object|freq", "keyspace", "nondeterministic_output", &[key("RO", 2, 0, 1)]),
    entry("object|help", "keyspace", "", &[]),
    entry("object|idletime", "keyspace", "nondeterministic_output", &[key("RO", 2, 0, 1)]),
    entry("object|refcount", "keyspace", "nondeterministic_output", &[key("RO", 2, 0, 1)]),
    entry("persist", "keyspace", "", &[key("RW update", 1, 0, 1)]),
    entry("pexpire", "keyspace", "", &[key("RW update", 1, 0, 1)]),
    entry("pexpireat", "keyspace", "", &[key("RW update", 1, 0, 1)]),
    entry("pexpiretime", "keyspace", "", &[key("RO access", 1, 0, 1)]),
    entry("ping", "connection", "request_policy:all_shards response_policy:all_succeeded", &[]),
    entry("psetex", "string", "", &[key("OW update", 1, 0, 1)]),
    entry("pttl", "keyspace", "nondeterministic_output", &[key("RO access", 1, 0, 1)]),
    entry("quit", "connection", "", &[]),
    entry("randomkey", "keyspace", "request_policy:all_shards nondeterministic_output", &[]),
    entry("readonly", "connection", "", &[]),
    entry("readwrite", "connection", "", &[]),
    entry("rename", "keyspace", "", &[key("RW access delete", 1, 0, 1), key("OW update", 2, 0, 1)]),
    entry("renamenx", "keyspace", "", &[
        key("RW access delete", 1, 0, 1),
        key("OW insert", 2, 0, 1),
    ]),
    entry("reset", "connection", "", &[]),
    entry("restore", "dangerous keyspace", "", &[key("OW update", 1, 0, 1)]),
    entry("role", "admin dangerous", "", &[]),
    entry("scan", "keyspace", "nondeterministic_output request_policy:special", &[]),
    entry("script|debug", "scripting", "", &[]),
    entry(
        "script|exists",
        "scripting",
        "request_policy:all_shards response_policy:agg_logical_and",
        &[],
    ),
    entry("script|flush", "scripting",
        "request_policy:all_nodes response_policy:all_succeeded", &[]),
    entry("script|help", "scripting", "", &[]),
    entry("script|kill", "scripting",
        "request_policy:all_shards response_policy:one_succeeded", &[]),
    entry("script|load", "scripting",
        "request_policy:all_nodes response_policy:all_succeeded", &[]),
    entry("select", "connection", "", &[]),
    entry("set", "string", "", &[
        KeySpec {
        notes: "RW and ACCESS due to the optional `GET` argument",
        ..key("RW access update variable_flags", 1, 0, 1)
    },
    ]),
    entry("setex", "string", "", &[key("OW update", 1, 0, 1)]),
    entry("setnx", "string", "", &[key("OW insert", 1, 0, 1)]),
    entry("setrange", "string", "", &[key("RW update", 1, 0, 1)]),
    entry("slowlog|get", "", "request_policy:all_nodes nondeterministic_output", &[]),
    entry(
        "slowlog|len",
        "",
        "request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
        &[],
    ),
    entry("slowlog|reset", "", "request_policy:all_nodes response_policy:all_succeeded", &[]),
    entry("strlen", "string", "", &[key("RO", 1, 0, 1)]),
    entry("substr", "string", "", &[key("RO access", 1, 0, 1)]),
    entry("swapdb", "dangerous keyspace", "", &[]),
    entry("time", "", "nondeterministic_output", &[]),
    entry("touch", "keyspace", "request_policy:multi_shard response_policy:agg_sum", &[
        key("RO", 1, -1, 1),
    ]),
    entry("ttl", "keyspace", "nondeterministic_output", &[key("RO access", 1, 0, 1)]),
    entry("type", "keyspace", "", &[key("RO", 1, 0, 1)]),
    entry("unlink", "keyspace", "request_policy:multi_shard response_policy:agg_sum", &[
        key("RM delete", 1, -1, 1),
    ]),
    entry("wait", "connection", "request_policy:all_shards response_policy:agg_min", &[]),
    entry("waitaof", "connection", "request_policy:all_shards response_policy:agg_min", &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Keys, TABLE};

    #[test]
    fn entries_are_sorted_so_that_they_are_found() {
        assert!(ENTRIES.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(find("get").keys[0].flags, "RO access");
        assert!(find("nosuch").keys.is_empty());
    }

    #[test]
    fn every_row_with_keys_says_how_it_uses_them() {
        for index in 0..TABLE.len() as u16 {
            let command = TABLE.at(index);
            let keys = find(TABLE.full_name(index)).keys;
            assert_eq!(
                matches!(command.spec.keys, Keys::None),
                keys.is_empty(),
                "{}",
                TABLE.full_name(index)
            );
        }
    }
}
