//! The records of this turn, on their way to the log and to a copy under way.

use distcache_recovery::{FrameBuilder, Record};

use super::copy::CopyCursor;

/// Collects the effects of commands until the shard hands them to the log.
#[derive(Default)]
pub struct Journal {
    enabled: bool,
    frame: FrameBuilder,
    /// The copy of a partition that is being made, if any: it must hear of changes to keys that
    /// it has passed.
    pub(super) copy: Option<CopyCursor>,
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
        self.tell_copy(slot, hash, record);
    }

    /// Tells only the copy: the record is in the log already.
    #[inline]
    pub(super) fn tell_copy(&mut self, slot: u16, hash: u64, record: &Record<'_>) {
        if let Some(copy) = &mut self.copy {
            copy.follow(slot, hash, record);
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
