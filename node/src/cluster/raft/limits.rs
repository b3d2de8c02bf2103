//! Every bound and time of consensus.

use std::time::Duration;

use distcache_recovery::limits::RAFT_ENTRY_BYTES_MAX;

use crate::cluster::table::limits::{ANNOUNCED_BYTES_MAX, SNAPSHOT_BYTES_MAX};

/// How often the leader shows that it is there; longer than the slowest round trip.
pub const HEARTBEAT: Duration = Duration::from_millis(150);

/// How long a follower waits for the leader before it stands for election, at least.
pub const ELECTION_MIN: Duration = Duration::from_millis(600);

/// The same at most; as long does it refuse its vote to others after it has heard of a leader.
pub const ELECTION_MAX: Duration = Duration::from_millis(1200);

const _: () = assert!(HEARTBEAT.as_millis() * 4 <= ELECTION_MIN.as_millis());
const _: () = assert!(ELECTION_MIN.as_millis() < ELECTION_MAX.as_millis());

/// How long the sending and installing of a snapshot may take.
pub const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// Entries of the table that are proposed together, and those that wait for it: more than a plan
/// and the moves that it began ever have at a time.
pub const BATCH_ENTRIES_MAX: usize = 256;

/// Bytes of an entry of the table.
pub const ENTRY_BYTES_MAX: usize = 2048;
const _: () = assert!(BATCH_ENTRIES_MAX * ENTRY_BYTES_MAX + 64 <= RAFT_ENTRY_BYTES_MAX);
// An announcement is five texts and some numbers.
const _: () = assert!(5 * (ANNOUNCED_BYTES_MAX + 3) + 128 <= ENTRY_BYTES_MAX);

/// Entries after which the table is written to a snapshot and the log before it is given up.
pub const SNAPSHOT_ENTRIES: u64 = 1000;

/// Entries that stay in the log behind a snapshot, for followers that are a little late.
pub const KEPT_ENTRIES: u64 = 1000;

/// Entries that are sent at once, at most.
pub const SENT_ENTRIES_MAX: u64 = 64;

/// Bytes of entries after which a reading of the log ends.
pub const READ_BYTES: usize = 1 << 20;

/// Entries at the log's end that are in memory, too.
pub const RECENT_ENTRIES: usize = 256;

/// Bytes that these have as they are stored, at most.
pub const RECENT_BYTES: usize = 1 << 20;

/// Changes and readings that wait for the disk before others wait for a place.
pub const DISK_QUEUE: usize = 256;

/// How often the log notes what it has on disk; a sync if there is something new.
pub const MARK_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of a message between nodes: a snapshot with its description, or entries read at once and
/// one more.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(MESSAGE_BYTES_MAX >= 2 * SNAPSHOT_BYTES_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX >= 2 * READ_BYTES + RAFT_ENTRY_BYTES_MAX);

/// Calls under way on one in-memory network; more are refused, as by a real one.
pub const MEMORY_CALLS_MAX: usize = 4096;
