//! What reading a log found: for the node's log lines and the inspector's `verify`.

use serde::Serialize;

use crate::error::Damage;
use crate::record::{Epoch, PartitionId, SequenceNumber, UnixMillis};

/// The result of reading a log from end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Committed snapshots.
    pub snapshots: u64,
    /// Their chunks.
    pub snapshot_chunks: u64,
    /// The records in them.
    pub snapshot_records: u64,
    /// Frames of records.
    pub frames: u64,
    /// The records in them.
    pub records: u64,
    /// Bytes of all records before compression.
    pub payload_bytes: u64,
    /// Bytes that intact frames and chunks take in the store.
    pub stored_bytes: u64,
    /// Records before this one were removed, being covered by snapshots.
    pub trimmed: SequenceNumber,
    /// The sequence of the next record.
    pub next: SequenceNumber,
    /// The durable mark: records before this one must be there.
    pub marked: Option<SequenceNumber>,
    /// Whether the log was closed in order.
    pub is_clean_shutdown: bool,
    /// When the first and the last frame were written.
    pub written: Option<(UnixMillis, UnixMillis)>,
    /// Gaps that an earlier repair or a full disk left and declared; first and one after last.
    pub declared_gaps: Vec<(SequenceNumber, SequenceNumber)>,
    /// What was left out although the log counts as intact, in words.
    pub warnings: Vec<String>,
    /// Damage of the log; a node does not start with any.
    pub damages: Vec<Damage>,
    /// Damage of the node's part in Raft, in words; a node does not start with any. Only a look at
    /// the whole directory finds it.
    pub raft_damages: Vec<String>,
}

impl VerifyReport {
    /// Returns whether a node would start with what was read.
    pub fn is_intact(&self) -> bool {
        self.damages.is_empty() && self.raft_damages.is_empty()
    }
}

/// How far a [`Replay`](crate::Replay) has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Records read, of snapshots and frames.
    pub records: u64,
    /// Records there are in all, as far as commits and sequence numbers tell.
    pub records_total: u64,
    /// Stored bytes read.
    pub bytes: u64,
}

impl Progress {
    /// Returns the part that is done, from 0 to 1.
    pub fn fraction(&self) -> f64 {
        if self.records_total == 0 {
            return 1.0;
        }
        (self.records as f64 / self.records_total as f64).min(1.0)
    }

    /// Returns the stored bytes in all, estimated from those read.
    pub fn bytes_total(&self) -> u64 {
        let fraction = self.fraction();
        if fraction == 0.0 { self.bytes } else { (self.bytes as f64 / fraction) as u64 }
    }
}

/// What a snapshot of one partition holds, for the inspector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotSummary {
    /// The partition.
    pub partition: PartitionId,
    /// Its records before this one are in the snapshot.
    pub cut: SequenceNumber,
    /// The partition's epoch when it was made, if it had come from another node; otherwise 0.
    pub epoch: Epoch,
    /// How many records it has.
    pub records: u64,
    /// When it was committed.
    pub written: UnixMillis,
}
