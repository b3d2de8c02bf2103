//! The records of this turn, on their way to the log and to the copies under way.

use distcache_recovery::{FrameBuilder, Record};

use super::copy::Copies;

/// Collects the effects of commands until the shard hands them to the log.
#[derive(Default)]
pub struct Journal {
    enabled: bool,
    frame: FrameBuilder,
    /// The copies of partitions that are being made: they must hear of changes to keys that they
    /// have passed.
    pub(super) copies: Copies,
}

impl Journal {
    /// Switches the collecting on or off.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Adds the effect of a command on a key.
    #[inline]
    pub fn push(&mut self, slot: u16, hash: u64, record: &Record<'_>) {
        if self.enabled {
            self.frame.push(record);
        }
        self.copies.follow(slot, hash, record);
    }

    /// Adds a record about a whole partition, of which no copy needs to hear.
    pub fn note(&mut self, record: &Record<'_>) {
        if self.enabled {
            self.frame.push(record);
        }
    }

    /// Whether there is nothing to hand over.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.frame.is_empty()
    }

    /// Whether there is enough for a frame of the usual size.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.frame.is_full()
    }

    /// Bytes collected.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Takes what was collected, and goes on with an empty buffer.
    pub fn take(&mut self, empty: FrameBuilder) -> FrameBuilder {
        debug_assert!(empty.is_empty());
        std::mem::replace(&mut self.frame, empty)
    }
}
