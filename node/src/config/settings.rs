//! `Config`: the options as plain fields, valid together.

use std::path::PathBuf;

use log::LevelFilter;

use super::options;
use super::raw::{Problem, RawConfig};
use super::seeds::Seed;
use super::structured::{OutputLimits, Percentiles};
use super::value::{BindAddress, Secret, Value};
use crate::cluster::table::Role;

/// Valid configuration: every field in range, relations between fields checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; never empty.
    pub bind: Vec<BindAddress>,
    /// TCP port for clients; 0 is any free one.
    pub port: u16,
    /// TCP port for clients that know the slots, see [`Config::direct_port`].
    pub direct_port: Option<u16>,
    /// TCP port for other nodes, see [`Config::bus_port`].
    pub bus_port: Option<u16>,
    /// TCP port for operators, see [`Config::http_port`].
    pub http_port: Option<u16>,
    /// Under which name or address others reach the node, if that is said.
    pub announce: Option<String>,
    /// Nodes to look for at a start.
    pub seeds: Vec<Seed>,
    /// By what the nodes of a cluster know each other.
    pub cluster_secret: Option<Secret>,
    /// Whether other machines may be nodes without a secret.
    pub insecure_cluster: bool,
    /// What the node is for.
    pub role: Role,
    /// Copies of each key beside the first.
    pub replicas: u8,
    /// Whether listening beyond loopback needs a password.
    pub protected_mode: bool,
    /// The password of `AUTH`, if one is asked for.
    pub requirepass: Option<Secret>,
    /// Where log and snapshots are.
    pub data_dir: PathBuf,
    /// Shard actors; 0 is one for each core, see [`Config::shard_count`].
    pub shards: usize,
    /// How many databases `SELECT` reaches, 1 to 255.
    pub databases: u16,
    /// Whether changes are logged.
    pub oplog: bool,
    /// When logged changes are synced.
    pub fsync: FsyncPolicy,
    /// Growth of the log over the last snapshot at which it is compacted; 0 is never.
    pub auto_rewrite_percent: u32,
    /// Size below which the log is never compacted by itself.
    pub auto_rewrite_size_min_bytes: u64,
    /// How long a stop takes at most.
    pub shutdown_timeout_s: u32,
    /// Memory of data at which `maxmemory_policy` acts; 0 is no limit.
    pub maxmemory_bytes: u64,
    /// What goes when memory is full.
    pub maxmemory_policy: EvictionPolicy,
    /// Keys compared for one eviction.
    pub maxmemory_samples: u32,
    /// How long one command may evict, 0 to 100.
    pub maxmemory_eviction_tenacity: u8,
    /// How slowly LFU's counter saturates.
    pub lfu_log_factor: u32,
    /// Idle minutes that take one from LFU's counter; 0 is never.
    pub lfu_decay_minutes: u32,
    /// Whether memory comes in small pages only.
    pub disable_thp: bool,
    /// Connections at a time.
    pub maxclients: u32,
    /// Silence after which a connection is closed; 0 is never.
    pub timeout_s: u32,
    /// Interval of TCP keep-alive; 0 is none.
    pub tcp_keepalive_s: u32,
    /// Connections that wait to be accepted.
    pub tcp_backlog: u32,
    /// Largest argument of a command.
    pub proto_bulk_max_bytes: u64,
    /// Unread input at which a client is disconnected.
    pub query_buffer_max_bytes: u64,
    /// Unread output at which a client is disconnected.
    pub output_limits: OutputLimits,
    /// Background runs a second, 1 to 500.
    pub hz: u32,
    /// How hard expired keys are looked for, 1 to 10.
    pub active_expire_effort: u8,
    /// Duration over which a command enters the slow log; negative is never.
    pub slowlog_slower_than_us: i64,
    /// Entries of the slow log.
    pub slowlog_len_max: u64,
    /// Duration at which an event enters `LATENCY`; 0 is never.
    pub latency_threshold_ms: u64,
    /// Whether the times of commands are counted.
    pub latency_tracking: bool,
    /// Which percentiles of them are told.
    pub latency_percentiles: Percentiles,
    /// The least severe lines that are logged.
    pub log_level: LevelFilter,
    /// Who may use `DEBUG`.
    pub debug_command: DebugCommand,
}

/// The port `distance` behind another one; any free one where there is none, or where that one is
/// any free one.
fn beside(port: u16, distance: u16) -> u16 {
    if port == 0 { 0 } else { port.checked_add(distance).unwrap_or(0) }
}

/// When logged changes are synced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// At least once a second.
    EverySecond,
    /// Before the reply to the client.
    Always,
    /// When the operating system does it.
    No,
}

impl FsyncPolicy {
    /// What people write for them, in the order of [`FsyncPolicy::ALL`].
    pub const WORDS: &[&str] = &["everysec", "always", "no"];
    /// All of them.
    pub const ALL: &[Self] = &[Self::EverySecond, Self::Always, Self::No];
}

