//! The options of `SET`.

use std::time::Duration;

use redis::Cmd;

/// How to store a value. The default stores it whatever was there, without expiry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// When the key expires.
    pub expiry: Expiry,
    /// What must be there for the value to be stored.
    pub condition: Condition,
}

/// When a key that is being set expires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Never; a deadline that the key had is removed.
    #[default]
    Never,
    /// So long from now, in milliseconds rounded up; at least one.
    After(Duration),
    /// At the deadline that the key already has, if any.
    Keep,
}

/// What must be there for a value to be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key must not exist (`NX`).
    Absent,
    /// The key must exist (`XX`).
    Present,
}

impl SetOptions {
    /// Returns the options that store whatever was there, without expiry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the key expire after `ttl`, in milliseconds rounded up.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { expiry: Expiry::After(ttl), ..self }
    }

    /// Keeps the deadline that the key already has.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        Self { expiry: Expiry::Keep, ..self }
    }

    /// Stores only if the key does not exist.
    #[must_use]
    pub fn if_absent(self) -> Self {
        Self { condition: Condition::Absent, ..self }
    }

    /// Stores only if the key exists.
    #[must_use]
    pub fn if_present(self) -> Self {
        Self { condition: Condition::Present, ..self }
    }

    /// Adds the options to a `SET`.
    pub(super) fn add_to(self, command: &mut Cmd) {
        match self.condition {
            Condition::Always => {}
            Condition::Absent => drop(command.arg("NX")),
            Condition::Present => drop(command.arg("XX")),
        }
        match self.expiry {
            Expiry::Never => {}
            Expiry::After(ttl) => drop(command.arg("PX").arg(milliseconds(ttl))),
            Expiry::Keep => drop(command.arg("KEEPTTL")),
        }
    }
}

/// Returns a time to live as the server takes it: rounded up, at least one, at most what it
/// accepts as a deadline.
pub(super) fn milliseconds(ttl: Duration) -> u64 {
    /// Some 140 million years: added to the clock it must not overflow.
    const TTL_MS_MAX: u128 = (i64::MAX / 2) as u128;
    let rounded_up = ttl.as_nanos().div_ceil(1_000_000).clamp(1, TTL_MS_MAX);
    u64::try_from(rounded_up).expect("clamped to half of i64::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_rounded_up_and_bounded() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_nanos(1_000_001)), 2);
        assert_eq!(milliseconds(Duration::from_secs(2)), 2000);
        assert_eq!(milliseconds(Duration::MAX), i64::MAX as u64 / 2);
    }
}
