//! What the log stores, as the rest of the node names it.

pub use distcache_recovery::{
    DeleteCause, Operation, PartitionId, Record, StoredValue, UnixMillis,
};
