//! Rows of the options of Redis that clients and tools read or set, and that change nothing here.
//!
//! Ranges, words, defaults and error texts are those of Redis 7.0.15, so that a tool meets what it
//! knows. A row moves to `own.rs` when the node begins to act on it. Whoever gives one of them at a
//! start is warned; those that would protect something are refused (`settings.rs`).

use super::super::value::{INT_MAX, Kind};
use super::Change::{Fixed, Live, Protected, Steady};
use super::{OptionSpec, choice, integer, size};

const NONE: &str = "Accepted for tools made for Redis";
const FREE: &str = "Freeing is cheap here and always immediate";
const RDB: &str = "There are no RDB files: snapshots belong to the log";
const PACKED: &str = "For collections, which this version does not have";
const CLUSTER: &str = "The cluster sees to this by itself, or by options of its own";
const REPLICA: &str = "For replicas, which this version does not have";
const EVENTS: &str = "For channels, which this version does not have";
const PROCESS: &str = "The process is left to the service manager";
const SCRIPT: &str = "For scripts, which this version does not have";
const DEFRAG: &str = "The allocator has no need of it";

const fn flag(change: super::Change, name: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(change, name, Kind::Flag, default, NONE)
}

const fn text(change: super::Change, name: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(change, name, Kind::Text, default, NONE)
}

const fn number(name: &'static str, min: i64, max: i64, default: &'static str) -> OptionSpec {
    OptionSpec::new(Live, name, integer(min, max, ""), default, NONE)
}

const fn bytes(name: &'static str, default: &'static str) -> OptionSpec {
    OptionSpec::new(Live, name, size(0), default, NONE)
}

const fn word(
    name: &'static str,
    words: &'static [&'static str],
    default: &'static str,
) -> OptionSpec {
    OptionSpec::new(Live, name, choice(words), default, NONE)
}

impl OptionSpec {
    const fn why(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }
}

