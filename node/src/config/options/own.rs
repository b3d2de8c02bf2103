//! Rows of the options that this node acts on.

use super::super::settings::{DebugCommand, EvictionPolicy, FsyncPolicy, LOG_LEVELS};
use super::super::value::{INT_MAX, Kind, Value};
use super::Change::{Fixed, Live, Protected, Steady};
use super::{OptionSpec, choice, integer, size};
use crate::cluster::table::Role;
use crate::keyspace::databases::DATABASES_MAX;

const MB: u64 = 1 << 20;

const ROLE_WORDS: &[&str] = &["data", "witness"];

/// A port of its own; `None` is the one that follows from `port`.
fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.integer::<i64>()).ok()
}

/// The options with an effect.
pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec::new(
        Steady,
        "bind",
        Kind::Addresses,
        "127.0.0.1",
        "Addresses to listen on. Several are separated by spaces or given as a list; `*` is all \
         of IPv4, `::*` all of IPv6, a leading `-` allows an address that the machine lacks. \
         Beyond loopback the node demands requirepass, or protected-mode no.",
    )
    .field(|c, v| c.bind = v.addresses()),
    OptionSpec::new(
        Steady,
        "port",
        integer(0, 65535, ""),
        "2050",
        "TCP port for clients. 0 takes any free port, which the file `port` of the data directory \
         tells, and the log at the level info. If the port is taken, the node does not start. (A \
         Kubernetes service named `distcache` sets DISTCACHE_PORT to a URL: turn \
         enableServiceLinks off there.)",
    )
    .field(|c, v| c.port = v.integer()),
    OptionSpec::new(
        Fixed,
        "direct-port",
        integer(-1, 65535, ""),
        "-1",
        "TCP port for clients that know the cluster's slots: redis-cli -c, and the cluster mode of \
         client libraries, which find it by themselves from any other node or port. -1 is port + 1 \
         (any free port if that is taken, if there is no such port, or if port is 0), 0 any free \
         port.",
    )
    .field(|c, v| c.direct_port = port(v)),
    OptionSpec::new(
        Fixed,
        "bus-port",
        integer(-1, 65535, ""),
        "-1",
        "TCP port for the other nodes of a cluster. -1 is port + 10000 (any free port if there is \
         no such port, if port is 0, or if that is taken and no seeds are given), 0 any free port.",
    )
    .field(|c, v| c.bus_port = port(v)),
    OptionSpec::new(
        Fixed,
        "http-port",
        integer(-1, 65535, ""),
        "-1",
        "TCP port for operators, with HTTP: /metrics for Prometheus, /health/live and \
         /health/ready for who starts and stops nodes. It asks for no password and tells neither \
         keys nor values. -1 is port + 2 (any free port if that is taken, if there is no such \
         port, or if port is 0), 0 switches it off.",
    )
    .field(|c, v| c.http_port = port(v)),
    OptionSpec::new(
        Fixed,
        "announce",
        Kind::Host,
        "",
        "Name or address under which clients and other nodes reach this one, where that is not the \
         address it listens on: in a container, behind a router. Empty: the first address of bind, \
         or, if that is all of them, the one that the client has connected to.",
    )
    .field(|c, v| c.announce = v.host()),
    OptionSpec::new(
        Fixed,
        "seeds",
        Kind::Seeds,
        "",
        "Nodes to look for when this one starts, as host[:bus-port], with commas or spaces between \
         them: the same list on every node, itself included. A seed without a port has this \
         node's bus-port. Empty: a cluster of one, which others may join.",
    )
    .field(|c, v| c.seeds = v.seeds()),
    OptionSpec::new(
        Fixed,
        "cluster-secret",
        Kind::Secret,
        "",
        "Secret by which the nodes of a cluster know each other; the same on all of them. Prefer \
         the environment or the file to the flag, which every user of the machine can read in the \
         process list. CONFIG GET does not show it.",
    )
    .hidden()
    .field(|c, v| c.cluster_secret = v.password()),
    OptionSpec::new(
        Fixed,
        "insecure-cluster",
        Kind::Flag,
        "no",
        "Lets other machines be nodes of the cluster without cluster-secret: then everybody who \
         reaches bus-port can read and change all data, and take the cluster apart.",
    )
    .field(|c, v| c.insecure_cluster = v.flag()),
    OptionSpec::new(
        Fixed,
        "role",
        choice(ROLE_WORDS),
        "data",
        "What the node is for: `data` owns keys, `witness` owns none and only votes, so that two \
         machines with data and a small third one survive the loss of any of them.",
    )
    .field(|c, v| c.role = v.choice(&[Role::Data, Role::Witness])),
    OptionSpec::new(
        Fixed,
        "replicas",
        integer(0, 0, "copies"),
        "0",
        "Copies of each key beside the first. This version keeps none: what a node had that is \
         lost with its disk is lost.",
    )
    .field(|c, v| c.replicas = v.integer()),
    OptionSpec::new(
        Live,
        "protected-mode",
        Kind::Flag,
        "yes",
        "Refuses to listen beyond loopback without a password. The flag --insecure turns it off: \
         then everybody who reaches the port reads and writes all data.",
    )
    .field(|c, v| c.protected_mode = v.flag()),
    OptionSpec::new(
        Live,
        "requirepass",
        Kind::Secret,
        "",
        "Password that clients send with AUTH. Empty: none is asked for. Prefer the environment \
         or the file to the flag, which every user of the machine can read in the process list.",
    )
    .field(|c, v| c.requirepass = v.password()),
    OptionSpec::new(
        Protected,
        "data-dir",
        Kind::Path,
        "./distcache-data",
        "Directory of the operation log and the snapshots; made if it is missing. One node at a \
         time uses it: a second one refuses to start.",
    )
    .redis(&["dir"])
    .field(|c, v| c.data_dir = v.text().into()),
    OptionSpec::new(
        Fixed,
        "shards",
        integer(0, 1024, "shards"),
        "0",
        "Shard actors, each on a thread of its own. 0 is one for each core, which is right nearly \
         always; more only add messages between threads.",
    )
    .field(|c, v| c.shards = v.integer()),
    OptionSpec::new(
        Fixed,
        "databases",
        integer(1, DATABASES_MAX as i64, "databases"),
        "16",
        "Databases that SELECT reaches. A smaller number than before hides data, it loses none: it \
         takes memory, expires, is evicted and moves between nodes as before, and only FLUSHALL \
         removes it.",
    )
    .field(|c, v| c.databases = v.integer()),
    OptionSpec::new(
        Steady,
        "oplog",
        Kind::Flag,
        "yes",
        "Writes every change to the operation log. Off, the node is a cache only: a restart \
         begins empty, and writes cost less.",
    )
    .redis(&["appendonly"])
    .field(|c, v| c.oplog = v.flag()),
    OptionSpec::new(
        Live,
        "fsync",
        choice(FsyncPolicy::WORDS),
        "everysec",
        "When changes reach the disk for good: `always` before the reply, `everysec` within about \
         a second, `no` when the system likes. What is not there yet is lost with the power.",
    )
    .redis(&["appendfsync"])
    .field(|c, v| c.fsync = v.choice(FsyncPolicy::ALL)),
    OptionSpec::new(
        Live,
        "auto-aof-rewrite-percentage",
        integer(0, INT_MAX, "percent"),
        "100",
        "Compacts the log once it outgrew the last snapshot by so many percent. 0: only when \
         BGREWRITEAOF asks for it. Low values write more, high ones take disk and start slower.",
    )
    .field(|c, v| c.auto_rewrite_percent = v.integer()),
    OptionSpec::new(
        Live,
        "auto-aof-rewrite-min-size",
        size(0),
        "64mb",
        "Leaves a log smaller than this uncompacted, whatever it grew by.",
    )
    .field(|c, v| c.auto_rewrite_size_min_bytes = v.size()),
    OptionSpec::new(
        Live,
        "shutdown-timeout",
        integer(0, INT_MAX, "seconds"),
        "10",
        "How long a stop takes at most. Clients may take half of that for what they have asked \
         for, then other nodes and consensus a quarter; the log has the rest, and one second at \
         least. Whatever is not done then is given up: the node says what is not on the disk, and \
         exits with 1.",
    )
    .field(|c, v| c.shutdown_timeout_s = v.integer()),
    OptionSpec::new(
        Live,
        "maxmemory",
        Kind::Size { min: 0, max: u64::MAX },
        "0",
        "Bytes of keys and values above which maxmemory-policy acts. 0 is no limit: then the \
         system's own limit ends the process. Leave a quarter of the machine for buffers.",
    )
    .field(|c, v| c.maxmemory_bytes = v.size()),
    OptionSpec::new(
        Live,
        "maxmemory-policy",
        choice(EvictionPolicy::WORDS),
        "noeviction",
        "What goes when maxmemory is reached. `noeviction` refuses writes; `allkeys-*` suit a \
         cache; `volatile-*` touch only keys with a time to live, and refuse when there are none.",
    )
    .field(|c, v| c.maxmemory_policy = v.choice(EvictionPolicy::ALL)),
    OptionSpec::new(
        Live,
        "maxmemory-samples",
        integer(1, INT_MAX, "keys"),
        "5",
        "Keys compared for one eviction. 10 is close to exact and costs more processor time.",
    )
    .field(|c, v| c.maxmemory_samples = v.integer()),
    OptionSpec::new(
        Live,
        "maxmemory-eviction-tenacity",
        integer(0, 100, ""),
        "10",
        "How long one command may evict. 0 favours latency, 100 evicts until there is room.",
    )
    .field(|c, v| c.maxmemory_eviction_tenacity = v.integer()),
    OptionSpec::new(
        Live,
        "lfu-log-factor",
        integer(0, INT_MAX, ""),
        "10",
        "How slowly the access counter of LFU saturates: at 10 after about a million accesses.",
    )
    .field(|c, v| c.lfu_log_factor = v.integer()),
    OptionSpec::new(
        Live,
        "lfu-decay-time",
        integer(0, INT_MAX, "minutes"),
        "1",
        "Minutes without access that take one from the counter of LFU. 0: never.",
    )
    .field(|c, v| c.lfu_decay_minutes = v.integer()),
    OptionSpec::new(
        Fixed,
        "disable-thp",
        Kind::Flag,
        "yes",
        "Keeps memory in pages of 4 KB. With huge pages of 2 MB a large node takes 1 to 5 % less \
         processor time, but a reply waits while one is cleared: 0.2 ms, and 6 to 9 ms in virtual \
         machines whose host takes free memory back.",
    )
    .field(|c, v| c.disable_thp = v.flag()),
    OptionSpec::new(
        Live,
        "maxclients",
        integer(1, u32::MAX as i64, "connections"),
        "10000",
        "Connections at a time; more are refused with an error. Each needs a file descriptor: the \
         node raises the system's soft limit by itself, and starts with fewer clients where the \
         hard limit (ulimit -Hn) does not allow so many.",
    )
    .field(|c, v| c.maxclients = v.integer()),
    OptionSpec::new(
        Live,
        "timeout",
        integer(0, INT_MAX, "seconds"),
        "0",
        "Closes a connection that was silent for so long. 0: never.",
    )
    .field(|c, v| c.timeout_s = v.integer()),
    OptionSpec::new(
        Live,
        "tcp-keepalive",
        integer(0, INT_MAX, "seconds"),
        "300",
        "Interval of TCP keep-alive, which finds dead peers and keeps routers awake. 0: none.",
    )
    .field(|c, v| c.tcp_keepalive_s = v.integer()),
    OptionSpec::new(
        Fixed,
        "tcp-backlog",
        integer(0, INT_MAX, "connections"),
        "511",
        "Connections that wait to be accepted; the system may cut it (net.core.somaxconn).",
    )
    .field(|c, v| c.tcp_backlog = v.integer()),
    OptionSpec::new(
        Live,
        "proto-max-bulk-len",
        size(MB),
        "512mb",
        "Largest argument of a command. Lower it to protect memory from a faulty client.",
    )
    .field(|c, v| c.proto_bulk_max_bytes = v.size()),
    OptionSpec::new(
        Live,
        "client-query-buffer-limit",
        size(MB),
        "1gb",
        "Unread input of one client above which it is disconnected.",
    )
    .field(|c, v| c.query_buffer_max_bytes = v.size()),
    OptionSpec::new(
        Live,
        "client-output-buffer-limit",
        Kind::OutputLimits,
        "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
        "Unread output above which a client is disconnected: class, hard limit, soft limit, \
         seconds over the soft limit. Classes left out keep their values; 0 is no limit. Requests \
         of a client that does not read its replies are left unread, so that about 1 MB and one \
         reply wait for it at most: limits above that are reached by long replies only.",
    )
    .field(|c, v| c.output_limits = v.output_limits()),
    OptionSpec::new(
        Live,
        "hz",
        Kind::Clamped { low: 1, high: 500 },
        "10",
        "Runs of background work in a second, such as expiry. More is more even, and costs \
         processor time of an idle node.",
    )
    .field(|c, v| c.hz = v.integer()),
    OptionSpec::new(
        Live,
        "active-expire-effort",
        integer(1, 10, ""),
        "1",
        "How much of its time the node looks for expired keys; 10 frees memory soonest.",
    )
    .field(|c, v| c.active_expire_effort = v.integer()),
    OptionSpec::new(
        Live,
        "slowlog-log-slower-than",
        integer(-1, i64::MAX, "microseconds"),
        "10000",
        "Keeps commands that took longer in SLOWLOG. 0 keeps all, -1 none.",
    )
    .field(|c, v| c.slowlog_slower_than_us = v.integer()),
    OptionSpec::new(
        Live,
        "slowlog-max-len",
        integer(0, i64::MAX, "entries"),
        "128",
        "Entries that SLOWLOG keeps; the oldest go first. They take memory.",
    )
    .field(|c, v| c.slowlog_len_max = v.integer()),
    OptionSpec::new(
        Live,
        "latency-monitor-threshold",
        integer(0, i64::MAX, "milliseconds"),
        "0",
        "Keeps events that took at least so long for LATENCY. 0: none.",
    )
    .field(|c, v| c.latency_threshold_ms = v.integer()),
    OptionSpec::new(
        Live,
        "latency-tracking",
        Kind::Flag,
        "yes",
        "Counts how long commands take, for INFO latencystats and LATENCY HISTOGRAM.",
    )
    .field(|c, v| c.latency_tracking = v.flag()),
    OptionSpec::new(
        Live,
        "latency-tracking-info-percentiles",
        Kind::Percentiles,
        "50 99 99.9",
        "Percentiles of those times that INFO latencystats has.",
    )
    .field(|c, v| c.latency_percentiles = v.percentiles()),
    OptionSpec::new(
        Live,
        "log-level",
        Kind::Choice {
            words: &["trace", "debug", "info", "warn", "error"],
            redis: &["debug", "verbose", "notice", "warning"],
        },
        "info",
        "How much the node says: `error` needs the operator, `warn` is degraded service, `info` \
         starts and stops, `debug` why single connections ended or were refused; `trace` adds \
         nothing in this version.",
    )
    .redis(&["loglevel"])
    .field(|c, v| c.log_level = v.choice(&LOG_LEVELS)),
    OptionSpec::new(
        Fixed,
        "enable-debug-command",
        choice(DebugCommand::WORDS),
        "no",
        "Who may use DEBUG: nobody, everybody, or `local` connections. It can stop the node.",
    )
    .field(|c, v| c.debug_command = v.choice(DebugCommand::ALL)),
];