/// Which keys go when memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Of keys with a deadline, the least recently used.
    VolatileLru,
    /// Of keys with a deadline, the least frequently used.
    VolatileLfu,
    /// Of keys with a deadline, any.
    VolatileRandom,
    /// Of keys with a deadline, the one that expires first.
    VolatileTtl,
    /// The least recently used.
    AllKeysLru,
    /// The least frequently used.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// None: writes are refused.
    NoEviction,
}

impl EvictionPolicy {
    pub(super) const WORDS: &[&str] = &[
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ];
    pub(super) const ALL: &[Self] = &[
        Self::VolatileLru,
        Self::VolatileLfu,
        Self::VolatileRandom,
        Self::VolatileTtl,
        Self::AllKeysLru,
        Self::AllKeysLfu,
        Self::AllKeysRandom,
        Self::NoEviction,
    ];

    /// Returns the policy's name, as options and `INFO` spell it.
    pub fn name(self) -> &'static str {
        Self::WORDS[Self::ALL.iter().position(|policy| *policy == self).unwrap_or_default()]
    }
}

/// Who may use `DEBUG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugCommand {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Connections from the same machine.
    Local,
}

impl DebugCommand {
    pub(super) const WORDS: &[&str] = &["no", "yes", "local"];
    pub(super) const ALL: &[Self] = &[Self::No, Self::Yes, Self::Local];
}

/// Levels by position of the words of `log-level`.
pub(super) const LOG_LEVELS: [LevelFilter; 5] = [
    LevelFilter::Trace,
    LevelFilter::Debug,
    LevelFilter::Info,
    LevelFilter::Warn,
    LevelFilter::Error,
];

impl Default for Config {
    /// Returns the configuration when no source says anything.
    fn default() -> Self {
        Self::unchecked(&RawConfig::default())
    }
}

/// Options of Redis that keep strangers out there, and cannot here: nobody shall believe they do.
pub(super) const NO_PROTECTION: &[(&str, &str)] = &[
    (
        "tls-port",
        "this version has no TLS: leave the option out, and let only those reach the ports who \
         may read all that is sent",
    ),
    (
        "aclfile",
        "this version has no ACL users: leave the option out; requirepass is the only password",
    ),
];

fn missing_protection(raw: &RawConfig) -> impl Iterator<Item = Problem> {
    let is_given =
        |name: &str| options::find(name).is_some_and(|named| raw.text(named) != named.spec.default);
    let given = NO_PROTECTION.iter().filter(move |(name, _)| is_given(name));
    given.map(|(name, reason)| raw.problem(name, reason))
}

impl Config {
    /// Turns values into fields and checks how they relate.
    ///
    /// # Errors
    /// One [`Problem`] for each relation that is broken.
    pub fn new(raw: &RawConfig) -> Result<Self, Vec<Problem>> {
        let config = Self::unchecked(raw);
        let problems = config.broken_relations(raw);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Returns how many shard actors to start: `shards`, or one for each core.
    pub fn shard_count(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        }
    }

    /// Returns true when an address of `bind` is reached from other machines.
    pub fn listens_beyond_loopback(&self) -> bool {
        self.bind.iter().any(|address| !address.ip.is_loopback())
    }

    /// Returns the port for clients that know the slots, where that for all clients is `port`:
    /// the one behind it, unless an option says another. 0 is any free one.
    pub fn direct_port(&self, port: u16) -> u16 {
        self.direct_port.unwrap_or_else(|| beside(port, 1))
    }

    /// Returns the name or address under which others reach this node: `announce`, or the first
    /// address of `bind`. `None` where that is all of them.
    pub fn announced_host(&self) -> Option<String> {
        let first = self.bind.first().map(|bind| bind.ip).filter(|ip| !ip.is_unspecified());
        self.announce.clone().or_else(|| first.map(|ip| ip.to_string()))
    }

    /// Returns the port for other nodes, where that for all clients is `port`: 10000 behind it,
    /// unless an option says another. 0 is any free one.
    pub fn bus_port(&self, port: u16) -> u16 {
        self.bus_port.unwrap_or_else(|| beside(port, 10_000))
    }

    /// Returns the port for operators, where that for all clients is `port`: two behind it, unless
    /// an option says another. 0 is any free one; `None` is that there shall be none.
    pub fn http_port(&self, port: u16) -> Option<u16> {
        match self.http_port {
            None => Some(beside(port, 2)),
            Some(0) => None,
            Some(own) => Some(own),
        }
    }

    fn unchecked(raw: &RawConfig) -> Self {
        let mut config = Self::blank();
        for (spec, value) in raw.values() {
            if let Some(apply) = spec.apply {
                apply(&mut config, value);
            }
        }
        config
    }

