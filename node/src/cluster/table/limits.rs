//! Every bound of the table.

use distcache_protocol::slot::SLOTS;

use crate::keyspace::location::SLOTS_PER_PARTITION;

/// Partitions of a cluster: all slots, 16 to each.
pub const PARTITIONS: u16 = SLOTS / SLOTS_PER_PARTITION;

/// Members of a cluster, witnesses and those that are down included.
pub const NODES_MAX: usize = 256;

/// Copies of a partition that are in sync, the primary's included.
pub const ISR_MAX: usize = 8;

/// Bytes of an announced address (`host:port`; a DNS name has 253 at most), and of a zone's name.
pub const ANNOUNCED_BYTES_MAX: usize = 260;

/// Bytes of an encoded table: about 20 times what a cluster of 16 nodes needs.
pub const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024;

// A member is at most its five texts and some numbers, a partition its copies and a move.
const _: () = assert!(
    NODES_MAX * (5 * (ANNOUNCED_BYTES_MAX + 3) + 64) + PARTITIONS as usize * (ISR_MAX * 9 + 128)
        < SNAPSHOT_BYTES_MAX
);