/// The options without effect.
pub(super) const ROWS: &[OptionSpec] = &[
    // Snapshots and append-only file.
    OptionSpec::new(Live, "save", Kind::SavePoints, "", RDB),
    text(Protected, "dbfilename", "dump.rdb").why(RDB),
    flag(Live, "rdbcompression", "yes").why(RDB),
    flag(Fixed, "rdbchecksum", "yes").why(RDB),
    flag(Live, "rdb-del-sync-files", "no").why(RDB),
    flag(Live, "rdb-save-incremental-fsync", "yes").why(RDB),
    flag(Live, "stop-writes-on-bgsave-error", "yes").why(RDB),
    word("sanitize-dump-payload", &["no", "yes", "clients"], "no"),
    text(Fixed, "appendfilename", "appendonly.aof"),
    text(Fixed, "appenddirname", "appendonlydir"),
    flag(Live, "no-appendfsync-on-rewrite", "no"),
    flag(Live, "aof-load-truncated", "yes"),
    flag(Live, "aof-use-rdb-preamble", "yes"),
    flag(Live, "aof-timestamp-enabled", "no"),
    flag(Live, "aof-rewrite-incremental-fsync", "yes"),
    // Memory.
    OptionSpec::new(Live, "maxmemory-clients", Kind::SizeOrPercent, "0", NONE),
    flag(Live, "lazyfree-lazy-eviction", "no").why(FREE),
    flag(Live, "lazyfree-lazy-expire", "no").why(FREE),
    flag(Live, "lazyfree-lazy-server-del", "no").why(FREE),
    flag(Live, "lazyfree-lazy-user-del", "no").why(FREE),
    flag(Live, "lazyfree-lazy-user-flush", "no").why(FREE),
    flag(Live, "activedefrag", "no").why(DEFRAG),
    OptionSpec::new(Live, "active-defrag-ignore-bytes", size(1), "100mb", DEFRAG),
    number("active-defrag-threshold-lower", 0, 1000, "10").why(DEFRAG),
    number("active-defrag-threshold-upper", 0, 1000, "100").why(DEFRAG),
    number("active-defrag-cycle-min", 1, 99, "1").why(DEFRAG),
    number("active-defrag-cycle-max", 1, 99, "25").why(DEFRAG),
    number("active-defrag-max-scan-fields", 1, i64::MAX, "1000").why(DEFRAG),
    flag(Live, "jemalloc-bg-thread", "yes").why(DEFRAG),
    flag(Live, "activerehashing", "yes"),
    flag(Live, "dynamic-hz", "yes"),
    word("oom-score-adj", &["no", "yes", "relative", "absolute"], "no").why(PROCESS),
    // Collections.
    number("hash-max-listpack-entries", 0, i64::MAX, "512")
        .redis(&["hash-max-ziplist-entries"])
        .why(PACKED),
    bytes("hash-max-listpack-value", "64").redis(&["hash-max-ziplist-value"]).why(PACKED),
    number("list-max-listpack-size", i32::MIN as i64, INT_MAX, "-2")
        .redis(&["list-max-ziplist-size"])
        .why(PACKED),
    number("list-compress-depth", 0, INT_MAX, "0").why(PACKED),
    number("set-max-intset-entries", 0, i64::MAX, "512").why(PACKED),
    number("zset-max-listpack-entries", 0, i64::MAX, "128")
        .redis(&["zset-max-ziplist-entries"])
        .why(PACKED),
    bytes("zset-max-listpack-value", "64").redis(&["zset-max-ziplist-value"]).why(PACKED),
    bytes("hll-sparse-max-bytes", "3000").why(PACKED),
    bytes("stream-node-max-bytes", "4096").why(PACKED),
    number("stream-node-max-entries", 0, i64::MAX, "100").why(PACKED),
    // Channels, scripts, access control.
    OptionSpec::new(Live, "notify-keyspace-events", Kind::Events, "", EVENTS),
    number("tracking-table-max-keys", 0, i64::MAX, "1000000").why(EVENTS),
    number("busy-reply-threshold", 0, i64::MAX, "5000").redis(&["lua-time-limit"]).why(SCRIPT),
    flag(Fixed, "enable-protected-configs", "no"),
    flag(Fixed, "enable-module-command", "no"),
    number("acllog-max-len", 0, i64::MAX, "128"),
    text(Fixed, "aclfile", ""),
    word("acl-pubsub-default", &["allchannels", "resetchannels"], "resetchannels").why(EVENTS),
    // Process.
    flag(Fixed, "daemonize", "no").why(PROCESS),
    text(Fixed, "supervised", "no").why(PROCESS),
    text(Fixed, "pidfile", "").why(PROCESS),
    text(Fixed, "logfile", "").why(PROCESS),
    flag(Fixed, "syslog-enabled", "no").why(PROCESS),
    text(Fixed, "syslog-ident", "redis").why(PROCESS),
    text(Fixed, "syslog-facility", "local0").why(PROCESS),
    flag(Fixed, "always-show-logo", "no").why(PROCESS),
    flag(Fixed, "set-proc-title", "yes").why(PROCESS),
    text(Live, "proc-title-template", "{title} {listen-addr} {server-mode}").why(PROCESS),
    flag(Live, "crash-log-enabled", "yes").why(PROCESS),
    flag(Live, "crash-memcheck-enabled", "yes").why(PROCESS),
    word("shutdown-on-sigint", SHUTDOWN_WORDS, "default").why(PROCESS),
    word("shutdown-on-sigterm", SHUTDOWN_WORDS, "default").why(PROCESS),
    OptionSpec::new(Fixed, "io-threads", integer(1, 128, ""), "1", "See shards"),
    flag(Fixed, "io-threads-do-reads", "no"),
    // Network.
    text(Fixed, "unixsocket", ""),
    text(Fixed, "unixsocketperm", "0"),
    OptionSpec::new(Fixed, "socket-mark-id", integer(0, u32::MAX as i64, ""), "0", NONE),
    text(Live, "bind-source-addr", "").why(REPLICA),
    OptionSpec::new(Steady, "tls-port", integer(0, 65535, ""), "0", "There is no TLS"),
    // Cluster.
    flag(Fixed, "cluster-enabled", "no").why(CLUSTER),
    text(Fixed, "cluster-config-file", "nodes.conf").why(CLUSTER),
    number("cluster-node-timeout", 0, i64::MAX, "15000").why(CLUSTER),
    flag(Live, "cluster-require-full-coverage", "yes").why(CLUSTER),
    flag(Live, "cluster-allow-reads-when-down", "no").why(CLUSTER),
    text(Live, "cluster-announce-ip", "").why(CLUSTER),
    number("cluster-announce-port", 0, 65535, "0").why(CLUSTER),
    number("cluster-announce-bus-port", 0, 65535, "0").why(CLUSTER),
    number("cluster-announce-tls-port", 0, 65535, "0").why(CLUSTER),
    text(Live, "cluster-announce-hostname", "").why(CLUSTER),
    OptionSpec::new(Fixed, "cluster-port", integer(0, 65535, ""), "0", CLUSTER),
    word("cluster-preferred-endpoint-type", &["ip", "hostname", "unknown-endpoint"], "ip")
        .why(CLUSTER),
    number("cluster-replica-validity-factor", 0, INT_MAX, "10")
        .redis(&["cluster-slave-validity-factor"])
        .why(CLUSTER),
    flag(Live, "cluster-replica-no-failover", "no")
        .redis(&["cluster-slave-no-failover"])
        .why(CLUSTER),
    number("cluster-migration-barrier", 0, INT_MAX, "1").why(CLUSTER),
    flag(Live, "cluster-allow-replica-migration", "yes").why(CLUSTER),
    flag(Live, "cluster-allow-pubsubshard-when-down", "yes").why(CLUSTER),
    // Replication.
    text(Fixed, "replicaof", "").redis(&["slaveof"]).why(REPLICA),
    OptionSpec::new(Live, "masterauth", Kind::Secret, "", REPLICA),
    text(Live, "masteruser", "").why(REPLICA),
    flag(Live, "replica-read-only", "yes").redis(&["slave-read-only"]).why(REPLICA),
    flag(Live, "replica-serve-stale-data", "yes").redis(&["slave-serve-stale-data"]).why(REPLICA),
    flag(Live, "replica-ignore-maxmemory", "yes").redis(&["slave-ignore-maxmemory"]).why(REPLICA),
    flag(Live, "replica-lazy-flush", "no").redis(&["slave-lazy-flush"]).why(REPLICA),
    flag(Live, "replica-announced", "yes").why(REPLICA),
    text(Live, "replica-announce-ip", "").redis(&["slave-announce-ip"]).why(REPLICA),
    number("replica-announce-port", 0, 65535, "0").redis(&["slave-announce-port"]).why(REPLICA),
    number("replica-priority", 0, INT_MAX, "100").redis(&["slave-priority"]).why(REPLICA),
    flag(Live, "repl-diskless-sync", "yes").why(REPLICA),
    number("repl-diskless-sync-delay", 0, INT_MAX, "5").why(REPLICA),
    word("repl-diskless-load", &["disabled", "on-empty-db", "swapdb"], "disabled").why(REPLICA),
    flag(Live, "repl-disable-tcp-nodelay", "no").why(REPLICA),
    OptionSpec::new(Live, "repl-backlog-size", size(1), "1mb", REPLICA),
    number("repl-backlog-ttl", 0, i64::MAX, "3600").why(REPLICA),
    number("repl-timeout", 1, INT_MAX, "60").why(REPLICA),
    number("repl-ping-replica-period", 1, INT_MAX, "10")
        .redis(&["repl-ping-slave-period"])
        .why(REPLICA),
    number("min-replicas-to-write", 0, INT_MAX, "0").redis(&["min-slaves-to-write"]).why(REPLICA),
    number("min-replicas-max-lag", 0, INT_MAX, "10").redis(&["min-slaves-max-lag"]).why(REPLICA),
];

const SHUTDOWN_WORDS: &[&str] = &["default", "save", "nosave", "now", "force"];