    fn broken_relations(&self, raw: &RawConfig) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.protected_mode && self.requirepass.is_none() && self.listens_beyond_loopback() {
            problems.push(raw.problem(
                "bind",
                "an address beyond loopback needs requirepass, or --insecure (protected-mode no) \
                 to let everybody in",
            ));
        }
        self.check_cluster(raw, &mut problems);
        problems.extend(missing_protection(raw));
        if self.data_dir.as_os_str().is_empty() {
            problems.push(raw.problem("data-dir", "a directory is needed"));
        }
        problems
    }

    fn check_cluster(&self, raw: &RawConfig, problems: &mut Vec<Problem>) {
        let http = self.http_port(self.port).unwrap_or(0);
        let ports = [self.port, self.direct_port(self.port), self.bus_port(self.port), http];
        for (at, name) in [(1, "direct-port"), (2, "bus-port"), (3, "http-port")] {
            if ports[at] != 0 && ports[..at].contains(&ports[at]) {
                let reason = format!("another port of this node has the number {}", ports[at]);
                problems.push(raw.problem(name, &reason));
            }
        }
        if ports[2] == 0 && self.seeds.iter().any(|seed| seed.port.is_none()) {
            let reason = "a seed without a port needs a bus-port that is not just any free one";
            problems.push(raw.problem("seeds", reason));
        }
        let open = self.cluster_secret.is_none() && !self.insecure_cluster;
        if open && !self.seeds.is_empty() && self.listens_beyond_loopback() {
            problems.push(raw.problem(
                "cluster-secret",
                "a cluster beyond loopback needs one, the same on all nodes, or \
                 --insecure-cluster to let every machine be a node",
            ));
        }
    }

    /// All fields empty; the rows of the table fill every one of them (a test checks that).
    fn blank() -> Self {
        Self {
            bind: Vec::new(),
            port: 0,
            direct_port: None,
            bus_port: None,
            http_port: None,
            announce: None,
            seeds: Vec::new(),
            cluster_secret: None,
            insecure_cluster: false,
            role: Role::Data,
            replicas: 0,
            protected_mode: false,
            requirepass: None,
            data_dir: PathBuf::new(),
            shards: 0,
            databases: 0,
            oplog: false,
            fsync: FsyncPolicy::No,
            auto_rewrite_percent: 0,
            auto_rewrite_size_min_bytes: 0,
            shutdown_timeout_s: 0,
            maxmemory_bytes: 0,
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 0,
            maxmemory_eviction_tenacity: 0,
            lfu_log_factor: 0,
            lfu_decay_minutes: 0,
            disable_thp: false,
            maxclients: 0,
            timeout_s: 0,
            tcp_keepalive_s: 0,
            tcp_backlog: 0,
            proto_bulk_max_bytes: 0,
            query_buffer_max_bytes: 0,
            output_limits: OutputLimits::default(),
            hz: 0,
            active_expire_effort: 0,
            slowlog_slower_than_us: 0,
            slowlog_len_max: 0,
            latency_threshold_ms: 0,
            latency_tracking: false,
            latency_percentiles: Percentiles::default(),
            log_level: LevelFilter::Off,
            debug_command: DebugCommand::No,
        }
    }
}

/// What the rows of the table call to store a value; a row of another kind is a programming error
/// that the table's tests find, since they store every default and every bound.
impl Value {
    pub(super) fn flag(&self) -> bool {
        match self {
            Self::Flag(flag) => *flag,
            _ => mismatch("a flag", self),
        }
    }

    pub(super) fn integer<T: TryFrom<i64>>(&self) -> T {
        match self {
            Self::Integer(number) => {
                T::try_from(*number).unwrap_or_else(|_| mismatch("in the field's range", self))
            }
            _ => mismatch("an integer", self),
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Size(bytes) => *bytes,
            _ => mismatch("a size", self),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => mismatch("a text", self),
        }
    }

    pub(super) fn password(&self) -> Option<Secret> {
        match self {
            Self::Secret(secret) => Some(secret.clone()).filter(|s| !s.reveal().is_empty()),
            _ => mismatch("a secret", self),
        }
    }

    pub(super) fn choice<T: Copy>(&self, all: &[T]) -> T {
        match self {
            Self::Choice(position) => all[*position],
            _ => mismatch("a choice", self),
        }
    }

    pub(super) fn addresses(&self) -> Vec<BindAddress> {
        match self {
            Self::Addresses(list) => list.clone(),
            _ => mismatch("addresses", self),
        }
    }

    pub(super) fn host(&self) -> Option<String> {
        Some(self.text().to_owned()).filter(|host| !host.is_empty())
    }

    pub(super) fn seeds(&self) -> Vec<Seed> {
        match self {
            Self::Seeds(seeds) => seeds.clone(),
            _ => mismatch("seeds", self),
        }
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        match self {
            Self::Percentiles(percentiles) => percentiles.clone(),
            _ => mismatch("percentiles", self),
        }
    }

    pub(super) fn output_limits(&self) -> OutputLimits {
        match self {
            Self::OutputLimits(limits) => *limits,
            _ => mismatch("output limits", self),
        }
    }
}

fn mismatch(expected: &str, value: &Value) -> ! {
    panic!("a row of the option table stores {value:?} where its field is {expected}")
}
