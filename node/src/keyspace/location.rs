//! Which slot, partition and shard a key belongs to, and its hash within the slot.

use std::hash::BuildHasher;

use distcache_protocol::slot::SLOTS;

use crate::records::PartitionId;

/// Consecutive slots in a partition.
pub const SLOTS_PER_PARTITION: u16 = 16;

/// Returns the partition that a slot belongs to.
#[inline]
pub fn partition_of(slot: u16) -> PartitionId {
    PartitionId(slot / SLOTS_PER_PARTITION)
}

/// Which of the node's shards a keyspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardId {
    /// This shard, from 0.
    pub index: u16,
    /// All shards of the node.
    pub count: u16,
}

impl ShardId {
    /// Returns the index of the shard that owns a slot.
    #[inline]
    pub fn owner_of(slot: u16, count: u16) -> u16 {
        partition_of(slot).0 % count
    }

    /// Place of a slot among the slots of its shard.
    #[inline]
    pub(super) fn local(self, slot: u16) -> usize {
        if self.count == 1 {
            return slot as usize;
        }
        let partition = partition_of(slot).0 / self.count;
        (partition * SLOTS_PER_PARTITION + slot % SLOTS_PER_PARTITION) as usize
    }

    /// The slot at a place; the inverse of `local`.
    pub(super) fn slot_at(self, local: usize) -> u16 {
        let (partition, offset) =
            (local as u16 / SLOTS_PER_PARTITION, local as u16 % SLOTS_PER_PARTITION);
        (partition * self.count + self.index) * SLOTS_PER_PARTITION + offset
    }

    /// Number of slots of this shard.
    pub(super) fn slots(self) -> usize {
        let partitions = (SLOTS / SLOTS_PER_PARTITION) as usize;
        let own =
            (partitions + self.count as usize - 1 - self.index as usize) / self.count as usize;
        own * SLOTS_PER_PARTITION as usize
    }
}

/// Hashes keys with a seed that differs from process to process, so that nobody can choose keys
/// that collide. All shards of a node share it.
#[derive(Debug, Clone)]
pub struct KeyHasher {
    state: foldhash::fast::FixedState,
    /// The bits of a hash that are kept, so that tests have keys of equal hashes.
    #[cfg(test)]
    kept: u64,
}

impl KeyHasher {
    /// Returns the hasher of this seed.
    pub fn new(seed: u64) -> Self {
        KeyHasher {
            state: foldhash::fast::FixedState::with_seed(seed),
            #[cfg(test)]
            kept: u64::MAX,
        }
    }

    /// Returns a hasher whose hashes differ in some bits only.
    #[cfg(test)]
    pub(super) fn colliding(seed: u64, kept: u64) -> Self {
        KeyHasher { kept, ..KeyHasher::new(seed) }
    }

    /// A hash that hashers of other seeds most likely do not give.
    pub(super) fn fingerprint(&self) -> u64 {
        self.hash(b"fingerprint")
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        // The bytes alone, without the length that hashing a slice would add.
        let mut hasher = self.state.build_hasher();
        std::hash::Hasher::write(&mut hasher, key);
        let hash = std::hash::Hasher::finish(&hasher);
        #[cfg(test)]
        let hash = hash & self.kept;
        hash
    }
}
