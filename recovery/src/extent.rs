//! What is in the log: the frames, gaps and snapshots that reader and writer agree on.

use std::collections::{BTreeMap, VecDeque};

use crate::frame_builder::PartitionSet;
use crate::limits::PARTITIONS;
use crate::record::{PartitionId, SequenceNumber};

/// What is in the log, as the reader found it and the writer keeps it.
#[derive(Debug)]
pub(crate) struct Extent {
    /// The sequence of the next record.
    pub(crate) next: SequenceNumber,
    /// Records before this one are removed, or will be as soon as `trim` gets to them.
    pub(crate) trimmed: SequenceNumber,
    /// The frames in the store, in order.
    pub(crate) frames: VecDeque<FrameSpan>,
    /// Their stored bytes.
    pub(crate) frame_bytes: u64,
    /// Declared gaps: first missing sequence and the one after the last.
    pub(crate) gaps: BTreeMap<SequenceNumber, SequenceNumber>,
    /// Each partition's snapshots.
    pub(crate) snapshots: Vec<PartitionSnapshots>,
    /// The first record of each partition that its snapshot does not cover.
    pub(crate) uncovered: Vec<Option<SequenceNumber>>,
    pub(crate) next_generation: u64,
}

/// One stored frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameSpan {
    pub(crate) first: SequenceNumber,
    pub(crate) count: u32,
    pub(crate) pieces: u32,
    pub(crate) stored_bytes: u64,
}

impl FrameSpan {
    pub(crate) fn end(&self) -> SequenceNumber {
        self.first.plus(self.count.into())
    }
}

/// The stored snapshots of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionSnapshots {
    /// The newest whole one.
    pub(crate) committed: Option<StoredSnapshot>,
    /// The one being written.
    pub(crate) writing: Option<StoredSnapshot>,
}

/// Where a snapshot's chunks are.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredSnapshot {
    pub(crate) generation: u64,
    /// How many pieces each chunk has.
    pub(crate) chunk_pieces: Vec<u32>,
    pub(crate) records: u64,
    pub(crate) stored_bytes: u64,
}

impl Extent {
    /// Returns the extent of an empty log.
    pub(crate) fn empty() -> Self {
        Self {
            next: SequenceNumber(0),
            trimmed: SequenceNumber(0),
            frames: VecDeque::new(),
            frame_bytes: 0,
            gaps: BTreeMap::new(),
            snapshots: vec![PartitionSnapshots::default(); PARTITIONS],
            uncovered: vec![None; PARTITIONS],
            next_generation: 1,
        }
    }

    /// Returns the snapshots of a partition.
    pub(crate) fn of(&mut self, partition: PartitionId) -> &mut PartitionSnapshots {
        &mut self.snapshots[usize::from(partition.0)]
    }

    /// Returns the first record that some partition's snapshot does not cover.
    pub(crate) fn trim_point(&self) -> SequenceNumber {
        self.uncovered.iter().flatten().min().copied().unwrap_or(self.next)
    }

    /// Returns the partitions that have a committed snapshot.
    pub(crate) fn covered(&self) -> PartitionSet {
        let mut covered = PartitionSet::default();
        for (id, snapshots) in (0..).zip(&self.snapshots) {
            if snapshots.committed.is_some() {
                covered.insert(PartitionId(id));
            }
        }
        covered
    }

    /// Counts all partitions as having records from `first` on; used where nobody knows which
    /// do. Partitions whose snapshot is newer keep their cut.
    pub(crate) fn uncover_all(&mut self, first: SequenceNumber) {
        for uncovered in &mut self.uncovered {
            *uncovered = Some(uncovered.map_or(first, |known| known.min(first)));
        }
    }
}
