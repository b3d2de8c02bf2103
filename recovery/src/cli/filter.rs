//! Which records a user wants to see.

use clap::{Arg, ArgMatches, value_parser};
use distcache_protocol::glob;
use distcache_recovery::{Operation, PartitionId, Record, SequenceNumber, UnixMillis, limits};

use super::source::Located;
use super::time::Clock;

/// The names of operations, as [`distcache_recovery::Operation::name`] has them.
pub(super) const OPERATIONS: [&str; 12] = [
    "put",
    "delete",
    "expire",
    "evict",
    "set-deadline",
    "append",
    "write-range",
    "flush",
    "swap",
    "move-in",
    "own",
    "move-out",
];

/// The keys that a user wants to see.
#[derive(Debug)]
pub(super) struct KeyFilter {
    pattern: Option<Vec<u8>>,
    database: Option<u8>,
    partition: Option<PartitionId>,
}

/// The records that a user wants to see.
#[derive(Debug)]
pub(super) struct RecordFilter {
    keys: KeyFilter,
    operations: Vec<String>,
    since: Option<UnixMillis>,
    until: Option<UnixMillis>,
    from: SequenceNumber,
    to: SequenceNumber,
}

impl KeyFilter {
    /// Returns the options that a filter is made of.
    pub(super) fn options() -> [Arg; 3] {
        let option = |name: &'static str| Arg::new(name).long(name);
        [
            option("key")
                .value_name("PATTERN")
                .help("Only keys that match, as KEYS does: user:*, h?llo, [a-c]*")
                .value_parser(value_parser!(std::ffi::OsString)),
            option("db").value_name("N").help("Only this database").value_parser(value_parser!(u8)),
            option("partition")
                .value_name("N")
                .help("Only this partition, 0 to 1023")
                .value_parser(value_parser!(u16).range(..limits::PARTITIONS as i64)),
        ]
    }

    pub(super) fn new(matches: &ArgMatches) -> Self {
        let pattern = matches.get_one::<std::ffi::OsString>("key");
        Self {
            pattern: pattern.map(|pattern| pattern.as_encoded_bytes().to_vec()),
            database: matches.get_one("db").copied(),
            partition: matches.get_one("partition").copied().map(PartitionId),
        }
    }

    /// Returns whether what concerns a partition in all databases is wanted.
    fn takes_partition(&self, partition: PartitionId) -> bool {
        self.partition.is_none_or(|wanted| wanted == partition) && self.pattern.is_none()
    }

    /// Returns whether a key is wanted; what has no key is unless a pattern is asked for.
    pub(super) fn takes(&self, database: u8, partition: PartitionId, key: Option<&[u8]>) -> bool {
        self.database.is_none_or(|wanted| wanted == database)
            && self.partition.is_none_or(|wanted| wanted == partition)
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| key.is_some_and(|key| glob::matches(pattern, key)))
    }
}

impl RecordFilter {
    /// Returns the options that a filter is made of.
    pub(super) fn options() -> Vec<Arg> {
        let option = |name: &'static str| Arg::new(name).long(name);
        let time = |name| option(name).value_name("TIME").allow_hyphen_values(true);
        let sequence = |name| option(name).value_name("SEQ").value_parser(value_parser!(u64));
        let mut options = KeyFilter::options().to_vec();
        options.extend([
            option("op")
                .value_name("OPERATION")
                .help("Only these operations; several may be given, with commas between")
                .value_delimiter(',')
                .value_parser(OPERATIONS),
            time("since").help("Only what was written at this time or later"),
            time("until").help("Only what was written at this time or earlier"),
            sequence("from-seq").help("Only this record and later ones"),
            sequence("to-seq").help("Only this record and earlier ones"),
        ]);
        options
    }

    pub(super) fn new(matches: &ArgMatches, clock: &Clock) -> anyhow::Result<Self> {
        let time = |name| -> anyhow::Result<Option<UnixMillis>> {
            let text = matches.get_one::<String>(name);
            Ok(text.map(|text| clock.parse_time(text)).transpose()?)
        };
        let sequence = |name| matches.get_one::<u64>(name).copied();
        let operations = matches.get_many::<String>("op").unwrap_or_default();
        Ok(Self {
            keys: KeyFilter::new(matches),
            operations: operations.cloned().collect(),
            since: time("since")?,
            until: time("until")?,
            from: SequenceNumber(sequence("from-seq").unwrap_or(0)),
            to: SequenceNumber(sequence("to-seq").unwrap_or(u64::MAX)),
        })
    }

    /// Returns whether a record is wanted. Records of snapshots are parts of a state and have no
    /// number: what was asked about operations and numbers does not concern them.
    pub(super) fn takes(&self, located: &Located<'_>) -> bool {
        let Record { partition, database, operation } = located.record;
        let is_operation = located.sequence.is_none()
            || self.operations.is_empty()
            || self.operations.iter().any(|name| name == operation.name());
        let is_within = located.sequence.is_none_or(|at| self.from <= at && at <= self.to);
        is_operation
            && is_within
            && self.since.is_none_or(|since| located.written >= since)
            && self.until.is_none_or(|until| located.written <= until)
            && match operation {
                operation if operation.is_move() => self.keys.takes_partition(partition),
                Operation::Swap { other } => {
                    [database, other].iter().any(|&number| self.keys.takes(number, partition, None))
                }
                operation => self.keys.takes(database, partition, operation.key()),
            }
    }

    /// Returns whether no record from this one on can be wanted.
    pub(super) fn is_past(&self, first: SequenceNumber) -> bool {
        first > self.to
    }
}
