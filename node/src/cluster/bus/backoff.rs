//! Pauses between dials that fail.

use std::time::Duration;

use super::limits::{BACK_OFF_MAX, BACK_OFF_MIN};

/// How long to pause after failures in a row: doubling, and up to a quarter less by chance, so
/// that nodes which lost the same peer do not all come back at once.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
}

impl BackOff {
    /// Notes a failure; returns the pause. `random`: any bits.
    pub(super) fn failed(&mut self, random: u64) -> Duration {
        let pause = (BACK_OFF_MIN * (1 << self.failures.min(16))).min(BACK_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
        pause - pause / 4 * (random % 256) as u32 / 256
    }

    /// Notes that the peer answers.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_success() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.failed(0), BACK_OFF_MIN);
        assert_eq!(back_off.failed(0), BACK_OFF_MIN * 2);
        for random in 0..100 {
            let pause = back_off.failed(random * 37);
            assert!(pause <= BACK_OFF_MAX && pause >= BACK_OFF_MIN);
        }
        back_off.succeeded();
        assert_eq!(back_off.failed(256), BACK_OFF_MIN);
    }
}
